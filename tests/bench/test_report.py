"""The report as HTML: everything is in it, nothing outside of it, and what it shows is what was scored."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import DriftingDiscs
from PIL import Image
from report_pages import HOSTILE, make_page, write_method

from bench.heatmap.file import write_heatmaps
from bench.heatmap.maps import Heatmap
from bench.origin import record_folder
from bench.record import LoadedRecord
from bench.report.arrows import arrows
from bench.report.choose import choose_clips
from bench.report.collect import collect
from bench.report.heatmaps import heatmap_picture
from bench.report.media import sheet
from bench.report.numbers import chance, number
from bench.report.page import render, write_report
from bench.seed_spread import Spread
from bench.tables import clip_values
from bench.verdicts import set_replicates
from methods.interface import Clip, clip_generator
from metrics.errors import RecordError, ReportError
from metrics.fvd import BiasWarning, fvd_from_features
from metrics.jackknife import delete_group


class Parsed(HTMLParser):
    """Tags with their attributes, and the text of each kind of tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def named(self, tag: str, css: str = "") -> list[dict[str, str | None]]:
        return [a for name, a in self.tags if name == tag and (not css or css in (a.get("class") or "").split())]

    def origins(self):
        at = next(i for i, (tag, a) in enumerate(self.tags) if a.get("id") == "origins")
        order = [tag for tag, _ in self.tags[: at + 1] if tag == "script"]
        return json.loads([text for tag, text in self.texts if tag == "script"][len(order) - 1])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return make_page(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def parsed(page):
    return Parsed(page.html)


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def frames_of(one) -> np.ndarray:
    """The frames of a sheet, uint8 [T, H, W, 3]."""
    canvas = pixels(one.uri)
    side = canvas.shape[1] // one.columns
    places = [divmod(n, one.columns) for n in range(one.frames)]
    return np.stack([canvas[y * side : (y + 1) * side, x * side : (x + 1) * side] for y, x in places])


# What is on the page


def test_the_spread_over_seeds_is_shown_where_there_is_one(page):
    report = page.reports[0]
    assert "Spread over training seeds" not in page.html
    cells = [(2.0, 0.25)] * (len(report.table.columns) - 1) + [(float("nan"), float("nan"))]
    table = replace(report.table, spreads=(Spread("Mine <b>", 3, tuple(cells)),))
    texts = [text for tag, text in Parsed(render([replace(report, table=table)])).texts if tag in ("th", "td", "p")]
    assert any(text.startswith("Spread over training seeds") for text in texts)
    start = texts.index("Mine <b>")
    assert texts[start + 1] == "3"
    first = report.table.columns[0].metric
    assert texts[start + 2] == f"{number(first, 2.0)} ± {number(first, 0.25)}"
    assert texts[start + 1 + len(cells)] == "none"


def test_every_cell_of_every_table_is_there(page, parsed):
    keys = [button["data-cell"] for button in parsed.named("button", "cell")]
    expected = [
        f"{s}.{row}.{column}"
        for s, report in enumerate(page.reports)
        for row in range(len(report.table.rows))
        for column in range(len(report.table.columns))
    ]
    assert keys == expected
    shown = " ".join(text for _, text in parsed.texts)
    for report in page.reports:
        for row in report.table.rows:
            assert row.title in shown
            for column, cell in zip(report.table.columns, row.cells, strict=True):
                if not cell.refused:
                    assert number(column.metric, cell.interval.value) in shown
                    low, high = (number(column.metric, limit) for limit in (cell.interval.low, cell.interval.high))
                    assert f"[{low}, {high}]" in shown
        for note in report.table.notes:
            assert note in shown


def test_a_number_that_was_refused_says_why(page, parsed):
    cell = parsed.origins()["cells"]["1.0.0"]
    assert cell["title"] == "FVD: Copy last frame"
    assert cell["sections"][0]["lines"] == [["none", "needs 9 frames, the protocol has 6"]]
    assert "No letters for FVD; FVD, bias-corrected: fewer than two methods that compete have a value." in " ".join(
        t for _, t in parsed.texts
    )


def test_letters_of_the_table_are_those_of_the_tests(page, parsed):
    verdict = page.reports[0].verdicts[0]  # PSNR, best of 2
    assert set(verdict.letters) == {0, 2}  # row 1 saw the truth
    assert len(verdict.comparisons) == 1
    best = max((0, 2), key=lambda row: page.reports[0].table.rows[row].cells[0].interval.value)
    assert verdict.letters[best].startswith("a")
    letters = [text for tag, text in parsed.texts if tag == "sup"]
    assert len(letters) == sum(len(v.letters) for report in page.reports for v in report.verdicts)


def test_origins_hold_what_is_needed_to_measure_again(page, parsed):
    origins = parsed.origins()
    assert len(origins["cells"]) == sum(len(r.table.rows) * len(r.table.columns) for r in page.reports)
    cell = origins["cells"]["0.2.1"]
    record = page.reports[0].records[2]
    lines = [tuple(line) for section in cell["sections"] for line in section["lines"]]
    assert ("value", repr(page.reports[0].table.rows[2].cells[1].interval.value)) in lines
    assert any(label == "Copy last frame" and "after Holm's correction" in text for label, text in lines)
    shared = {tuple(line) for section in origins["records"][cell["record"]] for line in section["lines"]}
    folder = record_folder(record)
    assert (page.store / folder / "record.json").is_file()
    facts, made = record.facts, record.facts.provenance
    assert {
        ("record", folder.as_posix()),
        ("command", made.command),
        ("seed", "0"),
        ("hash", facts.protocol_hash),
        ("size", "32"),
        ("horizon", "10"),
        ("content", facts.data.content_hash),
        ("torch", made.packages["torch"]),
        ("processor", made.hardware[0]["processor"]),
        ("weights", f"w, sha256 {'0' * 64}"),
    } <= shared
    assert {"finished", "wall time", "commit", "poke"} <= {label for label, _ in shared}


def test_a_hostile_title_is_text(page, parsed):
    assert sum(HOSTILE in text for _, text in parsed.texts) >= 2  # row header and videos
    assert len(parsed.named("script")) == 2
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in parsed.named("img"))
    assert len(parsed.named("img")) == sum(len(clip.tiles) for r in page.reports for clip in r.clips)
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert parsed.origins()["cells"]["0.2.0"]["title"].endswith(HOSTILE)


def test_nothing_outside_the_file_is_named(page, parsed):
    assert not re.search(r"https?:|url\(|@import|\bfetch\(|XMLHttpRequest|import\(", page.html)
    for _, attributes in parsed.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#"))
        assert "style" not in attributes


class OfTwoRates(DriftingDiscs):
    """The clips of every second source were recorded faster."""

    def load(self, clip_id: str) -> Clip:
        return replace(super().load(clip_id), frame_rate=25.0 if int(clip_id[6:9]) % 2 else 12.5)


def test_a_rate_is_called_real_time_only_where_it_is_that_of_all_videos(page):
    def offered(reports):
        html = render(reports)
        return [text.strip() for tag, text in Parsed(html).texts if tag == "option" and "frames/s" in text]

    assert offered(page.reports[:1]) == [
        "10 frames/s, real time", "5 frames/s", "2 frames/s", "1 frames/s",
    ]  # fmt: skip
    data = OfTwoRates()
    mixed = collect(page.suites[0], data, page.store)
    assert {data.load(clip.clip_id).frame_rate for clip in mixed.clips} == {12.5, 25.0}
    assert offered([mixed])[:3] == ["25 frames/s", "12.5 frames/s", "5 frames/s"]
    both = offered([replace(mixed, name="mixed"), page.reports[1]])
    assert both[:4] == ["25 frames/s", "12.5 frames/s", "10 frames/s, real time (short)", "5 frames/s"]


def test_the_policy_admits_this_script_and_style_alone(page):
    policy = next(a["content"] for a in Parsed(page.html).named("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL)[-1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_size_and_its_limit(page, tmp_path):
    assert write_report(tmp_path / "new" / "report.html", page.html) == len(page.html.encode()) < 0.7e6
    assert (tmp_path / "new" / "report.html").read_text() == page.html
    with pytest.raises(ReportError, match=r"more than the limit of 0\.1 MB.*--clips-by.*--limit-mb"):
        write_report(tmp_path / "large.html", page.html, 0.1)
    assert not (tmp_path / "large.html").exists()


def test_a_suite_twice_or_none_is_refused(page):
    with pytest.raises(ReportError, match="none twice, found long, long"):
        render([page.reports[0], page.reports[0]])
    with pytest.raises(ReportError, match="at least one"):
        render([])


# The videos


def test_frames_are_those_that_were_scored(page):
    report, data = page.reports[0], page.data[0]
    assert report.sentences == ()
    for clip in report.clips:
        truth, copied, _, mine = clip.tiles
        frames = data.load(clip.clip_id).frames.permute(0, 2, 3, 1).numpy()
        assert np.array_equal(frames_of(truth.sheet), frames)  # context and target, bit for bit
        assert np.array_equal(frames_of(copied.sheet), np.repeat(frames[1:2], 10, 0))
        noise = torch.rand((2, 10, 3, 32, 32), generator=clip_generator(0, clip.clip_id))[0]
        x0 = torch.from_numpy(frames[1].copy()).permute(2, 0, 1) / 255
        expected = (255 * (0.7 * x0 + 0.2 * noise)).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        assert np.abs(frames_of(mine.sheet).astype(int) - expected).max() <= 1
        row = report.records[2].facts.clip_ids.index(clip.clip_id)
        assert mine.values["psnr"] == f"{clip_values(report.records[2], 'psnr')[row, 0]:.2f} dB"


def test_pokes_are_those_that_the_records_hold(page):
    report = page.reports[0]
    record = report.records[0]
    for clip in report.clips:
        row = record.facts.clip_ids.index(clip.clip_id)
        stored = [*record.arrays["poke/location"][row], *record.arrays["poke/displacement"][row]]
        assert clip.pokes == (pytest.approx(tuple(stored)),)
    assert all(clip.pokes == () for clip in page.reports[1].clips)


def test_best_median_and_worst_clips(page):
    report = page.reports[0]
    fair = [report.records[0], report.records[2]]  # the other one saw the truth
    means = np.mean([clip_values(record, "ssim").mean(1) for record in fair], axis=0)
    order = np.argsort(-means, kind="stable")
    expected = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    shown = {clip.roles["ssim"]: clip.clip_id for clip in report.clips if "ssim" in clip.roles}
    assert shown == {role: fair[0].facts.clip_ids[row] for role, row in expected.items()}
    assert report.metrics == ("psnr", "ssim")


def test_clips_without_a_value_are_not_ranked():
    def record(values):
        metric = SimpleNamespace(kind="clip", higher_is_better=False, unit="px")
        facts = SimpleNamespace(metrics={"m": metric})
        return SimpleNamespace(facts=facts, clip_values=lambda _: np.array(values)[:, None])

    found = choose_clips([record([1, 5, np.nan, 2]), record([1, 5, 0, 2.0])], ["m"])
    assert found == {0: {"m": "best"}, 3: {"m": "median"}, 1: {"m": "worst"}}
    assert choose_clips([record([np.nan, np.nan])], ["m"]) == {}
    assert choose_clips([record([3.0])], ["m"]) == {0: {"m": "best"}}


def test_clips_by_and_of(page):
    suite, data = page.suites[0], page.data[0]
    one = collect(suite, data, page.store, clips_by=["ssim"], clips_of="mine")
    record = one.records[2]
    assert one.metrics == ("ssim",)
    assert one.ranked_by == HOSTILE
    best = next(clip.clip_id for clip in one.clips if clip.roles["ssim"] == "best")
    assert best == record.facts.clip_ids[int(clip_values(record, "ssim").mean(1).argmax())]
    with pytest.raises(ReportError, match=r"'fvd'.*psnr, ssim"):
        collect(suite, data, page.store, clips_by=["fvd"])
    with pytest.raises(ReportError, match=r"'nobody'.*one of copy-last-frame"):
        collect(suite, data, page.store, clips_of="nobody")


def test_a_sheet_holds_frames_row_by_row():
    video = torch.rand(7, 3, 4, 4)
    found = sheet(video)
    assert (found.columns, found.frames) == (3, 7)
    assert np.array_equal(frames_of(found), (video * 255).round().byte().permute(0, 2, 3, 1).numpy())


def test_arrows_point_from_the_middle_of_the_poked_pixel():
    found = arrows([(10, 20, 8, 0), (3, 4, 0, 0)], 64)
    assert (found[0].x, found[0].y) == (10.5, 20.5)
    assert found[0].path.startswith("M10.50 20.50L18.50 20.50M")
    assert found[1].path == ""


# Methods that are gone, or have changed


def test_a_method_that_cannot_be_built_keeps_its_row(page):
    suite = page.suites[0].model_copy(update={"methods": ("copy-last-frame", "mine", "gone")})
    found = collect(suite, page.data[0], page.store)
    assert [row.title for row in found.table.rows] == ["Copy last frame", HOSTILE]
    assert {tile.title for clip in found.clips for tile in clip.tiles} == {"Ground truth", "Copy last frame"}
    assert found.sentences[0].startswith(f"There are no videos of {HOSTILE}: it cannot be built. unknown method 'mine'")
    assert found.sentences[1].startswith("gone is left out: it cannot be built, and no record bears its name.")
    assert "gone is left out" in render([found])


def test_a_method_that_cannot_be_prepared_has_no_videos(page, tmp_path):
    fault = 'from metrics.errors import WeightsError; raise WeightsError("its weights are missing")'
    suite = page.suites[0].model_copy(update={"methods": ("copy-last-frame", write_method(tmp_path, prepare=fault))})
    found = collect(suite, page.data[0], page.store)
    assert found.sentences == (f"There are no videos of {HOSTILE}: its weights are missing",)
    assert len(found.table.rows) == 2


def test_a_method_that_has_changed_is_found_out(page, tmp_path):
    suite = page.suites[0].model_copy(update={"methods": ("copy-last-frame", write_method(tmp_path, factor=0.5))})
    found = collect(suite, page.data[0], page.store)
    assert len(found.sentences) == 1
    assert "not quite those that were scored: predicted again, psnr differs by up to" in found.sentences[0]


def test_without_a_record_there_is_no_report(page, tmp_path):
    suite = page.suites[0].model_copy(update={"methods": ("copy-last-frame", "noisy-truth")})
    with pytest.raises(RecordError, match=r"noisy-truth has no record.*bench evaluate long"):
        collect(suite, page.data[0], page.store)


# Set metrics


def test_replicates_of_a_set_metric_give_the_standard_error_of_the_record(page):
    facts = page.reports[0].records[0].facts
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(20, 6, generator=generator)
    preds = [target + s * torch.randn(20, 6, generator=generator) for s in (0.3, 1.0)]
    records = {
        row: LoadedRecord(facts, {"features/i3d/pred": pred.numpy(), "features/i3d/target": target.numpy()})
        for row, pred in enumerate(preds)
    }
    found = set_replicates("fvd", records)
    for row, pred in enumerate(preds):
        with pytest.warns(BiasWarning):
            expected = fvd_from_features(pred, target, clusters=facts.sources)
        assert found.values[row] == pytest.approx(expected.value)
        jackknife = delete_group(found.values[row], found.deleted[row], found.sizes)
        assert jackknife.standard_error == pytest.approx(expected.standard_error)
    assert set_replicates("kvd", {0: LoadedRecord(facts, {})}) == "the records hold no features"


# Heatmaps


def heatmap_file(path):
    generator = torch.Generator().manual_seed(1)
    maps = {form: torch.rand(32, 32, generator=generator, dtype=torch.float64) for form in ("paper", "complex")}
    one = Heatmap(
        location=(8.0, 9.0),
        displacements=torch.ones(3, 2, dtype=torch.float64),
        maps=maps,
        variances={"paper": maps["paper"]},
        foreground=torch.ones(32, 32, dtype=torch.bool),
        mean_length=maps["paper"],
    )
    write_heatmaps(
        path, torch.rand(3, 32, 32, generator=generator), [one], {"method": "mine", "seed": 0, "weights": {}}
    )
    return path


def test_heatmaps_are_embedded(page, tmp_path):
    drawn = heatmap_picture(heatmap_file(tmp_path / "map-mine.npz"))
    assert pixels(drawn.uri).shape[:2] == (drawn.height, drawn.width)
    assert ("method", "mine") in drawn.facts
    Image.new("RGB", (30, 20)).save(tmp_path / "map.png")
    given = heatmap_picture(tmp_path / "map.png")
    assert base64.b64decode(given.uri.partition(",")[2]) == (tmp_path / "map.png").read_bytes()
    parsed = Parsed(render(page.reports, [drawn, given]))
    assert [image["alt"] for image in parsed.named("img")[-2:]] == ["Heatmap map-mine", "Heatmap map"]


@pytest.mark.parametrize("name", ["missing.png", "text.png", "short.png", "text.npz", "other.npz", "map.jpg"])
def test_what_is_not_a_heatmap_is_refused(tmp_path, name):
    path = tmp_path / name
    if name.startswith("text") or name == "map.jpg":
        path.write_text("not a picture")
    if name == "short.png":
        path.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    if name == "other.npz":
        np.savez(path, image=np.zeros(3))
    with pytest.raises(ReportError, match="heatmap"):
        heatmap_picture(path)


def test_numbers():
    assert (number("fvd", -0.04), number("ssim", float("nan")), number("psnr", -1.0)) == ("0.0", "not defined", "-1.00")
    assert (chance(0.00001), chance(0.0123), chance(0.456)) == ("< 0.0001", "0.012", "0.46")


# The command


def test_the_command_writes_a_report_from_records(page, tmp_path, monkeypatch, capsys):
    import sys

    from bench import cli

    videos = tmp_path / "videos"
    for source in range(3):
        (videos / f"v{source}").mkdir(parents=True)
        texture = np.random.default_rng(source).integers(0, 256, (12, 24, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        for t in range(24):
            Image.fromarray(texture[:40, t : t + 40]).save(videos / f"v{source}" / f"{t:03d}.png")
    fields = ("size=32", 'metrics=["psnr","ssim"]', "frame_rate=none")
    options = ["--data", str(videos), "--store", str(tmp_path / "store"), *[o for f in fields for o in ("--set", f)]]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        try:
            cli.main()
        except SystemExit as exit_:
            return exit_.code or 0, capsys.readouterr()
        return 0, capsys.readouterr()

    assert run("evaluate", "reference", *options)[0] == 0
    heatmap = heatmap_file(tmp_path / "map.npz")
    more = ["--out", str(tmp_path / "out.html"), "--heatmap", str(heatmap), "--clips-by", "ssim"]
    status, said = run("report", "reference", *options, *more)
    assert status == 0, said.err
    assert re.search(r"out\.html: \d\.\d\d MB; 1 suite, 3 clips with videos, 1 heatmap$", said.out.strip())
    parsed = Parsed((tmp_path / "out.html").read_text())
    assert len(parsed.named("button", "cell")) == 5 * 2
    shown = " ".join(text for _, text in parsed.texts)
    assert "No letters for PSNR; SSIM: 3 sources are too few to tell 3 methods apart." in shown
    status, said = run("report", "reference", *options, "--limit-mb", "0.1", "--out", str(tmp_path / "no.html"))
    assert status == 1
    assert "more than the limit" in said.err
