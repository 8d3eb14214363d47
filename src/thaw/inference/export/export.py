"""Export a checkpoint: write the export to a temporary folder, check it, and move it to its destination."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from thaw.errors import UserError
from thaw.inference.export.exported_model import check, facts
from thaw.inference.export.formats import FORMATS
from thaw.inference.trained_model import load_model
from thaw.runs.writable import refuse_unwritable
from thaw.storage.files import as_json


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    `difference` is the largest difference in probability between the export and the checkpoint, over `images` images.
    """

    path: Path
    bytes: int
    images: int
    difference: float


def export(run: Path, destination: Path, kind: str, images: list[str]) -> Exported:
    """Export a model to `destination`. The description is `<destination>.json`, or `export.json` in an exported folder.

    Raises:
        UserError: if the run has no model, the destination exists or cannot be written, or there are no images to check
            the export with.
        RunError: if the export differs from the checkpoint; the export is deleted.

    """
    record = destination.with_name(f"{destination.name}.json")
    for path in (destination, record):
        if os.path.lexists(path):
            raise UserError(f"{path} exists already; choose another DEST, or delete it.")
    refuse_unwritable(destination.parent, "DEST")
    model = load_model(run, exact=True, device="cpu")
    checked = check(model, images)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=destination.parent) as folder:
        part = Path(folder) / "export"  # an ASCII name, because some libraries refuse names that are not UTF-8
        difference = checked.difference(FORMATS[kind](model, part, checked))
        values = {"format": kind, "run": str(run), **facts(model)}
        values |= {"checked_images": len(checked.images), "largest_difference": difference}
        record = part / "export.json" if part.is_dir() else record
        record.write_text(as_json(values, indent=2) + "\n", encoding="utf-8")
        os.replace(part, destination)
    return Exported(destination, _bytes(destination), len(checked.images), difference)


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
