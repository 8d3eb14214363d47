"""The comparison's page in a real browser."""

import numpy as np
import pytest
from colours import luminance
from PIL import Image
from written_runs import simulated, write_run

from thaw.comparison.comparison_page import write_comparison


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    photos = folder / "photos" / "val"
    for number in range(300):
        kind = photos / ("ant", "bee")[number % 2]
        kind.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), ("teal", "orange")[number % 2]).save(kind / f"{number}.png")
    rng, runs = np.random.default_rng(0), []
    accuracies = {"lp_ft": 0.95, "a <i>name</i>": 0.9, "from_scratch": 0.6}
    for strategy, accuracy in accuracies.items():
        for seed, right in enumerate(simulated(rng, 1, accuracy=accuracy)[0]):
            place = folder / f"{len(runs)}-{strategy[0]}"
            runs.append(write_run(place, right, strategy, seed, seconds=10.0 + len(runs), root=photos.parent))
    write_comparison(folder, runs)
    return folder / "report.html"


@pytest.fixture
def page(browser, report):
    """Opened offline; what it logs as an error, or asks the network for, fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1100, "height": 900})
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else faults.append(asked.url))
    page.goto(report.as_uri())
    yield page
    context.close()
    assert faults == []


def column(page, number):
    return page.locator("#results + .wide tbody tr").evaluate_all(
        f"rows => rows.map(row => row.cells[{number}].textContent.trim())"
    )


def test_tables_are_sorted_by_a_click_or_a_key(page):
    assert column(page, 0) == ["lp_ft", "a <i>name</i>", "from_scratch"]
    heading = page.locator("#results + .wide th").nth(1)
    heading.click()
    accuracies = [float(text.split()[0]) for text in column(page, 1)]
    assert accuracies == sorted(accuracies, reverse=True)
    heading.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(page, 0)[0] == "from_scratch"


def test_an_image_is_enlarged_and_put_back(page):
    assert page.locator(".card img").count() == 12
    small = page.locator(".card img").first.bounding_box()["width"]
    page.locator(".card button").first.click()
    assert page.locator("dialog[open] img").bounding_box()["width"] > 2 * small
    page.locator("dialog").click()
    assert page.locator("dialog[open]").count() == 0


def test_the_results_fit_a_window_of_1200_pixels_and_every_column_has_a_heading(page):
    page.set_viewport_size({"width": 1200, "height": 900})
    wide = page.locator("#results + .wide")
    assert wide.evaluate("element => element.scrollWidth <= element.clientWidth")
    headings = page.locator("thead th").all_text_contents()
    assert len(headings) > 20 and all(headings)


def test_the_recommendation_is_the_first_thing_read(page, tmp_path):
    page.screenshot(path=tmp_path / "report.png")
    assert page.locator(".advice p").first.inner_text().startswith("Use lp_ft: it classifies")
    assert "from_scratch by" in page.locator(".advice").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_plots_can_be_read_in_either_scheme(page, scheme):
    """Contrast of at least 4.5 (WCAG 2.2, AA) between text and page."""
    page.emulate_media(color_scheme=scheme)
    colours = page.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor,
                  ...[...document.querySelectorAll('p, td, th, svg text, .dim, .worse, .best')].map(element => {
                    const style = getComputedStyle(element);
                    return element.closest('svg') ? style.fill : style.color; })]"""
    )
    paper, *inks = [luminance(colour) for colour in dict.fromkeys(colours)]
    assert len(inks) > 2
    assert min((max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) for ink in inks) >= 4.5


def test_a_phone_shows_it_without_scrolling_sideways(page):
    page.set_viewport_size({"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
