"""Nearest neighbours are those of a search by hand, and an image never votes on itself."""

import numpy as np
import pytest
import torch

from thaw.features import linear_objective, neighbours
from thaw.features.linear_objective import FeatureRows
from thaw.features.neighbours import neighbour_accuracy
from thaw.features.store import StoredFeatures

CPU = torch.device("cpu")


def drawn(images=90, classes=3, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    centres = random.normal(size=(classes, 8))
    return (centres[labels] + 1.2 * random.normal(size=(images, 8))).astype(np.float32), labels


def by_hand(features, labels, asked):
    x = features / np.linalg.norm(features, axis=1, keepdims=True)
    right = 0
    for image in asked:
        similar = {other: float(x[image] @ x[other]) for other in range(len(x)) if other != image}
        votes = np.zeros(labels.max() + 1)
        for other in sorted(similar, key=similar.get, reverse=True)[:20]:
            votes[labels[other]] += np.exp(similar[other] / 0.07)
        right += votes.argmax() == labels[image]
    return right / len(asked)


@pytest.mark.parametrize("chunk", [2**24, 8 * 25], ids=["one chunk", "chunks"])
def test_the_accuracy_is_that_of_a_search_by_hand(monkeypatch, chunk):
    monkeypatch.setattr(linear_objective, "_CHUNK", chunk)
    features, labels = drawn()
    rows = FeatureRows([StoredFeatures(torch.from_numpy(features))] * 2, labels.tolist(), 3, CPU)
    expected = by_hand(features, labels, range(90))
    assert neighbour_accuracy(rows) == (pytest.approx(expected), 90)
    assert 0.4 < expected < 0.95


def test_of_many_images_some_are_asked_evenly_spread(monkeypatch):
    monkeypatch.setattr(neighbours, "_MOST_ASKED", 10)
    features, labels = drawn()
    rows = FeatureRows([StoredFeatures(torch.from_numpy(features))], labels.tolist(), 3, CPU)
    asked = np.linspace(0, 89, 10).round().astype(int)
    assert neighbour_accuracy(rows) == (pytest.approx(by_hand(features, labels, asked)), 10)


def test_equal_images_are_right_as_often_as_guesses():
    labels = [0, 1] * 20
    rows = FeatureRows([StoredFeatures(torch.ones(40, 8))], labels, 2, CPU)
    assert neighbour_accuracy(rows)[0] <= 0.5


def test_a_single_image_has_no_neighbours():
    rows = FeatureRows([StoredFeatures(torch.ones(1, 8))], [1], 2, CPU)
    assert neighbour_accuracy(rows) == (0.0, 1)
