import json
import sys

import numpy as np
import pytest
from conftest import Convolved, DriftingDiscs

from bench import cli
from bench.checkpoint_card import CheckpointCard, write_card
from bench.evaluate import evaluate
from bench.store import Store
from bench.suite import chosen_suite
from bench.tables import build_table
from bench.trace import trace
from methods.registry import build_method
from metrics.errors import RecordError

SUITE = """
title = "Discs"
methods = ["copy-last-frame"]
[protocol]
dataset = "discs"
size = 32
samples = 3
metrics = ["psnr", "ssim"]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(suite, store, records) of a deterministic and a stochastic method."""
    folder = tmp_path_factory.mktemp("trace")
    (folder / "discs.toml").write_text(SUITE)
    suite, _ = chosen_suite(str(folder / "discs.toml"))
    methods = [build_method("copy-last-frame"), Convolved()]
    methods[1].card.weights["net"] = "a" * 64
    store = folder / "results" / "records"
    records = evaluate(methods, DriftingDiscs(clips=7), suite.protocol, Store(store))
    return suite, store, records


def test_a_cell_leads_to_its_rows(made):
    suite, store, records = made
    found = trace(suite, "Convolved", "SSIM, best of 3", store)
    rows = records[1].rows()
    best = rows.groupby(["clip", "sample"]).ssim.mean().groupby("clip").max()
    assert found.clips == pytest.approx(best.to_dict())
    assert found.cell.interval.value == pytest.approx(best.mean())
    assert found.cell.interval == build_table("T", records).rows[1].cells[2].interval
    assert found.arrays == ("frame/ssim",)
    assert found.how == "mean over 10 frames, best of 3 samples, mean over 7 clips; bootstrap-t over 3 sources"
    assert (found.path.parent / found.record.facts.arrays.file).is_file()


def test_the_text_says_everything_that_a_number_hangs_on(made):
    suite, store, records = made
    facts = records[1].facts
    text = trace(suite, "convolved", "psnr, mean of 3", store).text()
    for words in (
        "discs / Convolved / PSNR, mean of 3",
        "frame/psnr [7, 3, 10]",
        facts.arrays.sha256,
        facts.data.content_hash,
        facts.protocol_hash,
        facts.provenance.commits[0],
        facts.provenance.command,
        facts.provenance.packages["torch"],
        facts.provenance.hardware[0]["processor"],
        "net, sha256 " + "a" * 64,
        "lowest clips",
        facts.metrics["psnr"].convention,
        "at most 100 dB each",
    ):
        assert words in text, words


def test_the_json_is_the_whole_record_and_the_cell(made):
    suite, store, records = made
    content = json.loads(trace(suite, "copy-last-frame", "PSNR, best of 3", store).json())
    assert content["row"] == "Copy last frame"
    assert content["cell"]["value"] == pytest.approx(np.mean(list(content["rows"]["clips"].values())))
    assert content["cell"]["standard_error"] is None
    assert content["record"]["provenance"] == records[0].facts.model_dump(mode="json")["provenance"]
    assert content["record"]["path"].endswith("record.json")
    assert content["rows"]["arrays"] == {"frame/psnr": [7, 1, 10]}


def test_marks_of_a_printed_table_may_be_copied_along(made):
    suite, store, _ = made
    assert trace(suite, "**Convolved**", "PSNR,  best of 3 ↑", store).column.reduction == "best of 3"


def test_a_deterministic_method_alone_has_a_column_without_reduction(made):
    suite, store, _ = made
    assert trace(suite, "Copy last frame", "ssim", store).column.reduction == ""


def test_the_card_of_the_checkpoint_is_shown(made, tmp_path):
    suite, store, _ = made
    folder = store.parent / "checkpoints"
    folder.mkdir()
    card = CheckpointCard(
        file="net.safetensors", sha256="a" * 64, method="convolved", recipe="tiny", config={"width": 3},
        dataset="discs", data="b" * 64, steps=70, steps_before=0, batch_size=2, seconds=1.5, seed=4, precision="fp32",
        stored="float16", parameters=75, commit="c0ffee", command="bench train convolved", hardware={"device": "cpu"},
    )  # fmt: skip
    write_card(card, folder)
    found = trace(suite, "convolved", "ssim, mean of 3", store)
    assert found.trained == (card,)
    assert "bench train convolved" in found.text()
    assert found.content()["trained"][0]["config"] == {"width": 3}


def test_the_command_prints_text_or_json(made, monkeypatch, capsys):
    _, store, _ = made
    toml = str(store.parent.parent / "discs.toml")
    arguments = ["bench", "trace", toml, "Convolved", "psnr, best of 3", "--store", str(store)]
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", [*arguments, *more])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        assert not exit_.value.code
        out = capsys.readouterr().out
        assert (json.loads(out)["row"] if more else out.splitlines()[0].split(" / ")[1]) == "Convolved"


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        ("convolvd", "PSNR", "no row 'convolvd'; did you mean 'Convolved'.*There are: .*Copy last frame"),
        ("Convolved", "SIM, best of 3", "no column 'SIM, best of 3'; did you mean 'SSIM, best of 3'"),
        ("Convolved", "fvd", "no column 'fvd'; .*There are: PSNR, best of 3; PSNR, mean of 3; SSIM, best of 3"),
    ],
)
def test_a_wrong_name_gets_near_matches(made, row, column, message):
    suite, store, _ = made
    with pytest.raises(RecordError, match=message):
        trace(suite, row, column, store)


def test_no_record_of_the_suite_says_what_to_run(made, tmp_path):
    suite, store, _ = made
    other = suite.model_copy(update={"protocol": suite.protocol.model_copy(update={"seed": 5})})
    with pytest.raises(RecordError, match=f"protocol {other.protocol.hash}.*bench evaluate discs"):
        trace(other, "Convolved", "PSNR", store)
    with pytest.raises(RecordError, match="no folder of records"):
        trace(suite, "Convolved", "PSNR", tmp_path / "none")


def test_a_row_of_two_records_asks_which(made, tmp_path):
    suite, _, _ = made
    for name in ("1", "2"):
        method = Convolved()
        object.__setattr__(method.card, "revision", name)
        evaluate([method], DriftingDiscs(clips=3), suite.protocol, Store(tmp_path))
    with pytest.raises(
        RecordError, match="2 records have the row 'Convolved'; give the folder of one of them: "
    ) as said:
        trace(suite, "Convolved", "PSNR, best of 3", tmp_path)
    folder = str(said.value).split(": ")[1].split(" ")[0]
    assert trace(suite, folder, "PSNR, best of 3", tmp_path).record.facts.method.revision == "1"
