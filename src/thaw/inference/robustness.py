"""The accuracy of a run on corrupted validation images: `robustness=true`."""

from pathlib import Path

import numpy as np

from thaw.data.datamodule import ImageFolderDataModule
from thaw.evaluation.corruptions import CORRUPTIONS
from thaw.inference.folder_predictions import predict_folder
from thaw.inference.trained_model import load_model
from thaw.runs import run_files
from thaw.storage.files import write_rows


def write_robustness(folder: Path, data: ImageFolderDataModule) -> dict[str, float]:
    """Write whether the run in `folder` classifies each corrupted validation image correctly; return the accuracies.

    `corrupted_predictions.csv` has a row per image and a column of 0 or 1 for each corruption. The result has, for
    each kind of corruption, the mean accuracy over its severities. `acc` is the mean over all corruptions.
    """
    found = predict_folder(load_model(folder), data.val.samples, CORRUPTIONS)
    columns = {
        f"{one.kind} {one.severity}": right for one, (right, _) in zip(CORRUPTIONS, found.corrupted, strict=True)
    }
    rows = [
        {
            "path": Path(path).relative_to(data.root).as_posix(),
            **{name: int(right[n]) for name, right in columns.items()},
        }
        for n, path in enumerate(found.clean.paths)
    ]
    write_rows(folder / run_files.CORRUPTED_PREDICTIONS, ["path", *columns], rows)
    kinds = dict.fromkeys(one.kind for one in CORRUPTIONS)
    accuracies = {kind: np.mean([right for name, right in columns.items() if name.startswith(kind)]) for kind in kinds}
    return {"acc": float(np.mean(list(columns.values()))), **{kind: float(acc) for kind, acc in accuracies.items()}}
