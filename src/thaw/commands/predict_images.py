"""Predict the classes of images, with calibrated probabilities.

RUN is a run's folder or a checkpoint; the training data are not needed. A PATH is a file, a folder, a pattern such as
'photos/*.jpg', or - to read paths from standard input. Files that cannot be read are reported and skipped; the exit
status is then 1.
"""

import contextlib
import io
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from thaw.commands import frame
from thaw.errors import UserError
from thaw.runs.streams import print_error
from thaw.runs.writable import refuse_unwritable, refuse_unwritable_file

if TYPE_CHECKING:
    from thaw.inference.trained_model import TrainedModel

PRINTS_RESULTS = True  # end silently if the reader of standard output, such as head, closes it


def options() -> Namespace:
    parser = frame.parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN")
    add("paths", nargs="+", metavar="PATH")
    add("--format", choices=("table", "csv", "json"), default="table", help="json writes one line per image (table)")
    add("--top", type=frame.whole(), default=1, metavar="K", help="number of classes to write per image (1)")
    add("--threshold", type=frame.share(), default=0.0, metavar="P", help="print 'unsure' below this probability (0)")
    add(
        "--sets",
        type=frame.coverage,
        nargs="?",
        const=0.9,
        metavar="C",
        help="also write the classes that contain the right one with probability C (0.9); put --sets behind the paths",
    )
    add("--unknown", action="store_true", help="write 'none of these' for an image that belongs to no class")
    add("--out", type=Path, metavar="FILE", help="file for the predictions (standard output)")
    add("--gallery", type=Path, metavar="FILE", help="also write a page with the images, the least certain first")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    try:
        faults, done = _predict(chosen)
        sys.stdout.flush()
    except OSError as error:
        name = chosen.out or chosen.gallery or "standard output"
        raise UserError(f"{name} cannot be written ({error.strerror}).") from error
    for fault in faults:
        print_error(fault)
    return 0 if not faults else 1 if done else 2


def _predict(chosen: Namespace) -> tuple[list[str], int]:
    """Write the predictions. Return one sentence for each unreadable file, and the number of predicted images."""
    from tqdm import tqdm  # imported here: these imports take seconds, and --help does not need them

    from thaw.inference.gallery import for_gallery, write_gallery
    from thaw.inference.image_paths import image_paths
    from thaw.inference.predict import predictions
    from thaw.inference.prediction_tables import FORMATS, Columns
    from thaw.storage.files import whole_file

    _check_output(chosen)
    paths, faults = image_paths(chosen.paths, sys.stdin)
    model = _model(chosen)
    if model.several and chosen.threshold:
        raise UserError(
            f"--threshold {chosen.threshold:g} is for images with one class; this model has a threshold for each class."
        )
    barred = [name for name in model.classes if "|" in name]
    if chosen.sets is not None and chosen.format == "csv" and barred:
        raise UserError(f"--sets --format csv separates classes by |, which {barred[0]!r} contains: use --format json.")
    columns = Columns(min(chosen.top, len(model.classes)), chosen.threshold, chosen.sets is not None, chosen.unknown)
    found = predictions(model, paths, columns.top, chosen.sets, chosen.unknown)
    shown, done = [], 0
    with whole_file(chosen.out) if chosen.out else contextlib.nullcontext(sys.stdout) as file:
        write = FORMATS[chosen.format](file, paths, model.classes, columns)
        hidden = not sys.stderr.isatty() or (not chosen.out and sys.stdout.isatty())
        for prediction in tqdm(found, "predicting", len(paths), disable=hidden):
            if prediction.fault:
                faults.append(prediction.fault)
            else:
                write(prediction)
                done += 1
            if chosen.gallery:
                shown.append(for_gallery(prediction))
    if chosen.gallery:
        write_gallery(chosen.gallery, str(chosen.run), shown, chosen.threshold)
    return faults, done


def _check_output(chosen: Namespace) -> None:
    if chosen.format == "csv" and not chosen.out:  # keep the bytes of file names, as with --out
        cast(io.TextIOWrapper, sys.stdout).reconfigure(encoding="utf-8", errors="surrogateescape")
    if chosen.out:
        refuse_unwritable_file(chosen.out, "--out")
    if chosen.gallery:
        if chosen.out and chosen.out.absolute() == chosen.gallery.absolute():
            raise UserError(f"--out and --gallery both name {chosen.out}: choose two files.")
        refuse_unwritable(chosen.gallery.parent, "--gallery")
        refuse_unwritable_file(chosen.gallery, "--gallery")


def _model(chosen: Namespace) -> "TrainedModel":
    """Load the model. For sets and distances it computes in float32, so that they equal those of an exported model."""
    from thaw.inference.trained_model import load_model

    model = load_model(chosen.run, exact=chosen.sets is not None or chosen.unknown)
    if chosen.sets is not None:
        model.limits.required_sets()
    if chosen.unknown:
        model.limits.required_distance()
    return model
