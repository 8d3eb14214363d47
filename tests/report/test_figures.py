import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from thaw.evaluation.calibration import held_out
from thaw.evaluation.measures import calibration
from thaw.evaluation.predictions import Predictions
from thaw.pages import charts
from thaw.report import figures


@pytest.fixture
def evaluation():
    labels = torch.tensor([0, 1] * 20)
    logits = torch.nn.functional.one_hot(labels, 2).float() * torch.arange(1, 41)[:, None] / 10
    logits[[4, 9]] = logits[[4, 9]].flip(1)  # two mistakes, the second the surer
    found = Predictions([f"{n}.png" for n in range(40)], labels.numpy(), logits.numpy(), ["ant", "bee"])
    return found.divided_by(calibration(found, held_out(found))["temperature"])


IMAGES = [(torch.full((3, 8, 8), n, dtype=torch.uint8), n % 2) for n in range(40)]


def titles(figure):
    return [(text.get_text(), to_hex(text.get_color())) for text in figure.axes[0].texts]


def test_mistakes_come_first_in_red_the_most_confident_before_the_others(evaluation):
    figure = figures.predictions(IMAGES, evaluation)
    shown = titles(figure)
    surest, other = (torch.sigmoid(torch.tensor(logit / evaluation.temperature)) for logit in (1.0, 0.5))
    assert [title for title, colour in shown if colour == figures.WRONG] == [
        f"ant {surest:.0%}\n(is bee)",
        f"bee {other:.0%}\n(is ant)",
    ]
    assert abs(evaluation.temperature - 1) > 0.1 and "calibrated" in figure.get_suptitle()
    assert [colour for _, colour in shown] == [figures.WRONG] * 2 + [figures.RIGHT] * 22


def test_a_figure_is_kept_as_a_png_of_the_same_pixels(evaluation, tmp_path):
    pixels = charts.save(figures.confusion_matrix(evaluation), tmp_path / "figures" / "confusion_matrix.png")
    with Image.open(tmp_path / "figures" / "confusion_matrix.png") as image:
        assert (np.asarray(image) == pixels).all()
    assert pixels.std() > 10, "something is drawn"


def test_a_few_images_fill_a_part_of_the_grid(evaluation):
    class Five(list):
        def augmented(self, key):
            return IMAGES[key[0]]

    figure = figures.samples(figures.first_samples(Five(range(5)), seed=0), ["ant", "bee"].__getitem__)
    assert len([title for title, _ in titles(figure) if title]) == 5


@pytest.mark.parametrize("count", [3, 40])
def test_a_confusion_matrix_of_many_classes_is_drawn(count, tmp_path):
    labels = torch.arange(count).repeat(2)
    logits = torch.randn(2 * count, count).numpy()
    evaluation = Predictions([""] * 2 * count, labels.numpy(), logits, [f"species {n}" for n in labels[:count]])
    assert charts.save(figures.confusion_matrix(evaluation), tmp_path / "matrix.png").shape[0] >= 360


@pytest.mark.parametrize("note", [None, "0.1 is the largest one tried"])
def test_the_path_of_penalties_says_where_its_end_was_chosen(note):
    path = [{"penalty": 0.1, "loss": 0.2, "acc": 0.9}, {"penalty": 0.01, "loss": 0.3, "acc": 0.8}]
    figure = charts.penalty_path({"path": path, "penalty": 0.1, "note": note})
    assert figure.axes[0].get_xlabel() == ("L2 penalty\n" + note if note else "L2 penalty")
