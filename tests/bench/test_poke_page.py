"""The poke page without a browser: what it serves, what it answers, what it refuses, and what it saves."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from poke_page_parts import SIZE, Shift, blocks
from torch import Tensor

from bench import cli
from bench.poke_page.answers import Shelf
from bench.poke_page.errors import PageError
from bench.poke_page.guard import Guard, is_loopback
from bench.poke_page.predictors import Predictor, build_predictors
from bench.poke_page.scenes import Scene, named_scenes
from bench.poke_page.server import PARTS, make_app, make_server, read_body, serve
from bench.poke_page.session import MOST_UPLOAD, Session, open_session
from methods.interface import Conditioning
from methods.video_io import decode_video
from metrics.errors import DataError, MethodError

CPU = torch.device("cpu")


class Nothing(Shift):
    """Returns NaN."""

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        return super().predict(conditioning, samples, seed) * torch.nan


def image_bytes(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@pytest.fixture
def methods() -> list[Shift]:
    return [Shift(), Shift("slow", stochastic=True), Nothing("nothing")]


@pytest.fixture
def session(methods: list[Shift]) -> Session:
    predictors = [Predictor(method.card.name, method.card.title, method, CPU) for method in methods]
    scenes = [Scene(f"scene{k}", f"Scene {k}", torch.from_numpy(blocks(seed=k)).permute(2, 0, 1)) for k in range(2)]
    return Session(predictors, scenes, SIZE)


@pytest.fixture
def page(session: Session) -> Iterator[TestClient]:
    with TestClient(make_app(session), base_url="http://127.0.0.1:8008", raise_server_exceptions=False) as client:
        yield client


def asked(**changes: Any) -> dict[str, Any]:
    return {"method": "method-0", "scene": "scene-0", "location": [8, 9], "displacement": [10, -5], **changes}


def answered(page: TestClient, **changes: Any) -> dict[str, Any]:
    response = page.post("/api/answers", json=asked(**changes))
    assert response.status_code == 200, response.text
    return response.json()


def uploaded(page: TestClient, data: Any, kind: str = "image/png", crop: bool = False) -> Any:
    return page.post(f"/api/uploads?crop={str(crop).lower()}", content=data, headers={"content-type": kind})


# What is served


def test_the_page_and_all_its_parts_are_served_locally(page: TestClient) -> None:
    index = page.get("/")
    assert index.status_code == 200
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in index.headers["content-security-policy"]
    assert "unsafe" not in index.headers["content-security-policy"]
    assert "access-control-allow-origin" not in index.headers
    folder = Path(cli.__file__).parent / "poke_page" / "assets"
    assert {path.name for path in folder.iterdir()} == set(PARTS)
    for name, kind in PARTS.items():
        part = page.get(f"/assets/{name}")
        assert part.status_code == 200
        assert part.headers["content-type"] == kind
        assert part.headers["x-content-type-options"] == "nosniff"
        text = part.text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, f"{name} names an address outside"
        assert "style=" not in text
        assert "innerHTML" not in text


@pytest.mark.parametrize("address", ["/assets/server.py", "/assets/..%2Fserver.py", "/docs", "/openapi.json", "/etc"])
def test_nothing_else_is_served(page: TestClient, address: str) -> None:
    response = page.get(address)
    assert response.status_code == 404
    assert "reload" in response.json()["error"]


def test_the_page_is_told_methods_and_pictures(page: TestClient) -> None:
    told = page.get("/api/page").json()
    assert told["size"] == SIZE
    assert [method["label"] for method in told["methods"]] == ["Shift", "Slow", "Nothing"]
    assert [method["stochastic"] for method in told["methods"]] == [False, True, False]
    assert [scene["label"] for scene in told["scenes"]] == ["Scene 0", "Scene 1"]
    np.testing.assert_array_equal(pixels_of(page.get("/api/scenes/scene-1.png").content), blocks(seed=1))


# Answers


def test_an_answer_has_the_frames_that_the_method_predicted(page: TestClient, methods: list[Shift]) -> None:
    answer = answered(page)
    assert answer["frames"] == 11
    assert answer["seconds"] > 0
    assert methods[0].calls == 1, "one request predicts once"
    strip = pixels_of(page.get(f"/api/answers/{answer['key']}.png").content).reshape(11, SIZE, SIZE, 3)
    for t, frame in enumerate(strip):
        np.testing.assert_array_equal(frame, np.roll(blocks(), (round(-0.5 * t), t), (0, 1)))


def test_two_methods_are_compared_on_one_poke(page: TestClient, methods: list[Shift]) -> None:
    keys = [answered(page, method=name)["key"] for name in ("method-0", "method-1")]
    strips = [page.get(f"/api/answers/{key}.png").content for key in keys]
    assert strips[0] == strips[1]
    assert [method.calls for method in methods] == [1, 1, 0]


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"location": [32, 3]}, 422, "The poke begins at (32, 3), outside the picture; give 0 <= x, y <= 31."),
        ({"location": [-1, 3]}, 422, "outside the picture"),
        ({"displacement": [40, 40]}, 422, "The poke is 57 px long, longer than the picture"),
        ({"location": ["NaN", 3]}, 422, "four finite numbers"),
        ({"location": [3]}, 422, "This is no poke: location"),
        ({"path": "/etc/passwd"}, 422, "This is no poke: path"),
        ({"seed": -1}, 422, "This is no poke: seed"),
        ({"method": "method-9"}, 404, "There is no method 'method-9'"),
        ({"scene": "../../etc/passwd"}, 404, "This picture is not kept any more"),
    ],
)
def test_bad_pokes(page: TestClient, methods: list[Shift], changes: dict[str, Any], status: int, message: str) -> None:
    response = page.post("/api/answers", json=asked(**changes))
    assert response.status_code == status
    assert message in response.json()["error"]
    assert methods[0].calls == 0


@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        (MethodError("shift: expected frames of 64 px"), 422, "shift: expected frames of 64 px"),
        (RuntimeError("first line\nsecond"), 500, "This failed with RuntimeError: first line (the terminal shows"),
        (KeyError(), 500, "This failed with KeyError: no message"),
    ],
)
def test_a_method_that_raises(
    page: TestClient, methods: list[Shift], fault: Exception, status: int, message: str
) -> None:
    methods[0].fault = fault
    response = page.post("/api/answers", json=asked())
    assert response.status_code == status
    assert response.json()["error"].startswith(message)
    assert "second" not in response.text
    assert "content-security-policy" in response.headers
    methods[0].fault = None
    assert answered(page)["frames"] == 11, "the lock is free again"


def test_a_method_that_returns_no_video(page: TestClient) -> None:
    response = page.post("/api/answers", json=asked(method="method-2"))
    assert response.status_code == 422
    assert "the method nothing returned NaN or infinite values" in response.json()["error"]


def test_a_method_predicts_one_thing_at_a_time_and_methods_do_not_wait_for_each_other(
    session: Session, methods: list[Shift]
) -> None:
    for method in methods[:2]:
        method.pause = 0.05
    both_ran = threading.Event()

    def watch() -> None:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not both_ran.is_set():
            if methods[0].running and methods[1].running:
                both_ran.set()

    def ask(name: str) -> None:
        session.ask(name, "scene-0", [1, 1], [2, 2], 0)

    threads = [threading.Thread(target=ask, args=(f"method-{k % 2}",)) for k in range(8)]
    threads.append(threading.Thread(target=watch))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [method.calls for method in methods[:2]] == [4, 4]
    assert [method.most for method in methods[:2]] == [1, 1]
    assert both_ran.is_set()


def test_a_shelf_lets_go_of_what_was_longest_not_asked_for() -> None:
    shelf: Shelf[int] = Shelf("answer", 2)
    first, second = shelf.put(1), shelf.put(2)
    assert shelf.get(first) == 1
    third = shelf.put(3)
    assert (shelf.get(first), shelf.get(third)) == (1, 3)
    with pytest.raises(PageError, match=r"This answer is not kept any more \(2 are\)"):
        shelf.get(second)


# Uploads


def test_a_square_picture_is_taken_and_poked(page: TestClient) -> None:
    scene = uploaded(page, image_bytes(blocks(seed=5))).json()
    np.testing.assert_array_equal(pixels_of(page.get(f"/api/scenes/{scene['key']}.png").content), blocks(seed=5))
    assert scene["remark"] == ""
    assert answered(page, scene=scene["key"])["frames"] == 11


def test_a_larger_picture_is_resized_and_says_so(page: TestClient) -> None:
    large = blocks(64, seed=6)
    scene = uploaded(page, image_bytes(large, "JPEG", quality=95), "image/jpeg").json()
    assert scene["remark"] == "Resized from 64 to 32 px"
    shown = pixels_of(page.get(f"/api/scenes/{scene['key']}.png").content)
    wanted = large.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert shown.shape == (32, 32, 3)
    assert np.abs(shown - wanted).mean() < 25  # the triangle filter mixes neighbouring blocks


def test_only_who_asks_gets_the_middle_square(page: TestClient) -> None:
    wide = np.concatenate([blocks(seed=1), blocks(seed=2), blocks(seed=3)], axis=1)
    refused = uploaded(page, image_bytes(wide))
    assert refused.status_code == 422
    assert refused.json() == {"error": "This picture has 96 x 32 px, and methods take square ones.", "crop": 32}
    scene = uploaded(page, image_bytes(wide), crop=True).json()
    assert scene["remark"] == "The middle 32 x 32 px of 96 x 32"
    np.testing.assert_array_equal(pixels_of(page.get(f"/api/scenes/{scene['key']}.png").content), blocks(seed=2))


def bomb() -> bytes:
    """A PNG file of 100 kB that states 60000 x 60000 px."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10**8), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "kind", "status", "message"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 415, "Expected a PNG or JPEG image, found im"),
        (b"<html></html>", "text/html", 415, "Expected a PNG or JPEG image, found text/html; choose another file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png", 422, "expected a PNG or JPEG image, found somethi"),
        (b"<script>alert(1)</script>", "image/jpeg", 422, "expected a PNG or JPEG image, found something else"),
        (b"GIF89a" + bytes(50), "image/png", 422, "expected a PNG or JPEG image, found something else"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "image/png", 422, "expected a PNG or JPEG image, found something else"),
        (b"", "image/png", 422, "expected a PNG or JPEG image, found something else"),
        (image_bytes(blocks())[:80], "image/png", 422, "the image is damaged or cut short"),
        (image_bytes(blocks()[..., [0, 1, 2, 0]]), "image/png", 422, "expected RGB, found an image with alpha"),
        (bomb(), "image/png", 422, "your picture: the image has too many pixels to be decoded; make it smaller"),
    ],
    ids=["svg", "html", "svg-as-png", "html-as-jpeg", "gif", "eps", "empty", "cut", "alpha", "bomb"],
)
def test_what_is_no_picture_is_refused(page: TestClient, data: bytes, kind: str, status: int, message: str) -> None:
    began = time.monotonic()
    response = uploaded(page, data, kind)
    assert response.status_code == status
    assert message in response.json()["error"]
    assert "BytesIO" not in response.text
    assert time.monotonic() - began < 2


def test_a_picture_of_too_many_pixels_is_not_decoded(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.poke_page.scenes.MOST_PIXELS", 1000)
    response = uploaded(page, image_bytes(blocks()))
    assert response.status_code == 422
    assert "expected at most 0.001 million pixels, found 32 x 32" in response.json()["error"]


def test_damaged_pictures_are_refused_or_shown_but_never_break_the_page(page: TestClient) -> None:
    rng = np.random.default_rng(0)
    whole = [image_bytes(blocks()), image_bytes(blocks(), "JPEG"), image_bytes(blocks(), "JPEG", progressive=True)]
    statuses = []
    for number in range(150):
        data = bytearray(whole[number % 3])
        for place in rng.integers(8, len(data), 4):
            data[place] = rng.integers(256)
        statuses.append(uploaded(page, bytes(data), "image/jpeg" if number % 3 else "image/png").status_code)
    assert set(statuses) == {200, 422}


def test_the_upload_limit_holds_for_stated_and_for_unstated_lengths(page: TestClient) -> None:
    message = "Expected at most 16 MiB, found more; make it smaller."
    stated = uploaded(page, bytes(MOST_UPLOAD + 1))
    assert (stated.status_code, stated.json()["error"]) == (413, message)
    unstated = uploaded(page, iter([bytes(2**20)] * 17))
    assert (unstated.status_code, unstated.json()["error"]) == (413, message)
    assert page.post("/api/answers", json=asked(method="m" * 5000)).status_code == 413


def test_reading_stops_at_the_limit() -> None:
    taken = []

    class Request:
        headers = {"content-type": "image/png; a=b"}  # noqa: RUF012

        async def stream(self) -> Any:
            for number in range(1000):
                taken.append(number)
                yield bytes(1000)

    with pytest.raises(PageError) as caught:
        asyncio.run(read_body(Request(), ("image/png",), "an image", 3500))  # type: ignore[arg-type]
    assert caught.value.status == 413
    assert len(taken) == 4


def test_uploads_stay_off_the_disk(page: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    opened: list[Any] = []
    hook_active = True

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if hook_active and event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            opened.append(arguments[0])

    sys.addaudithook(audit)
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    scene = uploaded(page, image_bytes(noise)).json()
    key = answered(page, scene=scene["key"])["key"]
    for form in ("mp4", "gif", "png", "npz"):
        assert page.get(f"/api/answers/{key}/clip.{form}").status_code == 200
    hook_active = False
    assert opened == []
    assert list(tmp_path.iterdir()) == []


# Who may ask


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8008", "127.0.0.1.evil.example", "192.168.0.7", "[::"])
def test_other_host_names_are_refused(page: TestClient, host: str) -> None:
    response = page.get("/api/page", headers={"host": host})
    assert response.status_code == 403
    assert "is not served under the name" in response.json()["error"]
    assert "content-security-policy" in response.headers


@pytest.mark.parametrize("host", ["localhost:8008", "LOCALHOST", "127.0.0.1:9000", "[::1]:8008"])
def test_names_of_this_machine_are_served(page: TestClient, host: str) -> None:
    assert page.get("/api/page", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8008"])
def test_requests_of_other_sites_are_refused(page: TestClient, methods: list[Shift], origin: str) -> None:
    response = page.post("/api/answers", json=asked(), headers={"origin": origin})
    assert response.status_code == 403
    assert "Requests from other sites are refused" in response.json()["error"]
    assert methods[0].calls == 0
    same = page.post("/api/answers", json=asked(), headers={"origin": "http://127.0.0.1:8008"})
    assert same.status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_requests_that_a_form_could_make_are_refused(page: TestClient, kind: str) -> None:
    """These media types need no permission of the other site; JSON and images do, and get none."""
    response = page.post("/api/answers", content=json.dumps(asked()), headers={"content-type": kind})
    assert response.status_code == 415
    assert uploaded(page, image_bytes(blocks()), kind).status_code == 415
    assert page.options("/api/answers").status_code == 405


def test_a_page_that_is_open_to_others_answers_to_addresses_but_not_to_foreign_names(session: Session) -> None:
    with TestClient(make_app(session, "0.0.0.0"), base_url="http://192.168.0.7:8008") as client:
        assert client.get("/api/page").status_code == 200
        assert client.get("/api/page", headers={"host": socket.gethostname()}).status_code == 200
        assert client.get("/api/page", headers={"host": "evil.example"}).status_code == 403
    named = Guard(lambda *_: None, "bench.lab")  # type: ignore[arg-type, return-value]
    assert "bench.lab" in named.names
    assert [is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost", "0.0.0.0", "lab")] == [
        *[True] * 4,
        False,
        False,
    ]


# Saving


@pytest.mark.parametrize("form", ["mp4", "gif"])
@pytest.mark.parametrize(("scale", "still"), [(1, False), (4, False), (2, True)])
def test_a_saved_video_has_all_frames(page: TestClient, tmp_path: Path, form: str, scale: int, still: bool) -> None:
    key = answered(page, displacement=[0, 0] if still else [10, -5])["key"]
    response = page.get(f"/api/answers/{key}/clip.{form}?scale={scale}")
    assert response.headers["content-disposition"] == f'attachment; filename="Shift_scene0.{form}"'
    path = tmp_path / f"clip.{form}"
    path.write_bytes(response.content)
    video, rate = decode_video(path)
    assert video.shape == (11, SIZE * scale, SIZE * scale, 3)
    assert rate == 10
    frames = pixels_of(page.get(f"/api/answers/{key}.png").content).reshape(11, SIZE, SIZE, 3)
    error = np.abs(video[:, scale // 2 :: scale, scale // 2 :: scale].astype(int) - frames)
    # mp4 halves the resolution of colour, so pixels beside the edges of blocks are off: at scale 1 that is many.
    assert np.median(error) <= (5 if form == "mp4" and scale == 1 else 2)
    assert error.mean() < (15 if form == "mp4" else 6)


def test_two_answers_side_by_side_and_the_poke_in_the_picture(page: TestClient, tmp_path: Path) -> None:
    keys = [answered(page, method=name)["key"] for name in ("method-0", "method-1")]
    response = page.get(f"/api/answers/{keys[0]}/clip.gif?scale=4&poke=true&beside={keys[1]}")
    (tmp_path / "both.gif").write_bytes(response.content)
    video, _ = decode_video(tmp_path / "both.gif")
    assert video.shape == (11, 128, 2 * 128 + 8, 3)
    assert (video[:, :, 128:136] > 240).all()
    np.testing.assert_allclose(video[:, :, :128].astype(int), video[:, :, 136:], atol=40)  # dithered
    target = video[:, round((9 - 5 + 0.5) * 4), round((8 + 10 + 0.5) * 4)].astype(int)
    assert (target[:, 0] > 180).all()
    assert (target[:, 1:] < 90).all()


def test_exact_forms(page: TestClient) -> None:
    key = answered(page, method="method-1", seed=7)["key"]
    frames = pixels_of(page.get(f"/api/answers/{key}.png").content).reshape(11, SIZE, SIZE, 3)
    kept = np.load(io.BytesIO(page.get(f"/api/answers/{key}/clip.npz").content))
    np.testing.assert_array_equal(kept["x0"], frames[0])
    np.testing.assert_array_equal(kept["video"], frames[1:])
    assert (kept["location"].tolist(), kept["displacement"].tolist()) == ([8, 9], [10, -5])
    facts = json.loads(str(kept["facts"]))
    assert (facts["method"], facts["picture"], facts["seed"]) == ("slow", "scene0", 7)
    with zipfile.ZipFile(io.BytesIO(page.get(f"/api/answers/{key}/clip.png").content)) as archive:
        names = [f"x{t:02d}.png" for t in range(11)]
        assert archive.namelist() == [*names, "facts.json"]
        np.testing.assert_array_equal(np.stack([pixels_of(archive.read(name)) for name in names]), frames)
        assert json.loads(archive.read("facts.json")) == facts


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("clip.avi", 404, "Expected one of the forms mp4, gif, png, npz, found 'avi'"),
        ("clip.mp4?scale=3", 422, "Videos can be enlarged 1, 2, 4, 8 times, found 3"),
        ("clip.mp4?scale=-1", 422, "Expected a whole number as scale"),
        ("clip.mp4?beside=gone", 404, "This answer is not kept any more"),
        ("clip.npz?poke=true", 422, "npz files hold the exact frames of one answer"),
    ],
)
def test_bad_wishes(page: TestClient, query: str, status: int, message: str) -> None:
    response = page.get(f"/api/answers/{answered(page)['key']}/{query}")
    assert response.status_code == status
    assert message in response.json()["error"]


def test_an_mp4_of_odd_sides_is_refused_with_the_way_out() -> None:
    shift = Shift()
    scene = Scene("odd", "Odd", torch.zeros(3, 33, 33, dtype=torch.uint8))
    odd = Session([Predictor("shift", "Shift", shift, CPU)], [scene], 33)
    with TestClient(make_app(odd), base_url="http://localhost") as client:
        key = answered(client)["key"]
        refused = client.get(f"/api/answers/{key}/clip.mp4")
        assert "mp4 needs even sides, found 33 x 33 px; enlarge it 2 times" in refused.json()["error"]
        assert client.get(f"/api/answers/{key}/clip.mp4?scale=2").status_code == 200


# Methods and pictures


def written(folder: Path, name: str, size: int) -> str:
    """The specification of a method in a file: a still picture at one size."""
    path = folder / name / "still.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "from methods.interface import MethodCard\n"
        "class Still:\n"
        f"    card = MethodCard('{name}', 'Still', '1', frozenset({{'poke'}}), sizes=frozenset({{{size}}}),\n"
        "                      horizons=frozenset({4, 8}))\n"
        "    def prepare(self, device): pass\n"
        "    def predict(self, conditioning, samples, seed):\n"
        "        return conditioning.x0[:, None, None].repeat(1, 1, conditioning.horizon, 1, 1, 1)\n"
    )
    return f"{path}:Still"


def test_methods_keep_their_order_and_the_oracle_comes_last(tmp_path: Path) -> None:
    specs = [written(tmp_path, "first", 64), written(tmp_path, "second", 64)]
    predictors, size = build_predictors(specs, None, CPU)
    assert size == 64
    assert [one.label for one in predictors] == ["Still: first", "Still: second", "Simulation (oracle)"]
    assert [one.horizon for one in predictors] == [8, 8, 10]
    assert build_predictors([], None, CPU)[1] == 64
    assert build_predictors([], 96, CPU)[1] == 96
    assert build_predictors([written(tmp_path, "large", 128)], None, CPU)[1] == 128


def test_methods_that_the_page_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="copy-last-frame takes no pokes"):
        build_predictors(["copy-last-frame"], None, CPU)
    with pytest.raises(MethodError, match="every method may be given once, found oracle"):
        build_predictors(["oracle", "oracle"], None, CPU)
    with pytest.raises(
        MethodError, match="needs one size in common: a predicts 64 px; b predicts 96 px; oracle predic"
    ):
        build_predictors([written(tmp_path, "a", 64), written(tmp_path, "b", 96)], None, CPU)
    with pytest.raises(MethodError, match=r"methods that predict frames of 32 px: oracle predicts 64 to 256 px"):
        build_predictors([], 32, CPU)


def test_the_oracle_answers_simulated_scenes_and_says_what_it_cannot(tmp_path: Path) -> None:
    names = ["sim-pokes:sim-pokes-00008-orchid@000", "sim-plants:sim-plants-00004-orchid@001"]
    Image.fromarray(blocks(64)).save(tmp_path / "mine.png")
    session = open_session([], [*names, str(tmp_path / "mine.png")], size=None, device=CPU)
    poked, natural, mine = session.describe()["scenes"]
    assert poked["refused"] == {}
    assert (poked["label"], poked["origin"], poked["poke"]["location"]) == ("orchid", "sim-pokes", (44.0, 16.0))
    assert "it knows no scene of clip 'sim-plants-00004-orchid@001'" in natural["refused"]["method-0"]
    assert (mine["label"], mine["origin"], mine["remark"]) == ("mine.png", "", "")
    assert list(mine["refused"]) == ["method-0"]
    possible = session.ask("method-0", "scene-0", (44, 16), (5.9375, 1.8359375), 0)
    assert (possible["frames"], possible["note"]) == (11, "")
    from bench.data.sim.splits import SPLITS, make_scene

    clip = make_scene(SPLITS["sim-pokes"], 8, 64)[0]
    frames = session.answers.get(possible["key"]).frames
    np.testing.assert_array_equal(frames[0], clip.frames[1].transpose(1, 2, 0))
    assert np.abs(frames[1:].astype(int) - clip.frames[2:].transpose(0, 2, 3, 1)).mean() < 0.5
    wall = session.ask("method-0", "scene-0", (2, 2), (3, 4), 0)
    assert wall["note"] == "The point cannot get there: this is the nearest response, 5.0 px from the target."


def test_pictures_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no image file nowhere\.png"):
        named_scenes(["nowhere.png"], 64)
    Image.fromarray(blocks(64)[:40]).save(tmp_path / "wide.png")
    with pytest.raises(DataError, match=r"64 x 40 px, and methods take square ones. Crop it first, or upload it"):
        named_scenes([str(tmp_path / "wide.png")], 64)
    with pytest.raises(DataError, match="sim-pokes has no clip 'orchid'"):
        named_scenes(["sim-pokes:orchid"], 64)


# The server


def test_a_taken_port_and_a_foreign_address_are_refused(session: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PageError, match=f"cannot serve on 127.0.0.1 port {port}: Address already in use. Give"):
            make_server(session, "127.0.0.1", port)
    with pytest.raises(PageError, match=r"cannot serve on 192\.0\.2\.1 port 0"):
        make_server(session, "192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "shown", "warned"), [("127.0.0.1", "127.0.0.1", False), ("0.0.0.0", "localhost", True)]
)
def test_what_is_said_when_the_page_opens(
    session: Session, monkeypatch: pytest.MonkeyPatch, host: str, shown: str, warned: bool
) -> None:
    import uvicorn

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    said: list[str] = []
    serve(session, host, 0, said.append)
    assert any(line.startswith(f"warning: everyone who can reach {host}") for line in said) == warned
    assert "methods: Shift, Slow, Nothing" in said
    assert said[-1].startswith(f"open http://{shown}:")


def test_the_command_refuses_what_takes_no_pokes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "poke", "copy-last-frame"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert "error: copy-last-frame takes no pokes" in capsys.readouterr().err
