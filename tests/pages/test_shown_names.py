"""Names of classes as they are shown: Chinese ones, ones of 200 letters, and ones that look like formulas."""

import logging
import re
import warnings

import pytest
import torch
from conftest import ROOT
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from written_runs import write_run

from thaw.comparison.compare import compare
from thaw.comparison.finished_runs import Run
from thaw.data.description import describe_images
from thaw.evaluation.predictions import Predictions
from thaw.inference.predict import Prediction
from thaw.inference.prediction_tables import Columns, table
from thaw.pages import charts, fonts
from thaw.pages.html import short
from thaw.pages.plots import accuracy_and_time, intervals
from thaw.pages.text import agreeing, aligned, amount, counted, cut, shown, width
from thaw.report import figures

LONG = "x" * 100 + "y" * 100
ODD = ["$a_b^c$", "\N{CAT}", "猫", LONG, "_u", "$5", "a\tb\n\x1b[31mc", "bad\udcff", r"\frac{1}"]


def test_nouns_and_verbs_agree_with_their_number():
    assert [amount(count, "image") for count in (0, 1, 2, 1200)] == ["0 images", "1 image", "2 images", "1,200 images"]
    assert [amount(count, "class") for count in (1, 3)] == ["1 class", "3 classes"]
    text = "image[s] [have] no bytes, [are] grey, and [become] RGB"
    assert agreeing(text, 1) == "image has no bytes, is grey, and becomes RGB"
    assert agreeing(text, 2) == "images have no bytes, are grey, and become RGB"


@pytest.mark.parametrize(
    ("name", "most", "expected"),
    [
        ("ant", 40, "ant"),
        (LONG, 7, "xxx…yyy"),
        (LONG, 8, "xxxx…yyy"),
        ("猫犬鳥魚", 8, "猫犬鳥魚"),
        ("猫犬鳥魚", 7, "猫…魚"),
        ("a\nb\x1b[2J", 40, "a\\nb\\x1b[2J"),
        ("caf\udcc3\udca9", 40, "café"),
        ("bad\udcff", 40, "bad\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_name_is_one_line_with_its_middle_cut_out(name, most, expected):
    assert shown(name, most) == expected and width(shown(name, most)) <= most


def test_columns_are_aligned_by_what_a_terminal_shows():
    first, second = aligned([("猫", "1"), ("abc", "2")])
    assert (first, second) == ("猫   1", "abc  2")
    assert width("e\N{COMBINING ACUTE ACCENT}") == 1
    assert counted(map(str, range(14))).endswith(", 11 and 2 more")


def evaluation(names=ODD, mistakes=True):
    count = len(names)
    labels = torch.arange(3 * count) % count
    logits = torch.eye(count)[(labels + mistakes * (torch.arange(3 * count) < count)) % count]
    return Predictions([f"{n}.png" for n in range(3 * count)], labels.numpy(), logits.numpy(), names)


@pytest.fixture(autouse=True)
def no_fonts_known(monkeypatch):
    monkeypatch.setattr(fonts, "_families", {})
    monkeypatch.setattr(fonts, "_find_new_fonts", lambda: None)


@pytest.fixture
def no_other_fonts(monkeypatch):
    monkeypatch.setattr(fontManager, "ttflist", [font for font in fontManager.ttflist if "DejaVu" in font.name])


def test_figures_show_names_as_they_are_in_a_matrix_of_full_size(tmp_path, no_other_fonts):
    """And no formulas; Matplotlib's warnings are errors."""
    made = evaluation()
    images = [(torch.zeros(3, 8, 8, dtype=torch.uint8), 0)] * len(made.labels)
    matrix, predictions = figures.confusion_matrix(made), figures.predictions(images, made)
    for figure in (matrix, predictions):
        charts.save(figure, tmp_path / "a.png")
    assert matrix.axes[0].get_window_extent().height > 0.75 * 45 * len(ODD), "long names have not made it collapse"
    labels = [label.get_text() for label in matrix.axes[0].get_yticklabels()]
    assert labels[:5] == [r"\$a_b^c\$", r"\U0001f408", r"\u732b", cut(LONG, 28), "_u"]
    captions = [text.get_text() for text in predictions.axes[0].texts]
    assert any(caption.startswith(r"\$a_b^c\$ ") for caption in captions)
    assert all(len(line) <= 20 for caption in captions for line in caption.replace("\\$", "$").splitlines())


def test_characters_that_no_font_has_are_escaped_and_logged_once(tmp_path, caplog, no_other_fonts):
    with caplog.at_level(logging.INFO):
        assert fonts.drawable("猫 a", 40) == r"\u732b a"
        assert fonts.drawable("犬", 40) == r"\u72ac"
        assert re.fullmatch(r"(\\u72ac)+…(\\u72ac)+", fonts.drawable("犬" * 30, 20)), "no escape is cut"
    assert len(caplog.records) == 1 and "Noto Sans CJK" in caplog.text and "猫" in caplog.text


@pytest.fixture
def font_with_a_cat(tmp_path, monkeypatch):
    """A font of the system that has 猫 and nothing else."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0)), pen.lineTo((0, 900)), pen.lineTo((900, 900)), pen.lineTo((900, 0)), pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord("猫"): "cat"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "cat": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "cat": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Cat Sans", "styleName": "Regular"})
    builder.setupOS2(), builder.setupPost()
    builder.save(tmp_path / "cat.ttf")
    monkeypatch.setattr(fontManager, "ttflist", [f for f in fontManager.ttflist if "DejaVu" in f.name])
    fontManager.addfont(tmp_path / "cat.ttf")


def test_a_font_that_has_a_character_draws_it(font_with_a_cat, tmp_path):
    assert fonts.drawable("猫", 40) == "猫" and fonts.families(["猫"]) == ["DejaVu Sans", "Cat Sans"]
    figure = Figure((1, 1))
    figure.text(0.1, 0.2, fonts.drawable("猫", 40), fontsize=40, fontfamily=fonts.families(["猫"]))
    assert (charts.save(figure, tmp_path / "a.png") < 50).all(2).mean() > 0.15, "it is a black square in this font"


def test_a_comparisons_plots_show_candidates_of_any_name(tmp_path):
    for number, name in enumerate(ODD[:5]):
        write_run(tmp_path / str(number), [1, 0, 1, number % 2], name)
    facts = compare([Run(tmp_path / str(number)) for number in range(5)], tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg, other = intervals(facts["candidates"]), accuracy_and_time(facts["candidates"])
    assert "$a_b^c$" in svg and "猫" in svg and cut(LONG, 36) in svg
    assert "$a_b^c$" in other and "猫" in other and cut(LONG, 28) in other


def test_a_page_shows_a_long_name_in_short_and_whole_under_the_pointer():
    assert short("<b>") == "&lt;b&gt;"
    assert short("<שלום>") == "<bdi>&lt;שלום&gt;</bdi>", "else it would turn round what stands beside it"
    assert short(f"<{LONG}", 9) == f'<span title="&lt;{LONG}">&lt;xxx…yyyy</span>'


def test_terminal_tables_stay_as_wide_as_a_terminal(capsys):
    import sys

    write = table(sys.stdout, ["a.jpg"], [LONG, "猫"], Columns(top=2))
    write(Prediction("a.jpg", [(LONG, 0.9), ("猫", 0.1)]))
    assert capsys.readouterr().out == f"a.jpg  {cut(LONG, 40)}  0.9000  猫 0.1000\n"


def test_the_first_line_of_a_run_cuts_long_names(image_folder):
    from thaw.data.datamodule import image_folders

    data = image_folders(image_folder((LONG, "猫"), train=1, val=1), 16)
    text = describe_images(data.root, data.splits, "", None, {})
    assert f"{cut(LONG, 40)}, 猫" in text and LONG not in text


def test_every_page_that_enlarges_pictures_has_the_style_for_it():
    folder = ROOT / "src/thaw/pages/templates"
    base, *pages = sorted(folder.glob("*.html.jinja"), key=lambda path: path.name != "base.html.jinja")
    assert len(pages) == 9
    assert all(path.read_text().startswith("{% extends 'base.html.jinja' %}") for path in pages)
    assert "{% include 'page.css' %}" in base.read_text() and "{% include 'page.js.html' %}" in base.read_text()
    assert "dialog::backdrop" in (folder / "page.css").read_text()
