"""The report in a browser, as people open it: from the disk, on a screen, on a phone and on paper."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from test_report import RIVAL, content_of

from lapel.report.page import render

pytestmark = pytest.mark.slow

WIDTHS = {1280: 900, 768: 1024, 390: 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if found is None:
        pytest.skip("no Chromium on the PATH; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(params=WIDTHS)
def page(browser: Browser, trained_run: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report of a run, opened at some width; errors and requests beyond the file itself fail the test."""
    touched = request.param < 600
    context = browser.new_context(
        viewport={"width": request.param, "height": WIDTHS[request.param]}, has_touch=touched, is_mobile=touched
    )
    opened, faults = context.new_page(), []
    address = (trained_run / "evaluation" / "report.html").as_uri()
    opened.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("request", lambda asked: None if asked.url.startswith(("data:", address)) else faults.append(asked.url))
    opened.goto(address)
    yield opened
    context.close()
    assert faults == []


def test_nothing_overflows(page: Page):
    for media in ("screen", "print"):
        page.emulate_media(media=media)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), media


def test_the_tables_beside_another_run_are_seen_whole(browser: Browser):
    scores = [replace(each, name="category_accuracy@5") for each in RIVAL.scores]
    opened = browser.new_page()
    opened.set_content(render(replace(content_of(["shirt", "coat"]), rival=replace(RIVAL, scores=scores)), {}))
    for width in (1600, 1280, 1261, 1260, 1020, 768, 390):
        opened.set_viewport_size({"width": width, "height": 900})
        tables = opened.locator("#rival .scroll")
        assert tables.count() == 2
        for index in range(2):
            assert tables.nth(index).evaluate("each => each.scrollWidth <= each.clientWidth"), width
        judged = tables.first.locator("td", has_text="perhaps chance").bounding_box()
        assert judged is not None
        assert judged["x"] + judged["width"] <= width
    opened.close()


def test_each_picture_is_drawn_and_described(page: Page):
    images = page.locator("img")
    assert images.count() > 20
    for index in range(images.count()):
        image = images.nth(index)
        assert image.evaluate("each => each.complete && each.naturalWidth > 0")
        assert image.get_attribute("alt")


def seen_on_the_map(page: Page) -> tuple[float, float]:
    """Where on the screen the map shows the dot that is nearest to its middle."""
    found = page.evaluate(
        """() => {
          const map = document.getElementById("map"), box = map.getBoundingClientRect(), matrix = map.getScreenCTM();
          const middle = [box.left + box.width / 2, box.top + box.height / 2];
          let best = null, least = Infinity;
          for (const path of map.querySelectorAll("path")) {
            for (const [, x, y] of path.getAttribute("d").matchAll(/M(\\d+) (\\d+)/g)) {
              const dot = new DOMPoint(x, y).matrixTransform(matrix);
              const distance = Math.hypot(dot.x - middle[0], dot.y - middle[1]);
              if (distance < least) { least = distance; best = [dot.x, dot.y]; }
            }
          }
          return best;
        }"""
    )
    return found[0], found[1]


def scale_of(page: Page) -> float:
    return float(page.locator("#map").get_attribute("data-scale") or 0)


def test_the_map_shows_pictures_and_zooms(page: Page):
    chart, tip = page.locator("#map"), page.locator("#tip")
    chart.scroll_into_view_if_needed()
    page.wait_for_function("document.getElementById('map').dataset.scale")
    assert not tip.is_visible()
    x, y = seen_on_the_map(page)
    if page.viewport_size is not None and page.viewport_size["width"] < 600:
        page.touchscreen.tap(x, y)
    else:
        page.mouse.move(x, y)
    tip.wait_for(state="visible")
    assert page.locator("#caption").inner_text()
    assert page.locator("#thumb").evaluate("each => getComputedStyle(each).backgroundImage").startswith('url("data:')
    page.locator("#buttons button").first.click()
    page.wait_for_function("Number(document.getElementById('map').dataset.scale) > 1.2")
    page.locator("#buttons button").last.click()
    page.wait_for_function("Number(document.getElementById('map').dataset.scale) === 1")


def test_the_wheel_is_left_to_the_page_but_with_ctrl(browser: Browser, trained_run: Path):
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.goto((trained_run / "evaluation" / "report.html").as_uri())
    opened.locator("#map").scroll_into_view_if_needed()
    opened.mouse.move(*seen_on_the_map(opened))
    before = opened.evaluate("window.scrollY")
    opened.mouse.wheel(0, -200)
    opened.wait_for_function(f"window.scrollY < {before}")
    assert scale_of(opened) == 1
    opened.mouse.move(*seen_on_the_map(opened))
    opened.keyboard.down("Control")
    opened.mouse.wheel(0, -600)
    opened.keyboard.up("Control")
    opened.wait_for_function("Number(document.getElementById('map').dataset.scale) > 1.2")
    opened.close()


def test_the_map_is_walked_with_the_keyboard(page: Page):
    """Each step shows the picture of another dot, and says its caption to those who do not see it."""
    page.locator("#map").focus()
    told = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
        assert page.locator("#tip").is_visible()
        told.append(page.locator("#said").inner_text())
        assert told[-1] == page.locator("#caption").inner_text()
    assert len(set(told)) > 1
    page.keyboard.press("+")
    page.wait_for_function("Number(document.getElementById('map').dataset.scale) > 1.2")
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()


def test_without_scripts_there_is_a_map_with_its_legend(browser: Browser, trained_run: Path):
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto((trained_run / "evaluation" / "report.html").as_uri())
    assert opened.locator("#map").get_attribute("role") == "img"
    assert opened.locator("#map path").count() == opened.locator("#legend li").count() > 1
    for hidden in ("#buttons", "#tip", "#map-help"):
        assert not opened.locator(hidden).is_visible()
    context.close()


def contrast(one: list[float], other: list[float]) -> float:
    """WCAG 2.2's contrast of two colours, each of red, green and blue from 0 to 255."""

    def luminance(colour: list[float]) -> float:
        linear = [(c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_can_be_read_in_the_light_and_in_the_dark(
    browser: Browser, trained_run: Path, scheme: Literal["light", "dark"]
):
    opened = browser.new_page(color_scheme=scheme)
    opened.goto((trained_run / "evaluation" / "report.html").as_uri())
    paper = opened.evaluate("getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number)")
    assert (sum(paper[:3]) > 600) == (scheme == "light")
    for letters in ("body", ".told", "#categories svg text", "nav a", ".picture figcaption", ".right .sign"):
        colours = opened.evaluate(
            """wanted => {
              const each = document.querySelector(wanted), style = getComputedStyle(each);
              const colour = each instanceof SVGElement ? style.fill : style.color;
              const filled = style.backgroundColor.match(/[\\d.]+/g).map(Number);
              return [colour.match(/[\\d.]+/g).map(Number), filled];
            }""",
            letters,
        )
        behind = colours[1] if len(colours[1]) == 3 else paper
        assert contrast(colours[0][:3], behind[:3]) >= 4.5, letters
    opened.close()


def test_a_category_can_be_chosen(page: Page):
    first = page.locator("#legend button").first
    first.click()
    assert first.get_attribute("aria-pressed") == "true"
    assert page.locator("#legend button[aria-pressed=true]").count() == 1
    first.click()
    assert page.locator("#legend button[aria-pressed=true]").count() == 0


def test_it_prints(browser: Browser, trained_run: Path):
    opened = browser.new_page()
    opened.goto((trained_run / "evaluation" / "report.html").as_uri())
    assert opened.pdf(format="A4").startswith(b"%PDF")
    opened.emulate_media(media="print")
    assert opened.locator("#map path").first.is_visible()
    for left_out in ("nav", "#buttons", "#map-help"):
        assert not opened.locator(left_out).first.is_visible()
    heading = opened.locator(".chart h3").first
    assert heading.evaluate("each => getComputedStyle(each).breakAfter") == "avoid"
    assert heading.evaluate("each => getComputedStyle(each.parentElement).breakInside") == "avoid"
    opened.close()
