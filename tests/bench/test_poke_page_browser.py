"""The poke page in a browser: drags, keys, playback, comparison, uploads, saving."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from poke_page_parts import SIZE, Shift, blocks

from bench.poke_page.predictors import Predictor
from bench.poke_page.scenes import Scene
from bench.poke_page.server import make_server
from bench.poke_page.session import Session
from methods.video_io import decode_video
from metrics.errors import MethodError

pytestmark = pytest.mark.browser

PIXELS = """() => [...document.querySelectorAll(".panel:not([hidden]) canvas")].map((canvas) => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
})"""
START = (6.0, 20.0)


@pytest.fixture
def methods() -> list[Shift]:
    there, back = Shift(), Shift("back")
    back.factor = -1
    return [there, back]


@pytest.fixture
def address(methods: list[Shift]) -> Iterator[str]:
    predictors = [Predictor(one.card.name, one.card.title, one, torch.device("cpu")) for one in methods]
    pixels = [torch.from_numpy(blocks(seed=seed)).permute(2, 0, 1) for seed in (0, 1)]
    known = (START, (8.0, -4.0))
    scenes = [Scene("first", "first", pixels[0], "toys", known), Scene("second", "second", pixels[1], "toys")]
    server, listening = make_server(Session(predictors, scenes, SIZE), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=10)
    listening.close()
    assert not thread.is_alive()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Opens the page; afterwards nothing may have been complained of, or asked for elsewhere."""
    contexts, complaints = [], []

    def open_page(own_clock: bool = False, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 1000}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith((address, "blob:")) or complaints.append(request.url))
        if own_clock:
            page.clock.install(time=0)
        page.goto(address)
        page.wait_for_selector("#scenes input:checked", state="attached")
        page.wait_for_selector("#panel-a .start[aria-label]")
        if own_clock:
            page.clock.pause_at(1e6)  # from here on time passes only in run_for
        return page

    yield open_page
    for context in contexts:
        context.close()
    refusals = "the server responded with a status of 4"  # the browser reports every refusal, expected or not
    assert [text for text in complaints if refusals not in text] == []


def shown(page: Any) -> list[np.ndarray]:
    """What the canvases show now, uint8 `[S, S, 3]` each; read at one moment."""
    return [np.array(data, np.uint8).reshape(SIZE, SIZE, 4)[..., :3] for data in page.evaluate(PIXELS)]


def expected(dx: float, dy: float, frame: int, seed: int = 0) -> np.ndarray:
    return np.roll(blocks(seed=seed), (round(dy * frame / 10), round(dx * frame / 10)), (0, 1))


def place(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a pixel of the picture is on the page."""
    box = page.locator("#panel-a .stage").bounding_box()
    scale = box["width"] / SIZE
    return box["x"] + (x + 0.5) * scale, box["y"] + (y + 0.5) * scale


def drag(page: Any, start: tuple[float, float], target: tuple[float, float]) -> None:
    page.mouse.move(*place(page, *start))
    page.mouse.down()
    page.mouse.move(*place(page, *target), steps=5)
    page.mouse.up()
    page.wait_for_selector("#save:enabled")


def stop_at(page: Any, frame: int) -> None:
    """Pauses, and goes to a frame with the scrubber, by keys."""
    if page.locator("#play").inner_text() == "Pause":
        page.click("#play")
    page.focus("#scrubber")
    page.keyboard.press("Home")
    for _ in range(frame):
        page.keyboard.press("ArrowRight")


def text(page: Any, selector: str) -> str:
    return str(page.locator(selector).inner_text())


def numbers(page: Any) -> list[float]:
    return [float(page.input_value(f"#{name}")) for name in ("x", "y", "dx", "dy")]


def test_a_drag_gives_a_clip_that_plays(visit: Callable[..., Any], methods: list[Shift]) -> None:
    page = visit(own_clock=True)
    np.testing.assert_array_equal(shown(page)[0], blocks())
    drag(page, (12, 14), (20, 10))
    assert numbers(page) == [12, 14, 8, -4]
    assert methods[0].calls == 1
    assert text(page, "#play") == "Pause"
    frames = []
    for _ in range(4):
        page.clock.run_for(200)
        frames.append(int(page.input_value("#scrubber")))
    assert frames == sorted(set(frames)), "the frames advance"
    assert 5 <= frames[-1] <= 8
    assert text(page, "#panel-a .status").startswith("Answered in ")
    stop_at(page, 0)
    assert text(page, "#frame") == "x0"


def test_the_scrubber_seeks_and_the_canvas_shows_that_frame_exactly(visit: Callable[..., Any]) -> None:
    page = visit()
    drag(page, (12, 14), (22, 9))
    for frame in (0, 3, 10):
        stop_at(page, frame)
        assert page.input_value("#scrubber") == str(frame)
        np.testing.assert_array_equal(shown(page)[0], expected(10, -5, frame))
    page.keyboard.press(",")
    assert text(page, "#frame") == "x9 of 10"


def test_playback_keeps_the_rate_and_slow_motion_takes_longer(visit: Callable[..., Any]) -> None:
    page = visit(own_clock=True)
    drag(page, (12, 14), (22, 9))
    stop_at(page, 0)
    page.click("#play")
    page.clock.run_for(450)
    assert text(page, "#frame") == "x4 of 10"
    page.clock.run_for(900)
    assert text(page, "#frame") == "x10 of 10", "the last frame stays for half a second more"
    page.clock.run_for(300)
    assert text(page, "#frame") in ("x0", "x1 of 10")
    stop_at(page, 0)
    page.select_option("#speed", "0.125")
    page.click("#play")
    page.clock.run_for(1500)
    assert text(page, "#frame") == "x1 of 10"
    page.clock.run_for(1700)
    assert text(page, "#frame") in ("x3 of 10", "x4 of 10")


def test_two_methods_run_in_step(visit: Callable[..., Any], methods: list[Shift], tmp_path: Path) -> None:
    page = visit()
    drag(page, (12, 14), (22, 4))
    page.check("#compare")
    page.wait_for_selector("#panel-b .status:has-text('Answered')")
    assert [method.calls for method in methods] == [1, 1], "what was answered is not asked again"
    there = [expected(10, -10, frame) for frame in range(11)]
    back = [expected(-10, 10, frame) for frame in range(11)]
    seen = set()
    for _ in range(12):
        page.wait_for_timeout(90)
        left, right = shown(page)
        frames = [
            next(k for k, frame in enumerate(video) if (frame == now).all())
            for video, now in ((there, left), (back, right))
        ]
        assert frames[0] == frames[1]
        seen.add(frames[0])
    assert len(seen) > 3
    drag(page, (5, 5), (9, 9))
    assert [method.calls for method in methods] == [2, 2]
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "both.mp4")
    video, _ = decode_video(tmp_path / "both.mp4")
    assert video.shape == (11, 8 * SIZE, 2 * 8 * SIZE + 16, 3)
    page.uncheck("#compare")
    assert page.locator("#panel-b").is_hidden()
    assert len(shown(page)) == 1


def test_a_comparison_begun_while_a_method_is_answering_waits_for_it(
    visit: Callable[..., Any], methods: list[Shift]
) -> None:
    page = visit()
    methods[0].gate.clear()
    page.click("#ask")
    page.wait_for_selector("#panel-a .stage.waiting")
    page.check("#compare")
    page.wait_for_selector("#panel-b .status:has-text('Answered')")
    assert page.is_disabled("#play")
    assert page.is_disabled("#save")
    methods[0].gate.set()
    page.wait_for_selector("#save:enabled")
    assert text(page, "#play") == "Pause"
    assert [method.calls for method in methods] == [1, 1]
    stop_at(page, 10)
    left, right = shown(page)
    np.testing.assert_array_equal(left, expected(8, -4, 10))
    np.testing.assert_array_equal(right, expected(-8, 4, 10))


@pytest.mark.parametrize("slow", [0, 1])
def test_a_comparison_ended_while_a_method_is_answering_presents_the_other_answer(
    visit: Callable[..., Any], methods: list[Shift], slow: int
) -> None:
    page = visit()
    page.check("#compare")
    methods[slow].gate.clear()
    page.click("#ask")
    page.wait_for_selector(f"#panel-{'ba'[slow]} .status:has-text('Answered')")
    page.uncheck("#compare")
    methods[slow].gate.set()
    page.wait_for_selector("#save:enabled")
    assert text(page, "#play") == "Pause"
    stop_at(page, 10)
    np.testing.assert_array_equal(shown(page)[0], expected(8, -4, 10))


def test_another_second_method_while_the_first_is_answering(visit: Callable[..., Any], methods: list[Shift]) -> None:
    page = visit()
    page.check("#compare")
    methods[0].gate.clear()
    page.click("#ask")
    page.wait_for_selector("#panel-b .status:has-text('Answered')")
    page.select_option("#method-b", label="Shift")
    methods[0].gate.set()
    page.wait_for_selector("#save:enabled")
    assert text(page, "#play") == "Pause"
    assert [method.calls for method in methods] == [2, 1]
    stop_at(page, 10)
    for picture in shown(page):
        np.testing.assert_array_equal(picture, expected(8, -4, 10))


def test_everything_can_be_done_with_keys(visit: Callable[..., Any], methods: list[Shift]) -> None:
    page = visit()
    assert numbers(page) == [*START, 8, -4]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert numbers(page) == [*START, 9, 1]
    page.focus(".handle.start")
    page.keyboard.press("ArrowUp")
    assert numbers(page) == [6, 19, 9, 2]
    assert page.locator(".handle.start").get_attribute("aria-label") == "Start of the poke: x 6.0, y 19.0 px"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    assert numbers(page) == [6, 19, 8, 2]
    assert methods[0].calls == 0
    page.keyboard.press("Enter")
    page.wait_for_selector("#save:enabled")
    assert methods[0].calls == 1
    assert text(page, "#play") == "Pause"
    page.keyboard.press(" ")
    assert text(page, "#play") == "Play"
    before = page.input_value("#scrubber")
    page.wait_for_timeout(250)
    assert page.input_value("#scrubber") == before
    page.keyboard.press(" ")
    assert text(page, "#play") == "Pause"
    for _ in range(30):
        page.keyboard.press("Shift+ArrowRight")
    assert numbers(page)[2] == SIZE - 1 - 6, "the target stays in the picture"
    page.fill("#dx", "3.5")
    page.keyboard.press("Enter")
    page.wait_for_selector("#save:enabled")
    stop_at(page, 10)
    np.testing.assert_array_equal(shown(page)[0], expected(3.5, 2, 10))


def test_a_click_is_no_poke_and_leaves_the_clip(visit: Callable[..., Any], methods: list[Shift]) -> None:
    page = visit()
    drag(page, (12, 14), (22, 9))
    page.mouse.click(*place(page, 3, 3))
    assert numbers(page) == [12, 14, 10, -5]
    assert methods[0].calls == 1
    assert page.is_enabled("#save")


def test_a_drag_from_the_target_keeps_the_start(visit: Callable[..., Any]) -> None:
    page = visit()
    drag(page, (START[0] + 8, START[1] - 4), (25, 25))
    assert numbers(page) == [*START, 19, 5]


def test_of_many_pokes_while_a_method_is_busy_the_last_one_counts(
    visit: Callable[..., Any], methods: list[Shift]
) -> None:
    page = visit()
    methods[0].gate.clear()
    for x in (16, 18, 20, 22):
        page.mouse.move(*place(page, 12, 14))
        page.mouse.down()
        page.mouse.move(*place(page, x, 14), steps=2)
        page.mouse.up()
    assert "is answering" in text(page, "#panel-a .status")
    methods[0].gate.set()
    page.wait_for_selector("#save:enabled")
    assert methods[0].calls == 2
    stop_at(page, 10)
    np.testing.assert_array_equal(shown(page)[0], expected(10, 0, 10))


def test_the_sentence_of_a_method_that_refuses_is_shown(visit: Callable[..., Any], methods: list[Shift]) -> None:
    page = visit()
    methods[0].fault = MethodError("shift: <b>expected</b> something else")
    page.click("#ask")
    page.wait_for_selector("#panel-a .status.bad")
    assert "shift: <b>expected</b> something else" in text(page, "#panel-a .status")
    assert page.is_disabled("#save")
    methods[0].fault = None
    drag(page, (12, 14), (22, 9))
    assert page.locator("#panel-a .status.bad").count() == 0


def test_another_method_answers_the_same_poke(visit: Callable[..., Any], methods: list[Shift]) -> None:
    page = visit()
    drag(page, (12, 14), (22, 9))
    page.select_option("#method-a", label="Back")
    page.wait_for_selector("#save:enabled")
    stop_at(page, 10)
    np.testing.assert_array_equal(shown(page)[0], expected(-10, 5, 10))
    page.locator("#scenes input").nth(1).check(force=True)
    page.wait_for_selector("#save:disabled")
    np.testing.assert_array_equal(shown(page)[0], blocks(seed=1))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_picture_of_ones_own(visit: Callable[..., Any]) -> None:
    page = visit()
    wide = np.concatenate([blocks(seed=7), blocks(seed=8), blocks(seed=9)], axis=1)
    page.set_input_files("#file", {"name": "wide.png", "mimeType": "image/png", "buffer": png(wide)})
    page.wait_for_selector("#crop:visible")
    assert text(page, "#crop-text") == "This picture has 96 x 32 px, and methods take square ones."
    assert page.locator("#scenes label").count() == 2
    page.click("#crop-yes")
    page.wait_for_selector("#scenes label:nth-child(3)")
    assert "wide.png" in text(page, "#scenes label:nth-child(3)").lower()
    page.wait_for_selector("#panel-a .status:text-is('The middle 32 x 32 px of 96 x 32')")
    np.testing.assert_array_equal(shown(page)[0], blocks(seed=8))
    drag(page, (12, 14), (22, 9))
    stop_at(page, 10)
    np.testing.assert_array_equal(shown(page)[0], expected(10, -5, 10, seed=8))


@pytest.mark.parametrize(
    ("name", "kind", "data", "message"),
    [
        ("a.svg", "image/svg+xml", b"<svg/>", "Expected a PNG or JPEG image, found image/svg+xml"),
        ("a.png", "image/png", b"<html></html>", "expected a PNG or JPEG image, found something else"),
    ],
)
def test_files_that_are_refused(visit: Callable[..., Any], name: str, kind: str, data: bytes, message: str) -> None:
    page = visit()
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})
    page.wait_for_selector("#fault:visible")
    assert message in text(page, "#fault")
    assert page.locator("#scenes label").count() == 2


def test_a_file_that_is_too_large_is_not_even_sent(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit()
    (tmp_path / "a.png").write_bytes(bytes(17 * 2**20))
    sent = []
    page.on("request", lambda request: sent.append(request.url))
    page.set_input_files("#file", tmp_path / "a.png")
    page.wait_for_selector("#fault:visible")
    assert text(page, "#fault") == "a.png has 17.0 MiB; choose a smaller file."
    assert sent == []


@pytest.mark.parametrize("form", ["mp4", "gif", "png", "npz"])
def test_clips_are_saved(visit: Callable[..., Any], tmp_path: Path, form: str) -> None:
    page = visit()
    drag(page, (12, 14), (22, 9))
    page.select_option("#form", form)
    assert page.is_enabled("#scale") == (form in ("mp4", "gif"))
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == f"Shift_first.{'zip' if form == 'png' else form}"
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    if form in ("mp4", "gif"):
        assert decode_video(path)[0].shape == (11, 8 * SIZE, 8 * SIZE, 3)
    elif form == "npz":
        np.testing.assert_array_equal(np.load(path)["video"][-1], expected(10, -5, 10))


def test_where_motion_is_unwelcome_the_last_frame_is_shown(visit: Callable[..., Any]) -> None:
    page = visit(own_clock=True, reduced_motion="reduce")
    drag(page, (12, 14), (22, 9))
    assert (text(page, "#play"), text(page, "#frame")) == ("Play", "x10 of 10")
    page.click("#play")
    page.clock.run_for(450)
    assert text(page, "#frame") == "x4 of 10"


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_it_fits_every_width_and_everything_has_a_name(visit: Callable[..., Any], width: int) -> None:
    page = visit(viewport={"width": width, "height": 800})
    page.check("#compare")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button")].filter((one) => {
            const label = [...(one.labels ?? [])].map((found) => found.textContent.trim()).join("");
            const said = one.getAttribute("aria-label") || label || one.textContent.trim();
            return !said && !one.closest("[hidden]");
        }).map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_a_finger_pokes_and_does_not_scroll(visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    touch = page.context.new_cdp_session(page)

    def finger(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": x, "y": y} for x, y in (place(page, *point) for point in points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    scrolled = page.evaluate("() => scrollY")
    finger("touchStart", (12, 10))
    for step in range(1, 6):
        finger("touchMove", (12 + 2 * step, 10 + step))
    finger("touchEnd")
    page.wait_for_selector("#save:enabled")
    assert numbers(page) == [12, 10, 10, 5]
    assert page.evaluate("() => scrollY") == scrolled
