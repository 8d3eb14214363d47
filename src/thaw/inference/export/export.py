"""Export a checkpoint: write the export to a temporary folder, check it, and move it to its destination."""

import os
import tempfile
from pathlib import Path

from thaw.errors import UserError
from thaw.inference.export.exported_files import CARD, RECORD, Exported, beside, digest
from thaw.inference.export.exported_model import check, facts
from thaw.inference.export.formats import FORMATS
from thaw.inference.export.model_card import model_card
from thaw.inference.trained_model import load_model
from thaw.runs.optional_output import warn_on_failure
from thaw.runs.writable import refuse_unwritable
from thaw.storage.files import as_json


def export(run: Path, destination: Path, kind: str, images: list[str]) -> Exported:
    """Export a model to `destination`, with a description and a model card.

    They are `export.json` and `README.md` in an exported folder, otherwise `<destination>.json` and `<destination>.md`.

    Raises:
        UserError: if the run has no model, the destination exists or cannot be written, or there are no images to check
            the export with.
        RunError: if the export differs from the checkpoint; the export is deleted.

    """
    record, card = beside(destination)
    for path in (destination, record, card):
        if os.path.lexists(path):
            raise UserError(f"{path} exists already; choose another DEST, or delete it.")
    refuse_unwritable(destination.parent, "DEST")
    model = load_model(run, exact=True, device="cpu")
    checked = check(model, images)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=destination.parent) as folder:
        part = Path(folder) / "export"  # an ASCII name, because some libraries refuse names that are not UTF-8
        difference = checked.difference(FORMATS[kind](model, part, checked))
        # `run` is a name without folders, because an export is given away.
        values = {"format": kind, "run": run.resolve().name, "checkpoint": digest(model.source), **facts(model)}
        values |= {"checked_images": len(checked.images), "largest_difference": difference}
        if part.is_dir():
            record, card = part / RECORD, part / CARD
        with warn_on_failure("the model card"):
            card.write_text(model_card(model, kind, destination.name, part), encoding="utf-8")
        record.write_text(as_json(values, indent=2) + "\n", encoding="utf-8")
        os.replace(part, destination)
    return Exported(destination, len(checked.images), difference)
