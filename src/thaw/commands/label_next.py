"""Choose which images to label next, and prepare a folder in which to label them.

RUN is a run's folder or a checkpoint. A PATH is a file, a folder, a pattern such as 'photos/*.jpg', or - to read paths
from standard input. The folder DIR gets copies of the chosen images in unsorted/, an empty folder for each class in
train/, a table and a page. Files that cannot be read are reported and skipped; the exit status is then 1.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from thaw.commands import frame
from thaw.errors import UserError
from thaw.runs.streams import print_error
from thaw.runs.writable import refuse_unwritable


def options() -> Namespace:
    parser = frame.parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN")
    add("paths", nargs="+", metavar="PATH")
    add("-n", "--count", type=frame.whole(), default=50, metavar="N", help="number of images to choose (50)")
    add("--out", type=Path, default=Path("outputs/label_next"), metavar="DIR", help="a new folder (outputs/label_next)")
    add("--labelled", nargs="+", metavar="PATH", help="labelled images (the run's training images)")
    add("--curve", type=Path, metavar="SWEEP", help="folder of a sweep=label_budget, for the expected gain")
    add("--seed", type=frame.whole(0), default=0, help="seed of the choice (0)")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    try:
        _refuse_used(chosen.out)
        refuse_unwritable(chosen.out, "--out")
        faults = _label_next(chosen)
    except OSError as error:
        raise UserError(f"--out {chosen.out} cannot be written ({error.strerror}): choose another folder.") from error
    for fault in faults:
        print_error(fault)
    return 1 if faults else 0


def _refuse_used(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file; choose a new folder.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--out {folder} is not empty; choose a new folder.")


def _label_next(chosen: Namespace) -> list[str]:
    """Write the folder, and return a sentence for each unreadable file."""
    # Imported here, because these imports take seconds, and --help does not need them.
    from thaw.comparison.expected_gain import read_label_budget
    from thaw.inference.image_paths import image_paths
    from thaw.inference.labelling.label_folder import CLASSES, PAGE, UNSORTED, write_label_folder
    from thaw.inference.labelling.label_selection import Labelled, labelled_images, select
    from thaw.inference.run_checkpoint import run_folder
    from thaw.inference.trained_model import load_model
    from thaw.pages.text import amount

    paths, faults = image_paths(chosen.paths, sys.stdin)
    if not paths:
        raise UserError(" ".join(faults))
    model = load_model(chosen.run)
    if model.several:
        raise UserError(
            f"images of {chosen.run} can have several classes; label_next chooses among images with one class."
        )
    budget = read_label_budget(chosen.curve, run_folder(model.source)) if chosen.curve else None
    labelled = Labelled(_named_images(chosen.labelled), []) if chosen.labelled else labelled_images(model)
    found = select(model, paths, labelled, chosen.count, chosen.seed)
    more = len(found.images)
    gain = str(budget.gain(found.labelled, more)) if budget else ""
    write_label_folder(chosen.out, str(chosen.run), model.classes, found, gain)
    left_out = f" ({amount(found.copies, 'copy')} left out)" if found.copies else ""
    print(f"{amount(more, 'image')} of {amount(found.candidates, 'candidate')}{left_out} in {chosen.out / UNSORTED}")
    if gain:
        print(gain)
    print(f"page     {chosen.out / PAGE}")
    print(f"Move each image into the folder of its class in {chosen.out / CLASSES}; then copy these folders to yours.")
    return [*faults, *found.faults]


def _named_images(named: Sequence[str]) -> list[str]:
    from thaw.inference.image_paths import image_paths

    paths, faults = image_paths(named, sys.stdin)
    if faults:
        raise UserError(f"--labelled: {faults[0]}")
    return paths
