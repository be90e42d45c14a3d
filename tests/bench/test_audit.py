import re
import sys
from decimal import Decimal

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bench import cli
from bench.audit import Entry, Published, audit, audit_text, judge, parse_published, run_audit
from bench.audit_videos import read_videos
from bench.verify.sanity import official_lpips
from metrics.conventions import CONVENTIONS
from metrics.errors import DataError, MethodError, RegistryError

FRAMES, SIDE = 9, 32


def fake_logits(video, resize="tf1", **_):
    """Twelve numbers of a video that depend on the resize rule, in place of the network."""
    shift = {"tf1": 0.0, "half_pixel": 0.1, "align_corners": 0.2}[resize]
    weights = torch.linspace(-1, 1, 12 * 300).reshape(300, 12)
    return torch.sin(video.flatten(1)[:, :300] + shift) @ weights


@pytest.fixture(autouse=True)
def quick_features(monkeypatch):
    monkeypatch.setattr("metrics.conventions_fvd.i3d_logits", fake_logits)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three predictions and their targets: .npz, PNG folder, lossless video; and the same as arrays."""
    import cv2

    root = tmp_path_factory.mktemp("audit")
    random = np.random.default_rng(0)
    target = random.integers(0, 256, (3, FRAMES, SIDE, SIDE, 3)).astype(np.uint8)
    target = np.stack([[cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in video] for video in target])
    pred = np.clip(target + random.normal(0, 20, target.shape), 0, 255).astype(np.uint8)
    for name, videos in (("pred", pred), ("target", target)):
        (root / name).mkdir()
        np.savez(root / name / "a.npz", video=videos[0])
        (root / name / "b").mkdir()
        for number, frame in enumerate(videos[1]):
            cv2.imwrite(str(root / name / "b" / f"{number}.png"), frame[..., ::-1])
        np.savez(root / name / "c.npz", video=videos[2].astype(np.float32) / 255)
    return root / "pred", root / "target", pred, target


@pytest.fixture(scope="module")
def videos(folders):
    return read_videos(*folders[:2])


@pytest.fixture(scope="module")
def rows(videos):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metrics.conventions_fvd.i3d_logits", fake_logits)
        return audit(videos)


def value(rows, metric, name):
    return next(row.value for row in rows if (row.metric, row.convention.name) == (metric, name))


def test_the_videos_are_those_of_the_files(folders, videos):
    assert videos.clip_ids == ("a", "b", "c")
    for found, wanted in ((videos.pred, folders[2]), (videos.target, folders[3])):
        assert torch.equal((found * 255).round().byte(), torch.from_numpy(wanted).movedim(-1, -3))


def test_every_convention_has_a_row(rows):
    assert [(row.metric, row.convention.name) for row in rows] == [(m, n) for m in CONVENTIONS for n in CONVENTIONS[m]]


def test_psnr_and_ssim_are_those_of_scikit_image(rows, folders):
    pairs = [(p / 255, t / 255) for p, t in zip(*(v.reshape(-1, SIDE, SIDE, 3) for v in folders[2:]), strict=True)]

    def mean(metric, **options):
        return np.mean([metric(t, p, data_range=1, **options) for p, t in pairs])

    def ssim(**options):
        return mean(structural_similarity, channel_axis=-1, **options)

    assert value(rows, "psnr", "frame") == pytest.approx(mean(peak_signal_noise_ratio), abs=1e-5)
    assert value(rows, "ssim", "uniform7") == pytest.approx(ssim(), abs=1e-6)
    assert value(rows, "ssim", "gauss_sample") == pytest.approx(ssim(gaussian_weights=True, sigma=1.5), abs=1e-6)
    wang = ssim(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert value(rows, "ssim", "wang") == pytest.approx(wang, abs=1e-6)
    pooled = peak_signal_noise_ratio(folders[3] / 255, folders[2] / 255, data_range=1)
    assert value(rows, "psnr", "set_pooled") == pytest.approx(pooled, abs=1e-5)


def test_lpips_is_that_of_its_package(rows, videos):
    expected = official_lpips("alex")(videos.pred.flatten(0, 1), videos.target.flatten(0, 1), normalize=True)
    assert value(rows, "lpips", "alex") == pytest.approx(float(expected.mean()), abs=1e-5)


def test_fvd_is_the_frechet_distance_of_the_features(rows, videos):
    from metrics.conventions_fvd import unit_range
    from metrics.frechet import frechet_distance

    features = [fake_logits(v) for v in (videos.pred, videos.target)]
    assert value(rows, "fvd", "tf") == pytest.approx(frechet_distance(*features))
    features = [fake_logits(v, "half_pixel") for v in (videos.pred, videos.target)]
    assert value(rows, "fvd", "half_pixel") == pytest.approx(frechet_distance(*features))
    features = [fake_logits(v) for v in unit_range(videos.pred, videos.target)]
    assert value(rows, "fvd", "unit_range") == pytest.approx(frechet_distance(*features))


def test_a_convention_that_cannot_take_the_videos_says_why(rows, videos):
    refused = {(row.metric, row.convention.name): row.refused for row in rows if row.value is None}
    assert set(refused) == {("psnr", "poking_batch16"), ("ssim", "poking_batch16"), ("fvd", "poking_976")}
    assert all("batches of 16 clips, found 3 clips" in why for why in refused.values())
    text = audit_text(videos, rows, [])
    assert re.search(r"\| psnr +\| poking_batch16 +\| +— \|", text)
    assert "poking_976: no value, poking_976 takes whole batches" in text


def test_the_table_says_who_uses_what_and_how_far_it_is_off(rows, videos):
    text = audit_text(videos, rows, [])
    [line] = [line for line in text.splitlines() if line.startswith("| ssim     | uniform7")]
    off = value(rows, "ssim", "uniform7") / value(rows, "ssim", "wang") - 1
    assert f"{value(rows, 'ssim', 'uniform7'):.5f}" in line
    assert f"{off:+.2%}" in line
    assert "Hao et al." in line
    assert f"N = 3 clips of {FRAMES} frames, {SIDE} x {SIDE} px" in text


# What a published number says


def entry(name, number, metric="fvd"):
    return Entry(metric, CONVENTIONS[metric][name], number)


@pytest.mark.parametrize(
    ("printed", "half"), [("241.5", "0.05"), ("241", "0.5"), ("0.0620", "0.00005"), ("2.4e2", "5"), ("-1.25", "0.005")]
)
def test_the_digits_say_the_rounding(printed, half):
    [found] = parse_published([f"fvd={printed}"])
    assert found.rounding == Decimal(half)


def test_conventions_within_half_a_unit_match():
    rows = [entry("tf", 241.52), entry("half_pixel", 241.449), entry("align_corners", 241.5499)]
    verdict = judge(Published("fvd", Decimal("241.5")), rows)
    assert [row.convention.name for row in verdict.matches] == ["tf", "align_corners"]
    assert "reproduced by tf (241.520) and align_corners (241.550); these digits" in verdict.sentence()


def test_half_a_unit_itself_is_within():
    rows = [entry("tf", 2.5), entry("half_pixel", 1.5), entry("unit_range", 2.5001)]
    assert judge(Published("fvd", Decimal("2")), rows).matches == tuple(rows[:2])


def test_none_is_the_nearest_and_by_how_much():
    rows = [entry("tf", 250.0), entry("half_pixel", 230.0), entry("unit_range", None)]
    verdict = judge(Published("fvd", Decimal("239")), rows)
    assert verdict.matches == ()
    assert verdict.nearest.convention.name == "half_pixel"
    assert "NOT reproduced; the nearest is half_pixel with 230.000, lower by 9 (3.77%)" in verdict.sentence()


def test_a_tolerance_widens_the_rounding_and_never_narrows_it():
    rows = [entry("tf", 250.0)]
    assert judge(Published("fvd", Decimal("245")), rows, 0.03).matches
    assert not judge(Published("fvd", Decimal("245")), rows, 0.02).matches
    assert judge(Published("fvd", Decimal("2.5e2")), [entry("tf", 254.0)], 1e-6).matches
    for wrong in (-0.1, float("nan")):
        with pytest.raises(DataError, match="--tolerance"):
            judge(Published("fvd", Decimal("245")), rows, wrong)


def test_no_value_at_all():
    verdict = judge(Published("fvd", Decimal("1")), [entry("tf", None)])
    assert "no convention has a value" in verdict.sentence()


def test_a_whole_audit_finds_the_convention(folders, rows):
    number = f"{value(rows, 'ssim', 'torchmetrics_reflect'):.6f}"
    said = run_audit(folders[0], folders[1], [f"ssim={number}"]).splitlines()[-1]
    assert said == f"ssim = {number} (within 0.0000005): reproduced by torchmetrics_reflect ({float(number):.5f})."


def test_a_faulty_number_is_refused_before_the_videos_are_read(tmp_path, monkeypatch, capsys):
    arguments = ["bench", "audit", str(tmp_path / "none"), str(tmp_path / "none"), "--published", "fvd"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 1
    assert capsys.readouterr().err.startswith("error: --published 'fvd': expected METRIC=VALUE")


def test_the_command_prints_the_table_and_the_verdict(folders, rows, monkeypatch, capsys):
    monkeypatch.setattr("bench.audit.audit", lambda videos, progress: rows)
    number = f"{value(rows, 'psnr', 'frame'):.1f}"
    arguments = ["bench", "audit", *map(str, folders[:2]), "--published", f"psnr={number}", "--tolerance", "0.001"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert not exit_.value.code
    out = capsys.readouterr().out
    assert out.startswith("| metric")
    assert f"psnr = {number} (within 0.05): reproduced by frame (" in out


@pytest.mark.parametrize(
    ("pair", "kind", "message"),
    [
        ("fvd", DataError, "expected METRIC=VALUE"),
        ("fvd=many", DataError, "expected METRIC=VALUE"),
        ("fvd=nan", DataError, "expected METRIC=VALUE"),
        ("fid=3", RegistryError, "no conventions for the metric 'fid'; there are: psnr, ssim, lpips, fvd"),
    ],
)
def test_a_faulty_number_is_one_clear_error(pair, kind, message):
    with pytest.raises(kind, match=message):
        parse_published([pair])


# What does not fit


@pytest.fixture
def pair(tmp_path):
    """Two folders with one video each, and a function that writes another."""

    def write(side, name, **options):
        shape = (options.get("frames", 4), options.get("height", 32), options.get("width", 32), 3)
        video = np.full((*options.get("samples", ()), *shape), 7, np.uint8)
        (tmp_path / side).mkdir(exist_ok=True)
        np.savez(tmp_path / side / f"{name}.npz", video=video)
        return tmp_path / "pred", tmp_path / "target"

    write("pred", "a")
    write("target", "a")
    return write


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([("pred", "b", {})], r"1 only in .*pred \(b\)"),
        ([("pred", "b", {}), ("target", "d", {})], r"1 only in .*pred \(b\), 1 only in .*target \(d\)"),
        ([("target", f"t{n}", {}) for n in range(7)], r"7 only in .*target \(t0, t1, t2, t3, t4 and 2 more\)"),
        ([("pred", "a", {"frames": 6})], r"pred holds videos of 6 frames, 32 x 32 px; .*of 4 frames.*without context"),
        ([("pred", "a", {"height": 16})], r"of 4 frames, 32 x 16 px; .*never resized"),
        (
            [("pred", "b", {"frames": 5}), ("target", "b", {"frames": 5})],
            r"b.npz: expected 4 frames of 32 x 32 px as in a.npz, found 5 frames",
        ),
        ([("pred", "a", {"samples": (3,)})], r"a.npz: expected one video .*, found 3 samples"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(pair, extra, message):
    for side, name, options in extra:
        folders = pair(side, name, **options)
    with pytest.raises(DataError, match=message):
        read_videos(*folders)


def test_one_sample_is_a_video(pair):
    assert read_videos(*pair("pred", "a", samples=(1,))).pred.shape == (1, 4, 3, 32, 32)


def test_a_missing_folder_is_one_clear_error(pair, tmp_path):
    with pytest.raises(MethodError, match="expected a folder"):
        read_videos(tmp_path / "none", tmp_path / "target")


def test_lossy_videos_are_noted(tmp_path, write_video, moving_video):
    video = moving_video(frames=9, height=32, width=32)
    for side in ("pred", "target"):
        write_video(tmp_path / side / "a.mp4", video)
    found = read_videos(tmp_path / "pred", tmp_path / "target")
    assert len(found.notes) == 2
    assert "1 of 1 entries are in a lossy format (a.mp4)" in found.notes[0]
