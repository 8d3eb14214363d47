"""Time Thaw against the tutorial's loop in plain PyTorch, on the same images and weights, and tell the ratios."""

import argparse
import signal
import sys
from datetime import datetime
from pathlib import Path

from thaw.benchmark.cases import CASES
from thaw.errors import RunError, UserError
from thaw.runs.stopping import STOPS, heard
from thaw.runs.streams import outlived

PROJECT = Path(__file__).resolve().parent.parent


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=f"of {', '.join(CASES)}")
    add("--repeats", type=_count, default=3, metavar="N", help="processes of each kind (default 3)")
    add("--epochs", type=_count, metavar="N", help="in place of every case's own number")
    add("--root", type=Path, help="your images: train/ and val/ with a folder per class (default: drawn ones)")
    add("--train", type=_count, default=120, metavar="N", help="drawn training images a class (default 120)")
    add("--val", type=_count, default=75, metavar="N", help="drawn validation images a class (default 75)")
    add("--model", default="resnet34", metavar="NAME", help="a ResNet of torchvision's (default resnet34)")
    add("--train-size", type=_count, default=256, metavar="PX", help="training crop (default 256, as in the tutorial)")
    add("--image-size", type=_count, default=224, metavar="PX", help="validation crop (default 224)")
    add("--batch-size", type=_count, metavar="N", help="of Thaw (default: its own; the loop's is 4)")
    add("--run-all-loops", action="store_true", help="run the loop's sweep, too, instead of multiplying its one run")
    add("--out", type=Path, metavar="DIR", help="a new folder (default outputs/benchmark/<time>)")
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


def main() -> int:
    chosen = options()
    out = chosen.out or Path("outputs/benchmark") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in STOPS:  # so that a process that runs is ended, too
        if number != signal.SIGINT and heard(number):
            signal.signal(number, lambda received, frame: sys.exit(128 + received))
    from thaw.benchmark.measure import run_benchmark  # PyTorch, which --help need not wait for

    try:
        run_benchmark(chosen, out, PROJECT)
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print(f"stopped; what was measured until now is in {out}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    with outlived():
        sys.exit(main())
