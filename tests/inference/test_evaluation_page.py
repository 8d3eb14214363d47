"""The page of an evaluation in a real browser."""

import pytest
from colours import luminance
from evaluated import CLASSES, fill, untrained

from thaw.inference.evaluate import evaluate
from thaw.inference.evaluation_page import write_evaluation
from thaw.inference.labelled_folder import read_labelled


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    photos, model = fill(folder / "photos", [CLASSES[0], CLASSES[2]]), untrained(folder)
    (photos / "ü猫" / "<i>bad.jpg").write_bytes(b"")
    write_evaluation(folder, evaluate(model, read_labelled(photos, CLASSES), top=3))
    return folder


@pytest.fixture
def page(browser, written):
    """Opened offline; what it logs as an error, or asks the network for, fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1100, "height": 900})
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else faults.append(asked.url))
    page.goto((written / "evaluation.html").as_uri())
    yield page
    context.close()
    assert faults == []


def test_the_page_shows_names_as_they_are_and_fits_a_phone(page):
    names = page.locator("#classes + .wide tbody tr").evaluate_all("rows => rows.map(row => row.cells[0].textContent)")
    assert names == CLASSES
    assert "<i>bad.jpg" in page.locator(".cautions").inner_text()
    assert page.locator("b > *, i").count() == 0
    assert page.locator("#classes + .wide tbody tr").nth(1).inner_text().split() == ["a", "0", *page_count(page)]
    heading = page.locator("#robustness + .wide th").first
    heading.click()
    assert heading.get_attribute("aria-sort") == "descending"
    first, second = (page.locator("#robustness + .wide tbody tr").nth(place).inner_text() for place in (0, 1))
    assert first.startswith("none") and second.startswith("noise")
    assert page.locator(".card img").count() == 6
    page.locator(".card button").nth(1).click()
    assert page.locator("dialog[open] p").inner_text().startswith("Grad-CAM of ")
    page.locator("dialog").click()
    page.set_viewport_size({"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def page_count(page):
    """How often the class that is not there was predicted."""
    return [page.locator("#classes + .wide tbody tr").nth(1).locator("td").nth(4).inner_text()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_either_scheme(page, scheme):
    """Contrast of at least 4.5 (WCAG 2.2, AA), in the cells of the confusion matrix, too."""
    page.emulate_media(color_scheme=scheme)
    paper, *inks = page.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor,
                  ...[...document.querySelectorAll('body > p, div p, td, th, svg text')].map(element => {
                    const style = getComputedStyle(element);
                    return element.closest('svg') ? style.fill : style.color; })]"""
    )
    assert min(contrast(ink, paper) for ink in set(inks)) >= 4.5
    strongest = page.evaluate(
        """() => { const cell = document.querySelector('.matrix td'); cell.style.background = 'rgba(var(--heat), 0.5)';
                   const style = getComputedStyle(cell); return [style.color, style.backgroundColor]; }"""
    )
    ink, heat = strongest
    mixed = [(a + b) / 2 for a, b in zip(channels(heat), channels(paper), strict=True)]
    assert contrast(ink, "rgb({}, {}, {})".format(*mixed)) >= 4.5


def channels(colour):
    return [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]


def contrast(one, other):
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)
