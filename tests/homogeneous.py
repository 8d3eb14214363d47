"""Draw images that look alike by design (same layout, small defects, noise), and make altered copies of them."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from scipy.ndimage import gaussian_filter

SIDE = 160


def draw(kind: str, number: int, side: int = SIDE) -> Image.Image:
    """Return grey image `number` of a kind in `KINDS`. Images with an odd number have a defect."""
    rng = np.random.default_rng([list(KINDS).index(kind), number])
    grey = KINDS[kind](rng, side, number % 2 == 1)
    grey = np.roll(grey, rng.integers(-2, 3, 2), (0, 1))  # shift the image a little, as a camera would
    grey = grey * rng.uniform(0.93, 1.07) + rng.normal(0, 4, grey.shape)
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


def write_set(root: Path, kind: str, count: int, side: int = SIDE) -> list[Path]:
    """Write `count` different images of a kind, alternately to the class folders `good` and `cracked`."""
    paths = []
    for number in range(count):
        paths.append(root / ("good", "cracked")[number % 2] / f"{number:05}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        draw(kind, number, side).save(paths[-1])
    return paths


def copy_of(path: Path, name: str, target: Path) -> Path:
    """Write a copy of an image to `target`, altered by the function `COPIES[name]`."""
    with Image.open(path) as image:
        COPIES[name](image.convert("L")).save(target)
    return target


def _cell(rng: np.random.Generator, side: int, defect: bool) -> np.ndarray:
    """Draw a solar cell under electroluminescence; defects are cracks and dark spots."""
    y, x = np.mgrid[:side, :side] / side
    grey = 150 - 60 * ((x - 0.5) ** 2 + (y - 0.5) ** 2) + 6 * np.sin(2 * np.pi * 20 * x)
    grey *= 1 + 0.05 * _smooth(rng, side, 0.15)
    for place in (0.2, 0.5, 0.8):
        grey[np.abs(y - place) < 0.015] = 60
    grey[(np.minimum(x, 1 - x) < 0.03) | (np.minimum(y, 1 - y) < 0.03) | (np.abs(x - 0.5) + np.abs(y - 0.5) > 0.9)] = 15
    if defect:
        grey = np.minimum(grey, _crack(rng, side))
        for _ in range(rng.integers(0, 3)):
            u, v, size = *rng.uniform(0.1, 0.9, 2), rng.uniform(0.02, 0.07)
            grey *= 1 - 0.6 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / size**2)
    return grey


def _crack(rng: np.random.Generator, side: int) -> np.ndarray:
    image = Image.new("L", (side, side), 255)
    place, step = rng.uniform(0.1, 0.9, 2), rng.normal(0, 0.04, 2)
    points = [tuple(place * side)]
    for _ in range(rng.integers(4, 10)):
        step = step + rng.normal(0, 0.02, 2)
        place = place + step
        points.append(tuple(place * side))
    ImageDraw.Draw(image).line(points, 40, 2)
    return gaussian_filter(np.asarray(image, float), 0.7)


def _xray(rng: np.random.Generator, side: int, defect: bool) -> np.ndarray:
    """Draw a chest X-ray with lungs, spine and ribs; defects are nodules."""
    y, x = np.mgrid[:side, :side] / side
    jitter = rng.normal(0, 0.012, 8)
    grey = 170 - 50 * np.abs(y - 0.5)
    for sign in (-1, 1):
        lung = ((x - 0.5 - sign * (0.22 + jitter[0])) / (0.16 + jitter[1])) ** 2 + ((y - 0.5 - jitter[2]) / (0.33)) ** 2
        grey -= 90 / (1 + np.exp(12 * (lung - 1)))
    grey += 40 * np.exp(-(((x - 0.5) / 0.05) ** 2))
    bent = y + 0.4 * (1 + jitter[3]) * (x - 0.5) ** 2
    grey += 10 * np.sin(2 * np.pi * (7 + 4 * jitter[4]) * bent + jitter[5])
    grey += 4 * _smooth(rng, side, 0.03)
    for _ in range(rng.integers(1, 3) if defect else 0):
        u, v, size = 0.5 + rng.choice([-1, 1]) * rng.uniform(0.1, 0.3), rng.uniform(0.3, 0.7), rng.uniform(0.02, 0.05)
        grey += 50 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / size**2)
    return grey


def _document(rng: np.random.Generator, side: int, defect: bool) -> np.ndarray:
    """Draw a scanned form with a title, a line and rows of words; the defect is a stamp."""
    image = Image.new("L", (side, side), 235)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0.1 * side, 0.06 * side, 0.6 * side, 0.1 * side), 40)
    pen.line((0.08 * side, 0.14 * side, 0.92 * side, 0.14 * side), 60, 1)
    for row in np.arange(0.2, 0.9, 0.06):
        right = 0.1
        while right < 0.85:
            left, right = right + 0.02, right + 0.02 + rng.uniform(0.03, 0.14)
            pen.rectangle(
                (left * side, row * side, min(right, 0.92) * side, (row + 0.018) * side), int(rng.uniform(50, 110))
            )
    if defect:
        u, v = rng.uniform(0.2, 0.8, 2) * side
        pen.ellipse((u, v, u + 0.15 * side, v + 0.15 * side), outline=120, width=2)
    return gaussian_filter(np.asarray(image, float), 0.6)


def _tile(rng: np.random.Generator, side: int, defect: bool) -> np.ndarray:
    """Draw a grid of equal blocks, as on a wafer or a satellite image; the defect is a missing block."""
    y, x = np.mgrid[:side, :side] / side
    grey = 120 + 40 * (np.sin(2 * np.pi * 5 * x) > -0.7) * (np.sin(2 * np.pi * 5 * y) > -0.7)
    grey = grey + 8 * _smooth(rng, side, 0.02)
    if defect:
        u, v = rng.integers(0, 5, 2) / 5 + 0.05
        grey[(x > u) & (x < u + 0.1) & (y > v) & (y < v + 0.1)] -= 60
    return gaussian_filter(grey, 0.8)


def _smooth(rng: np.random.Generator, side: int, scale: float) -> np.ndarray:
    """Return noise of unit variance, whose grains are `scale` times as wide as the image."""
    grains = gaussian_filter(rng.normal(size=(side, side)), scale * side, mode="wrap")
    return grains / grains.std()


KINDS: dict[str, Callable] = {"cells": _cell, "xrays": _xray, "documents": _document, "tiles": _tile}


def _encoded(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=quality)
    return Image.open(file).convert("L")


def _resized(image: Image.Image, scale: float) -> Image.Image:
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


def _cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop(tuple(map(round, (left * width, top * height, (1 - right) * width, (1 - bottom) * height))))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "encoded": lambda image: _encoded(image, 80),
    "encoded hard": lambda image: _encoded(image, 45),
    "halved": lambda image: _resized(image, 0.5),
    "enlarged": lambda image: _resized(image, 1.7),
    "squeezed": lambda image: image.resize((image.width, round(0.8 * image.height))),
    "mirrored": ImageOps.mirror,
    "brighter": lambda image: image.point(lambda value: value * 1.15 + 8),
    "darker": lambda image: image.point(lambda value: value * 0.8),
    "cropped": lambda image: _cropped(image, 0.025, 0.025, 0.025, 0.025),
    "corner": lambda image: _cropped(image, 0.1, 0.08, 0, 0),
    "side": lambda image: _cropped(image, 0, 0, 0.07, 0),
    "cropped more": lambda image: _cropped(image, 0.12, 0.03, 0.07, 0.16),
    "all": lambda image: _encoded(_resized(_cropped(ImageOps.mirror(image), 0.05, 0.0, 0.06, 0.1), 0.8), 70),
}
