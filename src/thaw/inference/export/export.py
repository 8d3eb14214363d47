"""An export from its checkpoint to its place: nothing is there that has not been checked."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from thaw.errors import UserError
from thaw.inference.export.formats import FORMATS
from thaw.inference.export.shipped import check, facts
from thaw.inference.trained_model import load_model
from thaw.runs.writable import refuse_unwritable
from thaw.storage.files import as_json


@dataclass(frozen=True)
class Exported:
    """`difference` is the largest between the probabilities of the export and of its checkpoint, of `images` images."""

    path: Path
    bytes: int
    images: int
    difference: float


def export(run: Path, destination: Path, kind: str, images: list[str]) -> Exported:
    """Writes `destination`, and beside a file `<destination>.json` (in a folder `export.json`) with what was found.

    Raises:
        UserError: for a run without a model, a destination that is taken or cannot be written, or no images to check
            with.
        RunError: if the export differs from the checkpoint; it is deleted then.

    """
    record = destination.with_name(f"{destination.name}.json")
    for path in (destination, record):
        if os.path.lexists(path):
            raise UserError(f"{path} is there already: name another place, or delete it.")
    refuse_unwritable(destination.parent, "DEST")
    model = load_model(run, exact=True, device="cpu")
    checked = check(model, images)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=destination.parent) as folder:
        part = Path(folder) / destination.name
        difference = checked.difference(FORMATS[kind](model, part, checked))
        told = {"format": kind, "run": str(run), **facts(model)}
        told |= {"checked_images": len(checked.images), "largest_difference": difference}
        record = part / "export.json" if part.is_dir() else record
        record.write_text(as_json(told, indent=2) + "\n", encoding="utf-8")
        os.replace(part, destination)
    return Exported(destination, _bytes(destination), len(checked.images), difference)


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
