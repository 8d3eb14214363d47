"""Write a trained model for other programs, and check that it predicts what the checkpoint predicts.

RUN is a run's folder or a checkpoint. Format onnx writes one file that takes uint8 RGB images (N, S, S, 3) and returns
calibrated probabilities. Format torch writes a PyTorch file (.pt2) that does the same. Format safetensors writes
a folder with config.json and model.safetensors, which timm loads if timm has this network.
"""

import sys
from argparse import Namespace
from pathlib import Path

from thaw.commands import frame
from thaw.errors import UserError


def options() -> Namespace:
    parser = frame.parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN")
    add("destination", type=Path, metavar="DEST")
    add("--format", choices=("onnx", "safetensors", "torch"), required=True)
    add("--images", nargs="+", default=[], metavar="PATH", help="images used to check the export (validation images)")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    from thaw.inference.export.export import export  # imports torch, which takes seconds
    from thaw.inference.image_paths import image_paths

    images, faults = image_paths(chosen.images, sys.stdin)
    if faults:
        raise UserError(faults[0])
    try:
        done = export(chosen.run, chosen.destination, chosen.format, images)
    except OSError as error:
        raise UserError(f"{chosen.destination} cannot be written ({error.strerror or error}).") from error
    print(
        f"{done.path}  {done.bytes / 1e6:.1f} MB; on {done.images} images every class equals the checkpoint's, "
        f"and the largest difference in probability is {done.difference:.1e}"
    )
    return 0
