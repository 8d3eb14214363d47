"""Measure a trained model on labelled images. RUN is a run's folder or a checkpoint; ROOT has one folder per class.

With --table, a table has the labels of the images in ROOT instead.

Accuracy, calibration and robustness come with 95 % intervals. A page shows the images with the highest loss and where
the model looks. No file in ROOT is changed. The exit status is 1 if some images could not be read, and 2 if no image
could be read.
"""

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.commands import frame
from thaw.errors import UserError
from thaw.runs import run_files
from thaw.runs.optional_output import naming_page
from thaw.runs.ownership import refuse_other_results
from thaw.runs.writable import try_to_write

if TYPE_CHECKING:
    from thaw.inference.labelled_folder import LabelledFolder
    from thaw.inference.trained_model import TrainedModel


def options() -> Namespace:
    parser = frame.parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN")
    add("root", type=Path, metavar="ROOT")
    add("--table", type=Path, metavar="FILE", help="table with the labels of images in ROOT, as for data.table")
    add("--split", metavar="NAME", help="rows of --table to use: train, val or test")
    add("--out", type=Path, metavar="DIR", help="output folder (<run's folder>/evaluation/<ROOT's name>)")
    add("--no-robustness", dest="robustness", action="store_false", help="skip the 12 corruptions of each image")
    add("--top", type=frame.whole(0), default=24, metavar="N", help="number of high-loss images on the page (24)")
    coverage = "coverage of the prediction sets (0.9)"
    add("--coverage", type=frame.coverage, metavar="C", help=coverage)
    add("--foreign", type=Path, metavar="DIR", help="folder of images of none of the classes; are they recognised?")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    from thaw.evaluation.prediction_sets import COVERAGE
    from thaw.inference.evaluate import evaluate
    from thaw.inference.evaluated_limits import predict_foreign
    from thaw.inference.evaluation_page import table, write_evaluation
    from thaw.inference.label_evaluation import evaluate_labels
    from thaw.inference.label_evaluation_page import label_table, write_label_evaluation
    from thaw.inference.run_checkpoint import run_folder
    from thaw.inference.trained_model import load_model

    model = load_model(chosen.run)
    folder = _labelled(chosen, model)
    out = chosen.out or run_folder(model.source) / run_files.EVALUATION / (folder.root.resolve().name or "root")
    refuse_other_results(out, ("evaluation.json",), "an evaluation")
    if chosen.coverage:
        model.limits.required_sets()
    foreign = _foreign_paths(chosen.foreign, folder.root) if chosen.foreign else []
    if foreign:
        model.limits.required_distance()
    with _writing_to(out):  # before the evaluation, which can take an hour
        try_to_write(out)
    others = predict_foreign(model, chosen.foreign, foreign) if foreign else None
    if model.several:
        done = evaluate_labels(model, folder, chosen.top)
        written, shown = partial(write_label_evaluation, out, done), label_table(done.facts)
    else:
        done = evaluate(model, folder, chosen.robustness, chosen.top, chosen.coverage or COVERAGE, others)
        written, shown = partial(write_evaluation, out, done), table(done.facts)
    with _writing_to(out):
        written()
    print(shown + naming_page("page", out / "evaluation.html"))
    faults = [*done.facts["unreadable"], *(others.faults if others else ())]
    for fault in faults:
        print(f"warning: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _labelled(chosen: Namespace, model: "TrainedModel") -> "LabelledFolder":
    from thaw.inference.labelled_folder import read_labelled, read_labelled_table

    root = chosen.root.expanduser()
    if chosen.split and not chosen.table:
        raise UserError(f"--split {chosen.split} selects rows of a table: add --table FILE.")
    if chosen.table:
        return read_labelled_table(root, chosen.table, chosen.split, model)
    if model.several:
        raise UserError(f"images of {chosen.run} can have several classes: name them in a table, with --table FILE.")
    return read_labelled(root, model.classes)


def _foreign_paths(folder: Path, root: Path) -> list[str]:
    from thaw.inference.image_paths import image_paths

    if not folder.expanduser().is_dir():
        raise UserError(f"--foreign {folder} is not a folder; it must be a folder of images.")
    if folder.expanduser().resolve() == root.resolve():
        raise UserError(f"--foreign {folder} is ROOT itself; choose a folder of images that belong to no class.")
    paths, faults = image_paths([str(folder.expanduser())], sys.stdin)
    if faults:
        raise UserError(faults[0])
    return paths


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{folder} cannot be written ({reason}); choose another folder with --out.") from error
