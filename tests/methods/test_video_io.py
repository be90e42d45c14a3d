"""Decoding: what healthy files give, and what damaged or odd ones are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from methods.video_io import RATE_FILE, decode_video, is_lossless, video_frame_rate, video_frames
from metrics.errors import DataError

Write = Callable[..., Path]
Make = Callable[..., np.ndarray]


def error_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(video_frames(path))
    message = str(caught.value)
    assert message.startswith(str(path))
    return message


@pytest.mark.parametrize("size", [(48, 64), (47, 61)])
def test_a_lossless_file_gives_the_frames_that_went_in(
    tmp_path: Path, write_video: Write, moving_video: Make, size: tuple[int, int]
) -> None:
    video = moving_video(6, *size)
    path = write_video(tmp_path / "a.mkv", video)
    frames, rate = decode_video(path)
    np.testing.assert_array_equal(frames, video)
    assert rate == 25
    assert is_lossless(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi", ".webm", ".gif"])
def test_every_container_gives_all_frames_and_the_rate(
    tmp_path: Path, write_video: Write, moving_video: Make, suffix: str
) -> None:
    video = moving_video(30)
    path = write_video(tmp_path / f"a{suffix}", video, rate=20)
    frames, rate = decode_video(path)
    assert frames.shape == video.shape
    assert rate == pytest.approx(20)
    assert not is_lossless(path)
    assert np.abs(frames.astype(int) - video).mean() < 16  # gif keeps 256 fixed colours
    again, _ = decode_video(path)
    np.testing.assert_array_equal(frames, again)


def test_odd_sizes_decode(tmp_path: Path, write_video: Write, moving_video: Make) -> None:
    video = moving_video(5, 47, 61)
    frames, _ = decode_video(write_video(tmp_path / "a.avi", video, codec=("mjpeg", "yuvj444p")))
    assert frames.shape == video.shape
    assert np.abs(frames.astype(int) - video).mean() < 6


def test_grey_video_is_repeated_to_three_channels(tmp_path: Path, write_video: Write, moving_video: Make) -> None:
    video = np.repeat(moving_video(4)[..., :1], 3, axis=-1)
    frames, _ = decode_video(write_video(tmp_path / "a.mkv", video, codec=("ffv1", "gray")))
    np.testing.assert_array_equal(frames[..., 0], frames[..., 1])
    np.testing.assert_array_equal(frames[..., 0], frames[..., 2])
    assert np.abs(frames.astype(int) - video).max() <= 2


@pytest.mark.parametrize(("matrix", "kr", "kb"), [("smpte170m", 0.299, 0.114), ("bt709", 0.2126, 0.0722)])
def test_colours_follow_the_matrix_that_the_file_declares(tmp_path: Path, matrix: str, kr: float, kb: float) -> None:
    """A flat frame of known Y, Cb, Cr; the oracle is the definition of limited-range YCbCr."""
    import av

    y, cb, cr = 120, 90, 170
    path = tmp_path / "flat.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv444p"
        stream.codec_context.colorspace = {"smpte170m": 6, "bt709": 1}[matrix]
        planes = np.stack([np.full((32, 32), value, np.uint8) for value in (y, cb, cr)])
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv444p", channel_last=False)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    luma, blue, red = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    expected = np.clip(np.round(255 * np.array([r, g, b])), 0, 255)
    frames, _ = decode_video(path)
    assert np.abs(frames.astype(int) - expected).max() <= 2


def test_a_quarter_turn_in_the_metadata_is_applied(tmp_path: Path, write_video: Write, moving_video: Make) -> None:
    """The track matrix (a b; c d) = (0 1; -1 0) maps right to down: a quarter turn clockwise."""
    path = write_video(tmp_path / "a.mp4", moving_video(4))
    upright, _ = decode_video(path)
    rewrite_matrix(path, (0, 1, -1, 0))
    turned, _ = decode_video(path)
    np.testing.assert_array_equal(turned, np.rot90(upright, -1, axes=(1, 2)))
    rewrite_matrix(path, (0.8, 0.6, -0.6, 0.8))
    assert "rotation by" in error_of(path)


def rewrite_matrix(path: Path, matrix: tuple[float, float, float, float]) -> None:
    """Sets a, b, c, d of the display matrix in the track header (version 0) of an mp4 file."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[start + offset : start + offset + 4] = round(value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)


def test_a_trimmed_file_gives_what_its_edit_list_shows(tmp_path: Path, write_video: Write, moving_video: Make) -> None:
    """20 of 60 frames, from frame 25 on; the key frame that they need is stored, but not shown."""
    options = {"g": "10", "bf": "0"}
    path = write_video(
        tmp_path / "a.mp4", moving_video(60), options=options, container_options={"movflags": "faststart"}
    )
    whole, _ = decode_video(path)
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12  # duration in ms, first tick shown
    ticks = int.from_bytes(data[entry + 4 : entry + 8], "big") + 25 * 512
    data[entry : entry + 8] = (800).to_bytes(4, "big") + ticks.to_bytes(4, "big")
    path.write_bytes(data)
    shown, _ = decode_video(path)
    np.testing.assert_array_equal(shown, whole[25:45])
    path.write_bytes(data[: 2 * len(data) // 3])
    assert "cut short" in error_of(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", [".mp4", ".fast.mp4", ".mov", ".avi", ".mkv", ".webm", ".gif"])
def test_a_file_that_is_cut_short_is_refused(
    tmp_path: Path, write_video: Write, moving_video: Make, suffix: str, share: float
) -> None:
    options = {"movflags": "faststart"} if suffix == ".fast.mp4" else {}
    path = write_video(tmp_path / f"a{suffix}", moving_video(40), container_options=options)
    assert len(decode_video(path)[0]) == 40
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    message = error_of(path)
    assert "cut short" in message
    assert "again" in message


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_file_cut_between_two_frames_is_refused(
    tmp_path: Path, write_video: Write, moving_video: Make, suffix: str
) -> None:
    """Every frame left is whole; only the stated number of frames tells."""
    import av

    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    path = write_video(
        tmp_path / f"a{suffix}", moving_video(20), codec=("mjpeg", "yuvj444p"), container_options=options
    )
    with av.open(str(path)) as container:
        end = max(packet.pos + packet.size for packet in list(container.demux(video=0))[:15] if packet.size)
    path.write_bytes(path.read_bytes()[:end])
    assert "it states 20 frames and holds 15" in error_of(path)


def test_damage_that_the_decoder_would_gloss_over_is_refused(
    tmp_path: Path, write_video: Write, moving_video: Make
) -> None:
    """Zeros in the middle of a JPEG frame: left to itself, the decoder reports it to the log only."""
    import av

    path = write_video(tmp_path / "a.avi", moving_video(20, 64, 80), codec=("mjpeg", "yuvj444p"))
    with av.open(str(path)) as container:
        packet = next(packet for index, packet in enumerate(container.demux(video=0)) if index == 10)
        middle = packet.pos + packet.size // 2
    data = bytearray(path.read_bytes())
    data[middle : middle + 100] = bytes(100)
    path.write_bytes(data)
    assert "cannot be decoded beyond frame 1" in error_of(path)


def test_frames_that_the_decoder_marks_as_damaged_are_refused(
    tmp_path: Path, write_video: Write, moving_video: Make
) -> None:
    """Of many damaged files, the decoder gets through some, and marks frames; all of these are refused."""
    import av

    whole = write_video(tmp_path / "whole.avi", moving_video(30)).read_bytes()
    path, marked = tmp_path / "a.avi", 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        place = int(rng.integers(len(whole) // 3, len(whole) - 1500))
        path.write_bytes(whole[:place] + rng.bytes(20) + whole[place + 20 :])
        try:
            with av.open(str(path)) as container:
                container.streams.video[0].codec_context.options = {"err_detect": "explode"}
                damaged = any(frame.is_corrupt for frame in container.decode(video=0))
        except av.FFmpegError:
            continue
        if damaged:
            marked += 1
            assert "is damaged" in error_of(path)
    assert marked > 0


def test_damaged_content_is_refused(tmp_path: Path, write_video: Write, moving_video: Make) -> None:
    path = write_video(tmp_path / "a.mp4", moving_video(40), container_options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    middle = 2 * len(data) // 3
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    assert "damaged" in error_of(path)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    empty, text, missing = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "missing.mp4"
    empty.touch()
    text.write_text("not a video\n" * 50)
    assert "empty (0 bytes)" in error_of(empty)
    assert "no video" in error_of(text)
    assert "no such video" in error_of(missing)
    with pytest.raises(DataError, match="not a video that can be opened"):
        video_frame_rate(text)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
        container.mux(stream.encode())
    assert "no video stream" in error_of(path)


def test_frames_come_one_at_a_time(tmp_path: Path, write_video: Write, moving_video: Make) -> None:
    """The first frames of a damaged file are there before the damage is met."""
    path = write_video(tmp_path / "a.mkv", moving_video(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = video_frames(path)
    assert next(frames).shape == (48, 64, 3)
    with pytest.raises(DataError, match="cut short"):
        list(frames)


def test_a_frame_folder_states_its_rate_in_a_file(tmp_path: Path) -> None:
    assert video_frame_rate(tmp_path) is None
    (tmp_path / RATE_FILE).write_text("12.5\n")
    assert video_frame_rate(tmp_path) == 12.5
    (tmp_path / RATE_FILE).write_text("fast")
    with pytest.raises(DataError, match="expected one positive number"):
        video_frame_rate(tmp_path)
