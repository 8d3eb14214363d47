"""Image folders of the demo, drawn once and cached: cats and dogs, and other animals for pretraining."""

from pathlib import Path

from thaw.demo.drawings import SOURCE_SPECIES, TARGET_SPECIES, draw_animal
from thaw.storage.cache import build_once
from thaw.storage.versions import DRAWINGS

SOURCE_TRAIN, SOURCE_VAL = 300, 25


def target_folder(train: int = 50, val: int = 200, seed: int = 0) -> Path:
    """Return the folder of cats and dogs. `train` and `val` are image counts per class."""
    return _cached_folder("target", TARGET_SPECIES, {"train": train, "val": val}, seed)


def source_folder() -> Path:
    """Return the folder of the eight species other than cat and dog, on which demo weights are pretrained."""
    return _cached_folder("source", SOURCE_SPECIES, {"train": SOURCE_TRAIN, "val": SOURCE_VAL}, seed=0)


def draw_folder(root: Path, species: tuple[str, ...], counts: dict[str, int], seed: int) -> None:
    """Write `root/<split>/<species>/<number>.jpg`. Equal arguments and Pillow versions give equal files."""
    for split, count in counts.items():
        for name in species:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                draw_animal(name, f"{seed}/{split}/{number}").save(folder / f"{number:04d}.jpg", quality=90)


def _cached_folder(task: str, species: tuple[str, ...], counts: dict[str, int], seed: int) -> Path:
    numbers = "-".join(str(count) for count in counts.values())

    def is_whole(root: Path) -> bool:
        return all(len(list((root / split).rglob("*.jpg"))) == n * len(species) for split, n in counts.items())

    return build_once(
        f"demo/{task}-{numbers}-seed{seed}-v{DRAWINGS}",
        lambda root: draw_folder(root, species, counts, seed),
        is_whole,
        keep=8,
    )
