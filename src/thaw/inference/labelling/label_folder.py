"""The folder in which a person labels images: copies to sort, a folder per class, a table and a page."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from thaw.data.thumbnails import thumbnail_url
from thaw.inference.labelling.label_selection import Selection
from thaw.pages.html import render
from thaw.runs.optional_output import write_page
from thaw.storage.files import write_rows

UNSORTED, CLASSES, TABLE, PAGE = "unsorted", "train", "label_next.csv", "label_next.html"

_COLUMNS = ("rank", "file", "path", "reason", "predicted", "confidence", "margin")
_SIDE = 224  # pixels of a thumbnail


def write_label_folder(folder: Path, model: str, classes: Sequence[str], found: Selection, gain: str = "") -> None:
    """Write copies of the chosen images to `folder`, and an empty folder for each class.

    `gain` is a sentence for the page.

    Raises:
        OSError: if a file cannot be written.

    """
    (folder / UNSORTED).mkdir(parents=True)
    for name in classes:
        (folder / CLASSES / name).mkdir(parents=True)
    rows, digits = [], len(str(len(found.images)))
    for rank, image in enumerate(found.images, start=1):
        file = f"{rank:0{digits}}_{Path(image.path).name}"
        shutil.copyfile(image.path, folder / UNSORTED / file)
        numbers = {"confidence": f"{image.confidence:.6f}", "margin": f"{image.margin:.6f}"}
        rows.append({**asdict(image), **numbers, "rank": rank, "file": f"{UNSORTED}/{file}"})
    write_rows(folder / TABLE, _COLUMNS, rows)
    write_page(folder / PAGE, lambda: _page(model, found, gain))


def _page(model: str, found: Selection, gain: str) -> str:
    shown = [{**asdict(image), "picture": thumbnail_url(Path(image.path), _SIDE)} for image in found.images]
    return render("label_next.html.jinja", model=model, found=found, gain=gain, shown=shown)
