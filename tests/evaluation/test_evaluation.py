import csv

import numpy as np
import pytest
import torch

from thaw.evaluation.measures import metrics, wilson
from thaw.evaluation.predictions import Predictions, joined
from thaw.evaluation.predictions_table import write_predictions


@pytest.fixture
def evaluation():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.2, 0.5, 0.3]])
    paths = [f"/photos/val/{n}.jpg" for n in range(5)]
    return Predictions(paths, np.array([0, 0, 0, 2, 1]), probabilities.log().numpy(), ["ant", "bee", "cow"])


def test_metrics_equal_those_worked_out_by_hand(evaluation):
    found = metrics(evaluation)
    assert found["n"] == 5
    assert found["acc"] == 4 / 5
    assert found["macro_acc"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    f1 = (2 * 1 * (2 / 3) / (1 + 2 / 3), 2 * 0.5 * 1 / 1.5, 1)
    assert found["macro_f1"] == pytest.approx(sum(f1) / 3)
    loss = -torch.tensor([0.7, 0.3, 0.6, 0.8, 0.5]).log().mean()
    assert found["loss"] == pytest.approx(loss.item())
    # each answer is alone in its bin but the two at 0.6, of which one is right
    assert found["ece"] == pytest.approx((0.3 + 2 * abs(0.5 - 0.6) + 0.2 + 0.5) / 5, abs=1e-6)


def test_the_interval_is_wilsons():
    """Newcombe 1998, table I: 81 of 263 and 0 of 20."""
    assert wilson(81, 263) == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert wilson(0, 20) == pytest.approx([0, 0.1611], abs=5e-5)


def test_confusion_counts_true_against_predicted(evaluation):
    assert evaluation.confusion.toarray().tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_predictions_are_written_with_names_and_probabilities(evaluation, tmp_path):
    write_predictions(tmp_path / "predictions.csv", evaluation, "/photos")
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "predicted", "confidence", "p_ant", "p_bee", "p_cow"]
    assert rows[1] == {"path": "val/1.jpg", "label": "ant", "predicted": "bee", "confidence": "0.600000",
                       "p_ant": "0.300000", "p_bee": "0.600000", "p_cow": "0.100000"}  # fmt: skip


def test_batches_are_joined_in_order_and_let_go():
    batches = list(torch.arange(14.0).reshape(7, 2).split(3))
    assert (joined(batches) == np.arange(14.0).reshape(7, 2)).all() and not batches
