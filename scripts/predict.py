"""Say what is on images: the classes of a trained model, with calibrated probabilities.

RUN is the folder of a run, or a checkpoint file of it; the data it was trained on are not needed. A PATH is a file, a
folder, a pattern such as 'photos/*.jpg', or - for a list of paths on standard input. A file that cannot be read is told
of and passed over; the exit status is then 1.
"""

import argparse
import contextlib
import sys
from pathlib import Path

from thaw.errors import RunError, UserError
from thaw.runs.streams import outlived
from thaw.runs.writable import refuse_unwritable, refuse_unwritable_file


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN")
    add("paths", nargs="+", metavar="PATH")
    add("--format", choices=("table", "csv", "json"), default="table", help="json: a line for each image (table)")
    add("--top", type=_count, default=1, metavar="K", help="how many classes are told, the likeliest first (1)")
    add(
        "--threshold", type=_share, default=0.0, metavar="P", help="'unsure' in place of a class less likely than P (0)"
    )
    add("--out", type=Path, metavar="FILE", help="where to write (standard output)")
    add("--gallery", type=Path, metavar="FILE", help="write a page with the images, too, the least sure first")
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number of at least 1")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} must be a number from 0 to 1")
    return value


def main() -> int:
    chosen = options()
    try:
        faults, done = _predict(chosen)
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: {chosen.out or chosen.gallery or 'standard output'} cannot be written ({error.strerror}).",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 0 if not faults else 1 if done else 2


def _predict(chosen: argparse.Namespace) -> tuple[list[str], int]:
    """Write what is asked for; return a sentence for each file that could not be read, and how many could be."""
    from tqdm import tqdm  # these take seconds, which --help need not wait for

    from thaw.inference.gallery import on_a_card, write_gallery
    from thaw.inference.image_paths import image_paths
    from thaw.inference.predict import predictions
    from thaw.inference.prediction_tables import FORMATS
    from thaw.inference.trained_model import load_model
    from thaw.storage.files import whole_file

    if chosen.format == "csv" and not chosen.out:  # data, as in a file: names are the bytes that they are
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    if chosen.out:
        refuse_unwritable_file(chosen.out, "--out")
    if chosen.gallery:
        refuse_unwritable(chosen.gallery.parent, "--gallery")
        refuse_unwritable_file(chosen.gallery, "--gallery")
    paths, faults = image_paths(chosen.paths, sys.stdin)
    model = load_model(chosen.run)
    top = min(chosen.top, len(model.classes))
    shown, done = [], 0
    with whole_file(chosen.out) if chosen.out else contextlib.nullcontext(sys.stdout) as file:
        write = FORMATS[chosen.format](file, paths, model.classes, top, chosen.threshold)
        hidden = not sys.stderr.isatty() or (not chosen.out and sys.stdout.isatty())
        for prediction in tqdm(predictions(model, paths, top), "predicting", len(paths), disable=hidden):
            if prediction.fault:
                faults.append(prediction.fault)
            else:
                write(prediction)
                done += 1
            if chosen.gallery:
                shown.append(on_a_card(prediction))
    if chosen.gallery:
        write_gallery(chosen.gallery, str(chosen.run), shown, chosen.threshold)
    return faults, done


if __name__ == "__main__":
    with outlived(ends=True):
        sys.exit(main())
