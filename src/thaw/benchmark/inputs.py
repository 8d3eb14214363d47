"""The benchmark's inputs for Thaw and the plain PyTorch loop: images as large as photographs, and random weights."""

import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from tqdm import tqdm

from thaw.demo.drawings import TARGET_SPECIES, draw_animal
from thaw.errors import UserError
from thaw.storage.cache import build_once
from thaw.storage.versions import DRAWINGS

WIDTH, HEIGHT = 500, 375
_RESNETS = ("resnet", "resnext", "wide_resnet")


def drawn_photographs(train: int, val: int) -> Path:
    """Return a folder of drawn JPEGs as slow to decode as photographs. `train` and `val` are image counts per class."""
    total = (train + val) * len(TARGET_SPECIES)
    return build_once(
        f"benchmark/{WIDTH}x{HEIGHT}-{train}-{val}-v{DRAWINGS}",
        lambda root: _draw(root, {"train": train, "val": val}),
        lambda root: len(list(root.rglob("*.jpg"))) == total,
        keep=2,
    )


def _draw(root: Path, counts: dict[str, int]) -> None:
    names = [(split, name, n) for split, count in counts.items() for name in TARGET_SPECIES for n in range(count)]
    for split, name, number in tqdm(names, "drawing images", leave=False, disable=not sys.stderr.isatty()):
        path = root / split / name / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        enlarged(draw_animal(name, f"benchmark/{split}/{number}"), number).save(path, quality=90)


def enlarged(image: Image.Image, seed: int) -> Image.Image:
    """Return `image` resized to `WIDTH` x `HEIGHT` pixels, with noise. Without noise, JPEG files would be too small."""
    image = image.resize((WIDTH, WIDTH), Image.Resampling.BICUBIC)
    top = (WIDTH - HEIGHT) // 2
    pixels = np.asarray(image.crop((0, top, WIDTH, top + HEIGHT)), dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32)
    return Image.fromarray((pixels + 4 * noise).clip(0, 255).astype(np.uint8))


def check_model(model: str) -> None:
    """Raise UserError if `model` is not one of torchvision's ResNets."""
    choices = [name for name in torchvision.models.list_models(torchvision.models) if name.startswith(_RESNETS)]
    if model not in choices:
        raise UserError(f"--model {model} is no ResNet, but the loop needs one; the choices are {', '.join(choices)}.")


def random_weights(model: str, path: Path) -> Path:
    """Write a state dict of torchvision's `model` with random weights, the same in every call; return `path`."""
    torch.manual_seed(0)
    torch.save(torchvision.models.get_model(model).state_dict(), path)
    return path
