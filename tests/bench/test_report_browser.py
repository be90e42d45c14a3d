"""The report in headless Chromium, opened from disk: videos in step, exact pixels, keyboard, origins, phone, paper."""

from __future__ import annotations

import re

import numpy as np
import pytest
from report_pages import HOSTILE, make_page

from bench.origin import record_folder
from methods.registry import build_method

pytestmark = pytest.mark.browser

SHOWN = """() => [...document.querySelectorAll('.clip:not(.off) .frame')].map((c) => {
  const suite = c.closest('.suite').dataset;
  return [Number(c.dataset.shown), 1 - Number(suite.context), Number(suite.horizon)];
})"""
PIXELS = """(canvas) => {
  const context = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
  context.drawImage(canvas, 0, 0);
  return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
}"""
CHANGES = """(wanted) => new Promise((done) => {
  const found = [];
  new MutationObserver((_, observer) => {
    found.push([performance.now(), document.getElementById('now').textContent]);
    if (found.length < wanted) return;
    observer.disconnect();
    done(found);
  }).observe(document.getElementById('now'), { childList: true });
})"""
"""The next changes of the frame that is shown: (milliseconds, its name)."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    page = make_page(tmp_path_factory.mktemp("report"))
    path = page.folder / "report.html"
    path.write_text(page.html)
    return page, path


@pytest.fixture
def show(made, browser):
    """Opens the report; on leaving, nothing was asked of a network, and nothing was complained of."""
    contexts, heard, asked = [], [], []

    def load(width=1280, height=900, motion="reduce", scale=1):
        context = browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion=motion, device_scale_factor=scale, offline=True
        )
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: heard.append(message.text))
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(made[1].as_uri())
        tab.wait_for_selector("body[data-ready=true]")
        return tab

    yield load
    for context in contexts:
        context.close()
    assert heard == []
    assert [url for url in asked if not url.startswith("data:") and url != made[1].as_uri()] == []


def in_step(tab):
    """The frame of the clock; every video that can be seen shows it, or its own nearest."""
    clock, shown = tab.evaluate(f"() => [Number(document.getElementById('scrub').value), ({SHOWN})()]")
    assert shown
    assert [k for k, _, _ in shown] == [min(max(clock, first), last) for _, first, last in shown]
    return clock


def scrub_to(tab, frame):
    tab.evaluate(
        "(k) => { const s = document.getElementById('scrub'); s.value = k; s.dispatchEvent(new Event('input')); }",
        frame,
    )


def test_videos_advance_in_step_and_begin_again(show):
    tab = show(motion="no-preference")
    assert tab.locator("#play").text_content() == "Pause"
    names = [name for _, name in tab.evaluate(CHANGES, 24)]
    around = ["x−1 (given)", "x0 (given)", *(f"x{k} of x10" for k in range(1, 11))]
    changed = [name for number, name in enumerate(names) if number == 0 or name != names[number - 1]]
    at = around.index(changed[0])
    assert changed == [around[(at + number) % 12] for number in range(len(changed))]
    assert len(changed) >= 12
    in_step(tab)
    tab.keyboard.press("Space")
    stopped = in_step(tab)
    tab.wait_for_timeout(400)
    assert in_step(tab) == stopped
    assert tab.locator("#play").text_content() == "Play"


def test_reduced_motion_begins_paused(show):
    tab = show()
    tab.wait_for_timeout(400)
    assert in_step(tab) == -1
    assert tab.locator("#play").text_content() == "Play"


def test_the_scrubber_seeks_all_videos_to_exact_pixels(show, made):
    page, _ = made
    tab = show()
    report, data = page.reports[0], page.data[0]
    clip = next(clip for clip in report.clips if clip.roles.get("psnr") == "best")
    frames = data.load(clip.clip_id).frames.permute(0, 2, 3, 1).numpy()
    article = tab.locator(".clip", has_text=clip.clip_id).first
    for frame in (-1, 0, 1, 7, 10):
        scrub_to(tab, frame)
        assert in_step(tab) == frame
        expected = {0: frames[frame + 1], 1: frames[min(frame + 1, 1)]}  # ground truth, and copy of the last frame
        for number, pixels in expected.items():
            drawn = np.array(article.locator(".tile .frame").nth(number).evaluate(PIXELS), np.uint8)
            assert np.array_equal(drawn.reshape(32, 32, 4)[..., :3], pixels)
        given = article.locator(".tile.given").count()
        assert given == (len(clip.tiles) if frame < 1 else 0)


def test_pixels_are_enlarged_without_blur(show):
    for scale in (1, 3):
        tab = show(scale=scale)
        side = tab.evaluate("document.querySelector('.frame').getBoundingClientRect().width") * scale
        assert side == pytest.approx(round(side / 32) * 32, abs=0.01)
        assert tab.evaluate("getComputedStyle(document.querySelector('.frame')).imageRendering") == "pixelated"


def test_keyboard(show):
    tab = show()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert in_step(tab) == 1
    tab.keyboard.press("ArrowLeft")
    assert in_step(tab) == 0
    tab.keyboard.press("End")
    assert in_step(tab) == 10
    tab.keyboard.press("ArrowRight")
    assert in_step(tab) == 10
    tab.keyboard.press("Home")
    assert in_step(tab) == -1
    tab.keyboard.press("s")
    assert tab.locator("#speed").input_value() == "2.0"
    tab.keyboard.press("s")
    assert tab.locator("#speed").input_value() == "10.0"
    assert tab.locator(".clip:not(.off) .tile > .view .poke").first.is_visible()
    tab.keyboard.press("p")
    assert not tab.locator(".clip:not(.off) .tile > .view .poke").first.is_visible()
    tab.locator("#scrub").focus()
    tab.keyboard.press("ArrowRight")
    assert in_step(tab) == 0


def test_slow_motion_is_slow(show):
    tab = show()
    tab.locator("#speed").select_option("2.0")
    tab.keyboard.press("Space")
    times = [time for time, _ in tab.evaluate(CHANGES, 4)]
    assert (times[3] - times[0]) / 3 == pytest.approx(500, rel=0.5)  # 100 in real time


def test_the_metric_chooses_the_clips(show, made):
    tab = show()
    report = made[0].reports[0]
    for metric in ("ssim", "psnr"):
        tab.locator("#suite0 .metric").select_option(metric)
        articles = tab.locator("#suite0 .clip:not(.off)")
        found = sorted(
            (article.bounding_box()["y"], article.locator(".clip-id").text_content()) for article in articles.all()
        )
        roles = {clip.roles[metric]: clip.clip_id for clip in report.clips if metric in clip.roles}
        assert [clip_id for _, clip_id in found] == [roles[role] for role in ("best", "median", "worst")]
        best = next(clip for clip in report.clips if clip.roles.get(metric) == "best")
        scores = tab.locator("#suite0 .clip", has_text=best.clip_id).first.locator(".score").all_text_contents()
        assert scores == [tile.values.get(metric, "") for tile in best.tiles]
        in_step(tab)


def test_a_number_shows_where_it_came_from(show, made):
    tab = show()
    record = made[0].reports[0].records[2]
    row = len(made[0].reports[0].table.columns)
    cell = tab.locator("#suite0 .cell").nth(2 * row)
    cell.focus()
    tab.keyboard.press("Enter")
    dialog = tab.locator("#origin")
    assert dialog.is_visible()
    text = dialog.inner_text()
    assert HOSTILE in text
    for part in (record_folder(record).as_posix(), record.facts.protocol_hash, record.facts.provenance.command):
        assert re.sub(r"\s+", " ", part) in re.sub(r"\s+", " ", text)
    tab.keyboard.press("ArrowRight")
    assert in_step(tab) == -1  # keys belong to the dialog while it is open
    tab.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert tab.evaluate("document.activeElement.dataset.cell") == cell.get_attribute("data-cell")
    cell.click()
    tab.locator("#close").click()
    assert not dialog.is_visible()
    assert tab.evaluate("typeof hacked") == "undefined"


def test_on_a_phone_only_the_table_scrolls_sideways(show):
    tab = show(390, 844, scale=3)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    tops = [tile.bounding_box()["y"] for tile in tab.locator("#suite0 .clip:not(.off) .tile").all()[:2]]
    assert tops[0] == tops[1]  # two videos side by side
    assert tab.locator(".bar").bounding_box()["height"] < 110  # two lines


def test_on_paper_there_are_stills(show):
    tab = show()
    tab.emulate_media(media="print")
    assert not tab.locator(".bar").is_visible()
    assert not tab.locator(".tile > .view").first.is_visible()
    assert tab.locator("#suite0 .tile").first.locator(".still small").all_text_contents() == ["x1", "x5", "x10"]
    tab.keyboard.press("End")
    last = tab.locator("#suite0 .tile").first
    still, video = (last.locator(css).last.evaluate(PIXELS) for css in (".still canvas", ".frame"))
    assert still == video
    assert tab.locator(".clip").count() == tab.locator(".clip:visible").count()
    assert tab.pdf(format="A4").startswith(b"%PDF")


def test_methods_are_those_of_the_page(show, made):
    """The titles above the videos are those of the cards, in the order of the table."""
    tab = show()
    titles = [build_method(spec).card.title for spec in made[0].suites[0].methods]
    first = tab.locator("#suite0 .clip:not(.off)").first.locator("figcaption .title").all_text_contents()
    assert first == ["Ground truth", *titles]
