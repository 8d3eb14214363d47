"""How good a trained model is on labelled images: RUN is a run's folder or a checkpoint, ROOT has a folder per class.

Accuracy, calibration and robustness come with 95 % intervals; the images that the model is most wrong about are
pictured with where it looks. Nothing in ROOT is changed. The exit status is 1 if images could not be read and were left
out, and 2 if nothing could be evaluated.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thaw.errors import RunError, UserError
from thaw.runs.ownership import refuse_other_results
from thaw.runs.streams import outlived
from thaw.runs.writable import try_to_write


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN")
    add("root", type=Path, metavar="ROOT")
    add("--out", type=Path, metavar="DIR", help="of what is written (<run's folder>/evaluation/<name of ROOT>)")
    add(
        "--no-robustness",
        dest="robustness",
        action="store_false",
        help="look at each image once, not at 12 corrupted ones, too",
    )
    add("--top", type=_count, default=24, metavar="N", help="images with the highest loss to be pictured (24)")
    return parser.parse_args()


def _count(told: str) -> int:
    if not told.isdecimal():
        raise argparse.ArgumentTypeError(f"{told!r} is not a whole number from 0 on")
    return int(told)


def main() -> int:
    chosen = options()
    try:
        return _evaluate(chosen)
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _evaluate(chosen: argparse.Namespace) -> int:
    from thaw.inference.evaluate import evaluate
    from thaw.inference.evaluation_page import table, write_evaluation
    from thaw.inference.labelled_folder import read_labelled
    from thaw.inference.trained_model import load_model, run_folder

    model = load_model(chosen.run)
    folder = read_labelled(chosen.root.expanduser(), model.classes)
    out = chosen.out or run_folder(model.source) / "evaluation" / (folder.root.resolve().name or "root")
    refuse_other_results(out, ("evaluation.json",), "an evaluation")
    with _writing_to(out):  # lest an hour be spent on what cannot be kept
        try_to_write(out)
    done = evaluate(model, folder, chosen.robustness, chosen.top)
    with _writing_to(out):
        write_evaluation(out, done)
    print(f"{table(done.facts)}\n\npage     {out / 'evaluation.html'}")
    for fault in done.facts["unreadable"]:
        print(f"warning: {fault}", file=sys.stderr)
    return 1 if done.facts["unreadable"] else 0


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{folder} cannot be written to ({reason}); --out names another folder.") from error


if __name__ == "__main__":
    with outlived():
        sys.exit(main())
