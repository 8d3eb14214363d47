"""Write a messy collection of pictures like Microsoft's PetImages, with known defects."""

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from thaw.demo.drawings import draw_animal

CLASSES = ("Cat", "Dog")


class Heap:
    """Writes `count` intact pictures per class to `root/<class>/<number>.jpg`; `planted` lists the defects by kind."""

    def __init__(self, root: Path, count: int, seed: int = 0):
        self.root, self.planted, self._random = root, {}, random.Random(seed)
        self.good = []
        for name in CLASSES:
            (root / name).mkdir(parents=True)
            for number in range(count):
                path = root / name / f"{number}.jpg"
                self.picture(f"{seed}/{number}", name).save(path, quality=92)
                self.good.append(path)

    def picture(self, key: str, name: str = "Cat") -> Image.Image:
        return draw_animal(name.lower(), key).resize((150, 120), Image.Resampling.BICUBIC)

    def plant(self, kind: str, name: str, content: bytes | Image.Image | None, **options) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Image.Image):
            content.save(path, **options)
        else:
            path.write_bytes(content)
        self.planted.setdefault(kind, []).append(path.relative_to(self.root))
        return path

    def plant_all(self) -> None:
        """Write one or more files with each defect that a single file can have."""
        whole = self.good[0].read_bytes()
        for name in CLASSES:
            self.plant("empty", f"{name}/empty.jpg", b"")
            self.plant("truncated", f"{name}/cut.jpg", whole[: len(whole) // 2])
            self.plant("no image", f"{name}/text.jpg", b"this is no picture at all " * 20)
        self.plant("unreadable", "Cat/broken.png", _broken_png())
        self.plant("bomb", "Cat/bomb.png", _bomb())
        self.plant("misnamed", "Dog/really.jpg", self.picture("bmp"), format="BMP")
        self.plant("misnamed", "Cat/really.jpg", self.picture("png"), format="PNG")
        self.plant("small", "Cat/small.png", self.picture("small").resize((20, 24)))
        self.plant("long", "Dog/long.png", self.picture("long").resize((600, 60)))
        self.plant("blank", "Dog/blank.png", Image.new("RGB", (90, 90), "teal"))
        self.plant("grey", "Cat/grey.jpg", self.picture("grey").convert("L"))
        self.plant("CMYK", "Cat/cmyk.jpg", self.picture("cmyk").convert("CMYK"))
        transparent = self.picture("alpha").convert("RGBA")
        transparent.putalpha(128)
        self.plant("alpha", "Dog/alpha.png", transparent)
        deep = np.asarray(self.picture("deep").convert("L")).astype(np.uint16) * 257
        self.plant("16 bits", "Dog/deep.png", Image.fromarray(deep))
        self.plant("palette", "Dog/palette.png", self.picture("palette").convert("P"))
        exif = Image.Exif()
        exif[0x0112] = 6
        self.plant("turned", "Cat/turned.jpg", self.picture("turned"), exif=exif)
        self.plant("hidden", "Cat/Thumbs.db", b"windows")
        self.plant("stray", "readme.txt", b"pictures")
        self.plant("hidden", "Dog/.DS_Store", b"mac")
        self.plant("hidden", ".ipynb_checkpoints", b"")

    def plant_copies(self, count: int) -> list[tuple[Path, Path]]:
        """Write altered copies of `count` intact pictures; return pairs of relative paths (original, copy)."""
        pairs = []
        for number, original in enumerate(self._random.sample(self.good, count)):
            name, alter = list(ALTERATIONS.items())[number % len(ALTERATIONS)]
            with Image.open(original) as image:
                copy = alter(image.convert("RGB"))
            path = self.plant("near copy", f"{original.parent.name}/{original.stem}-{name}.jpg", copy, quality=90)
            pairs.append((original.relative_to(self.root), path.relative_to(self.root)))
        return pairs


def _cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop((left * width, top * height, width - right * width, height - bottom * height))


def _encoded(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=quality)
    return Image.open(file).convert("RGB")


ALTERATIONS = {
    "encoded": lambda image: _encoded(image, 40),
    "halved": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "enlarged": lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.BILINEAR),
    "mirrored": ImageOps.mirror,
    "cropped": lambda image: _cropped(image, 0.02, 0.02, 0.02, 0.02),
    "corner": lambda image: _cropped(image, 0.04, 0.04, 0, 0),
    "edge": lambda image: _cropped(image, 0, 0, 0.04, 0),
    "all": lambda image: _encoded(_cropped(ImageOps.mirror(image), 0.04, 0, 0, 0.04).resize((140, 100)), 60),
}


def _broken_png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((80, 80), 60).save(file, "png")
    content = bytearray(file.getvalue())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    return bytes(content)


def _bomb() -> bytes:
    """Return a PNG of a few kilobytes with a hundred million pixels."""
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "png")
    return file.getvalue()


def snapshot(root: Path) -> dict[str, tuple]:
    """Return the content and the modification time of every file."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
