"""Sort a heap of photographs into train/ and val/, with every file decoded once and nothing lost or changed.

SOURCE has a folder per class, or its classes in the names of files (--pattern '{class}.*'). DEST gets train/, val/ and,
with --test, test/, manifest.csv with every file, and quarantine.csv with what is not used and why.
"""

import argparse
import sys
from pathlib import Path

from omegaconf import OmegaConf

from thaw.errors import RunError, UserError
from thaw.runs.streams import outlived

DOWNLOADS = OmegaConf.to_object(OmegaConf.load(Path(__file__).resolve().parent.parent / "conf" / "downloads.yaml"))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="the heap; it is never changed")
    add("dest", type=Path, metavar="DEST", help="a new folder, or one that this command has made before")
    add("--val", type=_count, metavar="N", help="validation images a class")
    add("--val-fraction", type=_share, default=0.2, metavar="X", help="of a class, where --val is not given (0.2)")
    add("--test", type=_count, metavar="N", help="test images a class (none)")
    add("--test-fraction", type=_share, default=0.0, metavar="X", help="of a class, where --test is not given")
    add("--limit", type=_count, metavar="N", help="images a class that are used in all")
    add("--seed", type=int, default=0, metavar="N", help="another one draws other images (0)")
    add("--pattern", metavar="P", help="of file names with the class in them, as in '{class}.*' for cat.0.jpg")
    add("--link", choices=("hard", "symbolic", "copy"), default="hard", help="how files get to DEST (hard links)")
    add("--download", choices=DOWNLOADS, help="fetch this data set into SOURCE first, if it is not there")
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0 to below 1")
    return value


def main() -> int:
    chosen = options()
    from thaw.curation.download import Archive, fetch
    from thaw.curation.prepare import Request, prepare
    from thaw.curation.split import Shares

    shares = Shares(chosen.val or chosen.val_fraction, chosen.test or chosen.test_fraction, chosen.limit, chosen.seed)
    try:
        if chosen.download:
            fetch(Archive(**DOWNLOADS[chosen.download]), chosen.source)
        print(prepare(Request(chosen.source, chosen.dest, shares, chosen.pattern, chosen.link)))
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    with outlived():
        sys.exit(main())
