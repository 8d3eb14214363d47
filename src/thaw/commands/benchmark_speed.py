"""Measure Thaw's speed against the loop of PyTorch's transfer-learning tutorial, on the same images and weights."""

import signal
import sys
from argparse import Namespace
from datetime import datetime
from pathlib import Path

from thaw.benchmark.cases import CASES
from thaw.commands import frame
from thaw.runs.stopping import STOPS, is_not_ignored


def options() -> Namespace:
    parser, whole = frame.parser(__doc__), frame.whole()
    add = parser.add_argument
    add("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=f"some of {', '.join(CASES)}")
    add("--repeats", type=whole, default=3, metavar="N", help="how often each measurement is repeated (3)")
    add("--epochs", type=whole, metavar="N", help="epochs of every case (a different number for each)")
    add("--root", type=Path, help="your images, train/ and val/ with one folder per class (default: drawn images)")
    add("--train", type=whole, default=120, metavar="N", help="drawn training images per class (120)")
    add("--val", type=whole, default=75, metavar="N", help="drawn validation images per class (75)")
    add("--model", default="resnet34", metavar="NAME", help="a ResNet of torchvision (resnet34)")
    add("--train-size", type=whole, default=256, metavar="PX", help="side of a training crop (256, as in the tutorial)")
    add("--image-size", type=whole, default=224, metavar="PX", help="side of a validation crop (224)")
    add("--batch-size", type=whole, metavar="N", help="Thaw's batch size (32); the loop always uses 4")
    add("--run-all-loops", action="store_true", help="run the loop for every job of the sweep, not only once")
    add("--out", type=Path, metavar="DIR", help="a new folder (outputs/benchmark/<time>)")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    out = chosen.out or Path("outputs/benchmark") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in STOPS:  # sys.exit, unlike a signal, also ends the measured process
        if number != signal.SIGINT and is_not_ignored(number):
            signal.signal(number, lambda received, stack: sys.exit(128 + received))
    from thaw.benchmark.measure import run_benchmark  # imports torch, which takes seconds

    try:
        run_benchmark(chosen, out)
    except KeyboardInterrupt:
        print(f"stopped; the measurements so far are in {out}", file=sys.stderr)
        raise
