"""The distance lets images of the classes pass and stops others."""

import numpy as np
import pytest
import torch

from thaw.evaluation.auroc import auroc
from thaw.evaluation.image_distance import _left_out_distances, fitted_distance

ROUNDING = 0.1  # distances are shares of a norm, and this is added in squares


def drawn(images, classes=3, wide=16, seed=0, spread=0.5, shift=0.0):
    """Return features around one centre per class, as after a ReLU, and labels."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).random((classes, wide)) * 2 + shift
    labels = np.arange(images) % classes
    features = np.maximum(centres[labels] + spread * random.standard_normal((images, wide)), 0)
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def by_loop(x, features, labels, left_out=None):
    """Return both distances of the vector `x` from `features`, without the row `left_out`."""
    rows = [row for row in range(len(features)) if row != left_out]
    near = np.sort([np.linalg.norm(x**0.75 - features[row] ** 0.75) for row in rows])[:5].mean()
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = [units[[row for row in rows if labels[row] == label]].mean(0) for label in np.unique(labels[rows])]
    away = min(np.linalg.norm(x / np.linalg.norm(x) - mean) for mean in means)
    norm = np.linalg.norm(features**0.75, axis=1).mean()
    return np.hypot(near / norm, ROUNDING), np.hypot(away, ROUNDING)


def test_distances_are_those_of_a_loop():
    features, labels = drawn(60)
    fitted, (new, _) = fitted_distance(features, labels), drawn(20, seed=1)
    left_out = np.array([by_loop(x, features.numpy(), labels.numpy(), n) for n, x in enumerate(features.numpy())])
    weights = 1 / np.log(left_out).std(0, ddof=1)
    weights /= weights.sum()
    scores = np.sort(np.log(left_out) @ weights)  # 95 % of 61 images: between the 58th and 59th
    pairs = np.array([by_loop(x, features.numpy(), labels.numpy()) for x in new.numpy()])
    expected = np.exp(np.log(pairs) @ weights - scores[57:59].mean())
    assert np.allclose(fitted(new).numpy(), expected, rtol=2e-3)  # references are float16


def test_class_means_leave_out_the_image_itself():
    features, labels = drawn(21, classes=5)
    labels[0], units = 7, torch.nn.functional.normalize(features)  # a class of one image
    found, means = _left_out_distances(units, labels)
    expected = [by_loop(x, features.numpy(), labels.numpy(), n)[1] for n, x in enumerate(features.numpy())]
    assert np.allclose(found.numpy(), expected, atol=1e-5)
    assert len(means) == 6


def test_a_validation_image_is_not_its_own_neighbour_even_in_bfloat16():
    features, labels = drawn(100, wide=64)
    fitted = fitted_distance(features, labels)
    again = fitted((features * (1 + 0.03 * torch.randn_like(features))).clamp(min=0))
    assert (again > 1).float().mean() <= 0.08
    others = fitted_distance(features[1:], labels[1:])
    assert fitted(features[:1]).item() == pytest.approx(others(features[:1]).item(), rel=0.05)


@pytest.mark.parametrize(("classes", "images"), [(2, 200), (10, 200), (100, 300)])
def test_about_95_of_100_new_images_pass_and_foreign_ones_do_not(classes, images):
    shares = []
    for seed in range(10):
        features, labels = drawn(images, classes, seed=seed)
        new, _ = drawn(1000, classes, seed=seed + 100)
        foreign, _ = drawn(300, 3, seed=seed + 200, shift=1.5)
        fitted = fitted_distance(features, labels)
        shares.append((fitted(new) <= 1).float().mean().item())
        assert auroc(fitted(new).numpy(), fitted(foreign).numpy())["value"] > 0.98
    assert 0.935 <= np.mean(shares) <= 0.98


def test_distances_do_not_depend_on_the_unit_of_the_features():
    (features, labels), (new, _) = drawn(60), drawn(20, seed=1)
    assert torch.allclose(fitted_distance(features, labels)(new), fitted_distance(3e6 * features, labels)(3e6 * new))


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (torch.rand(18, 4), "only 18 validation images"),
        (torch.ones(40, 4), "look alike"),
        (torch.full((40, 4), torch.nan), "not finite"),
        (torch.zeros(40, 4), "look alike"),
    ],
    ids=["few", "alike", "nan", "zero"],
)
def test_features_without_a_distance_give_the_reason(features, reason):
    assert reason in fitted_distance(features, torch.arange(len(features)) % 2)


def test_many_images_are_represented_by_2000():
    features, labels = drawn(5000, 3)
    fitted = fitted_distance(features, labels)
    assert len(fitted.references) == 2000
    assert (fitted(drawn(1000, seed=1)[0]) <= 1).float().mean() == pytest.approx(0.95, abs=0.03)
