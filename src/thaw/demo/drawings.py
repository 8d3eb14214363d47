"""Cartoon animals drawn with Pillow: training images that need no download.

Species differ only in shape: ears, snout, pupils, whiskers. Colour, pose, size, background, clutter, light and noise
have the same distributions for every species. Traits are sometimes missing or borrowed from another species, so that no
single trait identifies a species.
"""

import math
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from thaw.demo.faces import SPECIES, Face, random_colour

SIZE = 80
_OVERSAMPLING = 2
_CANVAS = SIZE * _OVERSAMPLING
TARGET_SPECIES = ("cat", "dog")
SOURCE_SPECIES = tuple(name for name in SPECIES if name not in TARGET_SPECIES)


def draw_animal(species: str, seed: int | str) -> Image.Image:
    """Return an RGB image of `SIZE` x `SIZE` pixels. Equal arguments and library versions give equal pixels."""
    rng = random.Random(f"{species}/{seed}")
    image = _background(rng)
    Face(species, rng, _CANVAS).draw(ImageDraw.Draw(image))
    image = image.reduce(_OVERSAMPLING)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    return _photograph(image, rng)


def _background(rng: random.Random) -> Image.Image:
    corners = np.array([random_colour(rng), random_colour(rng)], dtype=np.float32)
    ramp = np.linspace(0, 1, _CANVAS, dtype=np.float32)[:, None, None]
    pixels = np.broadcast_to(corners[0] * (1 - ramp) + corners[1] * ramp, (_CANVAS, _CANVAS, 3))
    image = Image.fromarray(pixels.astype(np.uint8))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.TRANSPOSE)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 7)):
        _clutter(draw, rng)
    return image


def _clutter(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    x, y = rng.uniform(0, _CANVAS), rng.uniform(0, _CANVAS)
    size = rng.uniform(0.04, 0.2) * _CANVAS
    fill = random_colour(rng)
    shape = rng.choice(("ellipse", "triangle", "line", "box"))
    if shape == "ellipse":
        draw.ellipse((x - size, y - size * 0.6, x + size, y + size * 0.6), fill=fill)
    elif shape == "box":
        draw.rectangle((x - size, y - size * 0.5, x + size, y + size * 0.5), fill=fill)
    elif shape == "line":
        angle = rng.uniform(0, math.pi)
        dx, dy = math.cos(angle) * size * 2, math.sin(angle) * size * 2
        draw.line((x - dx, y - dy, x + dx, y + dy), fill=fill, width=rng.randint(2, 6))
    else:
        turn = rng.uniform(0, 2 * math.pi)
        corners = [turn + k * 2 * math.pi / 3 for k in range(3)]
        draw.polygon([(x + math.cos(a) * size, y + math.sin(a) * size) for a in corners], fill=fill)


def _photograph(image: Image.Image, rng: random.Random) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    cast = np.array([rng.uniform(0.8, 1.2) for _ in range(3)], dtype=np.float32)
    pixels = (pixels - 128) * rng.uniform(0.6, 1.15) + 128 + rng.uniform(-25, 25)
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray((pixels * cast + noise * rng.uniform(2, 11)).clip(0, 255).astype(np.uint8))
