"""Drawn scenes with one to three animals, for training on images that have several classes."""

import csv
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from thaw.data.label_sets import SEPARATOR
from thaw.demo.drawings import SIZE, draw_animal
from thaw.demo.faces import SPECIES, random_colour
from thaw.storage.cache import build_once
from thaw.storage.versions import DRAWINGS

_SIDE = 2 * SIZE  # of a scene, in pixels
_TABLE = "labels.csv"
_MOST = 3  # animals in a scene


def scenes_folder(train: int = 400, val: int = 400, seed: int = 0) -> Path:
    """Return a folder of scenes with the table `labels.csv`, drawn once and cached."""
    return build_once(
        f"demo/scenes-{train}-{val}-seed{seed}-v{DRAWINGS}",
        lambda root: draw_scenes(root, tuple(SPECIES), {"train": train, "val": val}, seed),
        lambda root: (root / _TABLE).is_file(),
        keep=8,
    )


def draw_scenes(root: Path, species: Sequence[str], counts: dict[str, int], seed: int) -> None:
    """Write `root/<split>/<number>.jpg` and a table with the species in each scene, joined by |."""
    rows = []
    for split, count in counts.items():
        (root / split).mkdir(parents=True)
        for number in range(count):
            name, rng = f"{split}/{number:04d}.jpg", random.Random(f"{seed}/{split}/{number}")
            shown = rng.sample(species, rng.randint(1, min(_MOST, len(species))))
            draw_scene(shown, rng).save(root / name, quality=90)
            rows.append([name, SEPARATOR.join(sorted(shown)), split])
    with (root / _TABLE).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "split"], *rows])


def draw_scene(species: Sequence[str], rng: random.Random) -> Image.Image:
    """Return an RGB image, twice as wide and high as one of `draw_animal`, with an animal of each species."""
    scene = Image.new("RGB", (_SIDE, _SIDE), random_colour(rng))
    corners = [(x, y) for x in (0, SIZE) for y in (0, SIZE)]
    for name, corner in zip(species, rng.sample(corners, len(species)), strict=True):
        side = rng.randint(SIZE * 3 // 4, SIZE)
        animal = draw_animal(name, f"scene {rng.random()}").resize((side, side))
        x, y = (place + rng.randint(0, SIZE - side) for place in corner)
        scene.paste(animal, (x, y))
    return scene
