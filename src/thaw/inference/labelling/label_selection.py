"""Choose the next images to label for a trained model, and prepare a folder in which to label them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thaw.data.digests import file_digests
from thaw.errors import UserError
from thaw.inference.labelling.choice import are_enough, choose
from thaw.inference.labelling.described_images import described
from thaw.inference.run_checkpoint import run_folder
from thaw.inference.trained_model import TrainedModel
from thaw.runs.components import instantiate
from thaw.runs.configuration import is_run, read_resolved
from thaw.runs.summary import read_summary
from thaw.runs.targets import refuse_foreign_targets

log = logging.getLogger(__name__)

_UNKNOWN = "without the labelled images, labelled images may be chosen again; --labelled PATH names them."


@dataclass(frozen=True)
class Labelled:
    """Paths of images that have labels: training images, and `others`, such as validation images."""

    train: Sequence[str]
    others: Sequence[str]


@dataclass(frozen=True)
class ToLabel:
    """An image to label. `reason` is "typical" or "doubtful"; `margin` is between the two most probable classes."""

    path: str
    reason: str
    predicted: str
    confidence: float
    margin: float


@dataclass(frozen=True)
class Selection:
    """Images to label, the most useful first, out of `candidates` images. `copies` are copies that were left out."""

    images: Sequence[ToLabel]
    candidates: int
    copies: int
    labelled: int
    faults: Sequence[str]


def select(model: TrainedModel, unlabelled: Sequence[str], labelled: Labelled, count: int, seed: int = 0) -> Selection:
    """Return up to `count` of the images at the paths `unlabelled` that are most useful to label next.

    Files that equal a labelled image are left out; of several equal candidates, only the first one is kept.

    Raises:
        UserError: if no image is left.

    """
    found = described(model, unlabelled, "unlabelled images")
    places = _first_copies(found.paths, [*labelled.train, *labelled.others])
    if not places:
        reason = "none of the images can be read" if not found.paths else "all images are copies of labelled images"
        raise UserError(f"there is nothing to label: {reason}.")
    known = _features(model, labelled.train, width=found.features.shape[1])
    chosen = choose(found.features[places], found.probabilities[places], known, count, seed)
    images = [_to_label(model, found.paths, found.probabilities, places[one.index], one.reason) for one in chosen]
    return Selection(images, len(places), len(found.paths) - len(places), len(known), found.faults)


def _features(model: TrainedModel, labelled: Sequence[str], width: int) -> np.ndarray:
    """Return the features of the labelled images, float (m, `width`), or float (m, 0) if `choose` needs none."""
    if are_enough(len(labelled), len(model.classes)):
        return np.zeros((len(labelled), 0), np.float32)
    return described(model, labelled, "labelled images").features.reshape(-1, width)


def _first_copies(paths: Sequence[str], labelled: Sequence[str]) -> list[int]:
    """Return the indices of `paths` without copies of labelled files, and with only the first of equal files."""
    seen, places = set(file_digests(labelled)), []
    for index, digest in enumerate(file_digests(paths)):
        if digest not in seen:
            seen.add(digest)
            places.append(index)
    return places


def _to_label(model: TrainedModel, paths: Sequence[str], probabilities: np.ndarray, index: int, reason: str) -> ToLabel:
    first, second = np.argsort(-probabilities[index], kind="stable")[:2]
    highest, next_one = probabilities[index, [first, second]].tolist()
    return ToLabel(paths[index], reason, model.classes[int(first)], highest, highest - next_one)


def labelled_images(model: TrainedModel) -> Labelled:
    """Return the images of the run that trained `model`; if they are not known, log a warning and return none."""
    run = run_folder(model.source)
    if not is_run(run):
        log.warning(f"warning: {run} is not the folder of a run; {_UNKNOWN}")
        return Labelled([], [])
    values = read_resolved(run)
    refuse_foreign_targets(values)
    root = read_summary(run).get("data_root")  # an absolute path; the run may have named another one
    try:
        data = instantiate(values["data"], **({"root": root} if root and "root" in values["data"] else {}))
    except UserError as error:
        log.warning(f"warning: {error} {_UNKNOWN[0].upper()}{_UNKNOWN[1:]}")
        return Labelled([], [])
    return Labelled(
        data.train.paths, [path for name, one in data.splits.items() if name != "train" for path in one.paths]
    )
