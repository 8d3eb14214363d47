"""The ids that a run or a sweep has in MLflow and Weights & Biases, kept in its folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from thaw.runs import run_files
from thaw.storage.files import write_whole


@dataclass(frozen=True)
class TrackedFolder:
    """The folder of a run or a sweep, which keeps ids in its file `trackers.json`.

    Args:
        path: the absolute path of the folder.
        continues: whether the run or sweep goes on with the ids in the folder.

    """

    path: Path
    continues: bool

    @property
    def sweep(self) -> Path | None:
        """Return the folder of the sweep that this folder belongs to; a sweep belongs to itself."""
        places = (self.path, *self.path.parents[:2])  # a search has its runs one level deeper
        return next((place for place in places if (place / run_files.SWEEP_CONFIG).is_file()), None)

    @property
    def is_sweep(self) -> bool:
        return self.sweep == self.path

    @property
    def name(self) -> str:
        """Return a short name: `3-probe` for a job of a sweep, otherwise the last two parts of the path."""
        inside = self.sweep and not self.is_sweep
        return self.path.name if inside else "/".join(self.path.parts[-2:])

    def ids(self, tracker: str) -> dict[str, str]:
        """Return the ids to continue with in `tracker`; empty if there are none."""
        return _read(self.path).get(tracker, {}) if self.continues else {}

    def sweep_ids(self, tracker: str) -> dict[str, str]:
        """Return the ids of the sweep around this run; empty for a sweep or a single run."""
        return _read(self.sweep).get(tracker, {}) if self.sweep and not self.is_sweep else {}

    def keep(self, tracker: str, ids: dict[str, str]) -> None:
        """Write the ids in `tracker`, for a later process that continues this run or sweep."""
        write_whole(self.path / run_files.TRACKERS, json.dumps({**_read(self.path), tracker: ids}, indent=2) + "\n")


def _read(folder: Path) -> dict:
    path = folder / run_files.TRACKERS
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
