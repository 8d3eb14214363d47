"""Corruptions of images: what they do, and that they do it again."""

import colorsys

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from thaw.evaluation.corruptions import CORRUPTIONS, blurred, brightened, noisy


@pytest.fixture
def crop():
    """Patches in colours, with edges between them."""
    patches = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 8, 8), dtype=np.uint8))
    return patches.repeat_interleave(8, 1).repeat_interleave(8, 2)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda one: f"{one.kind}-{one.severity}")
def test_the_same_crop_becomes_the_same_and_stays_as_it_was(corruption, crop):
    before = crop.clone()
    once, again = corruption(crop, 5), corruption(crop, 5)
    assert once.dtype == torch.uint8 and once.shape == crop.shape
    assert torch.equal(once, again) and torch.equal(crop, before)
    assert not torch.equal(once, crop)


@pytest.mark.parametrize("kind", ["blur", "noise", "JPEG", "brightness"])
def test_the_stronger_the_further_from_the_image(kind, crop):
    changes = [(one(crop, 0).float() - crop).abs().mean().item() for one in CORRUPTIONS if one.kind == kind]
    assert len(changes) == 3
    assert changes == sorted(changes)


def test_noise_has_the_deviation_it_says_and_is_another_for_another_image():
    grey = np.full((128, 128, 3), 128, np.uint8)
    first, second = noisy(grey, 0.08, 0), noisy(grey, 0.08, 1)
    assert first.std() / 255 == pytest.approx(0.08, rel=0.02)
    assert first.mean() == pytest.approx(128, abs=0.5)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(first[..., 0].ravel(), first[..., 1].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize(("side", "sigma"), [(224, 3), (112, 1.5)])
def test_blur_is_gaussian_and_as_wide_in_proportion_in_crops_of_any_size(side, sigma):
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[: side // 2] = 255
    expected = gaussian_filter(pixels.astype(float), (sigma, sigma, 0), mode="nearest")
    assert np.abs(blurred(pixels, 3, 0) - expected).max() < 6


def test_brightness_raises_the_value_and_keeps_hue_and_saturation():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    bright = brightened(pixels, 0.3, 0)
    for before, after in zip(pixels.reshape(-1, 3) / 255, bright.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1))
        assert after / 255 == pytest.approx(expected, abs=0.51 / 255)
    assert bright[0, 0].tolist() == [76] * 3
