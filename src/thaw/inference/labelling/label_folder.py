"""The folder in which a person labels images: copies to sort, a folder per class, a table and a page."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from thaw.data.thumbnails import thumbnail_url
from thaw.inference.labelling.label_selection import Selection, ToLabel
from thaw.pages.html import render
from thaw.runs.optional_output import write_page
from thaw.storage.files import write_rows

UNSORTED, CLASSES, TABLE, PAGE = "unsorted", "train", "label_next.csv", "label_next.html"

_COLUMNS = ("rank", "file", "path", "reason", "predicted", "confidence", "margin")
_SIDE = 224  # pixels of a thumbnail


def write_label_folder(folder: Path, model: str, classes: Sequence[str], found: Selection, gain: str = "") -> None:
    """Write copies of the chosen images to the new or empty `folder`, and an empty folder for each class.

    The folder appears only when it is complete. `gain` is a sentence for the page.

    Raises:
        OSError: if a file cannot be written.

    """
    with tempfile.TemporaryDirectory(prefix=f".{folder.name[:100]}-", dir=folder.parent) as temporary:
        part = Path(temporary) / "part"
        for name in (UNSORTED, *(f"{CLASSES}/{name}" for name in classes)):
            (part / name).mkdir(parents=True)
        write_rows(part / TABLE, _COLUMNS, [_copied(part, rank, image) for rank, image in enumerate(found.images, 1)])
        write_page(part / PAGE, lambda: _page(model, found, gain))
        part.rename(folder)


def _copied(folder: Path, rank: int, image: ToLabel) -> dict[str, object]:
    """Copy an image into the folder; return its row of the table."""
    source = Path(image.path)
    # A file name has at most 255 bytes.
    stem = os.fsdecode(os.fsencode(f"{rank:04}_{source.stem}")[: 255 - len(os.fsencode(source.suffix))])
    file = f"{UNSORTED}/{stem}{source.suffix}"
    shutil.copyfile(source, folder / file)
    numbers = {"confidence": f"{image.confidence:.6f}", "margin": f"{image.margin:.6f}"}
    return {**asdict(image), **numbers, "rank": rank, "file": file}


def _page(model: str, found: Selection, gain: str) -> str:
    shown = [{**asdict(image), "picture": thumbnail_url(Path(image.path), _SIDE)} for image in found.images]
    return render("label_next.html.jinja", model=model, found=found, gain=gain, shown=shown)
