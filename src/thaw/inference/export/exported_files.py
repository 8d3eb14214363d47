"""The files of an export: a folder, or a file with its description and its model card beside it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from thaw.inference.run_checkpoint import checkpoint_path

RECORD, CARD = "export.json", "README.md"  # in a folder
_FOLDER = (RECORD, CARD, "config.json", "model.safetensors")


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    `difference` is the largest difference in probability between the export and the checkpoint, over `images` images.
    """

    path: Path
    images: int
    difference: float

    @property
    def files(self) -> dict[str, Path]:
        """The files of the export by their paths in a repository, where the card of a single file is README.md."""
        if self.path.is_dir():
            files = {name: self.path / name for name in _FOLDER}
        else:
            record, card = beside(self.path)
            files = {self.path.name: self.path, record.name: record, CARD: card}
        return {name: path for name, path in files.items() if path.is_file()}

    @property
    def bytes(self) -> int:
        """Size of the exported file or folder."""
        return sum(path.stat().st_size for path in self.files.values() if self.path in (path, path.parent))


def beside(destination: Path) -> tuple[Path, Path]:
    """Return the description and the model card of an export that is one file."""
    return destination.with_name(f"{destination.name}.json"), destination.with_name(f"{destination.name}.md")


def written_before(run: Path, destination: Path, kind: str) -> Exported | None:
    """Return the export of the same checkpoint to the same format at `destination`, or None if there is none."""
    record = destination / RECORD if destination.is_dir() else beside(destination)[0]
    if not destination.exists() or not record.is_file():
        return None
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        if (values["format"], values["checkpoint"]) == (kind, digest(checkpoint_path(run.expanduser()))):
            return Exported(destination, values["checked_images"], values["largest_difference"])
    except (ValueError, KeyError, TypeError):  # not a description by this version
        pass
    return None


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()
