"""The report in a browser, as people open it: from the disk, on a screen, on a phone and on paper."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

pytestmark = pytest.mark.slow

WIDTHS = {1280: 900, 390: 844}


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


def test_each_picture_is_drawn_and_described(page: Page):
    images = page.locator("img")
    assert images.count() > 20
    for index in range(images.count()):
        image = images.nth(index)
        assert image.evaluate("each => each.complete && each.naturalWidth > 0")
        assert image.get_attribute("alt")


def place_of_a_point(page: Page) -> tuple[float, float]:
    """Where the map shows one, found by looking for its colour."""
    found = page.evaluate(
        """() => {
          const canvas = document.getElementById("map"), pen = canvas.getContext("2d");
          const box = canvas.getBoundingClientRect(), dense = canvas.width / box.width;
          const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
          const middle = [canvas.width / 2, canvas.height / 2];
          let best = null, least = Infinity;
          for (let place = 3; place < pixels.length; place += 4) {
            if (pixels[place] < 150) continue;
            const number = (place - 3) / 4, x = number % canvas.width, y = Math.floor(number / canvas.width);
            const distance = Math.hypot(x - middle[0], y - middle[1]);
            if (distance < least) { least = distance; best = [box.left + x / dense, box.top + y / dense]; }
          }
          return best;
        }"""
    )
    return found[0], found[1]


def test_the_map_shows_pictures_and_zooms(page: Page):
    canvas, tip = page.locator("#map"), page.locator("#tip")
    canvas.scroll_into_view_if_needed()
    page.wait_for_function("document.getElementById('map').dataset.scale")
    assert not tip.is_visible()
    x, y = place_of_a_point(page)
    if page.viewport_size is not None and page.viewport_size["width"] < 600:
        page.touchscreen.tap(x, y)
    else:
        page.mouse.move(x, y)
    tip.wait_for(state="visible")
    assert page.locator("#caption").inner_text()
    assert page.locator("#thumb").evaluate("each => getComputedStyle(each).backgroundImage").startswith('url("data:')
    before = float(canvas.get_attribute("data-scale") or 0)
    page.locator("#buttons button").first.click()
    page.wait_for_function(f"Number(document.getElementById('map').dataset.scale) > {before * 1.2}")
    if page.viewport_size is not None and page.viewport_size["width"] >= 600:
        page.mouse.move(x, y)
        page.mouse.wheel(0, 600)
        page.wait_for_function(f"Number(document.getElementById('map').dataset.scale) < {before * 1.2}")
    page.locator("#buttons button").last.click()
    page.wait_for_function(f"Math.abs(Number(document.getElementById('map').dataset.scale) - {before}) < 0.01")


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
    assert not opened.locator("#stage").is_visible()
    assert opened.locator(".printed svg").is_visible()
    opened.close()
