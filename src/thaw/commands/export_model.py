"""Write a trained model for other programs, and check that it predicts what the checkpoint predicts.

RUN is a run's folder or a checkpoint. Format onnx writes one file that takes uint8 RGB images (N, S, S, 3) and returns
calibrated probabilities. Format torch writes a PyTorch file (.pt2) that does the same. Format safetensors writes
a folder with config.json and model.safetensors, which timm loads if timm has this network. A model card, README.md in
a folder and DEST.md otherwise, describes the data, the accuracy, the limits and the licence, and how to use the files.
"""

import sys
from argparse import Namespace
from pathlib import Path

from thaw.commands import frame
from thaw.errors import RunError, UserError


def options() -> Namespace:
    parser = frame.parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN")
    add("destination", type=Path, metavar="DEST")
    add("--format", choices=("onnx", "safetensors", "torch"), required=True)
    add("--images", nargs="+", default=[], metavar="PATH", help="images used to check the export (validation images)")
    add("--push-to-hub", metavar="OWNER/NAME", help="upload to this repository of the Hugging Face Hub")
    add("--public", action="store_true", help="with --push-to-hub: a new repository is public, not private")
    chosen = parser.parse_args()
    if chosen.public and chosen.push_to_hub is None:
        parser.error("--public needs --push-to-hub OWNER/NAME")
    return chosen


def main() -> int:
    chosen = options()
    repository = None
    if chosen.push_to_hub is not None:
        from thaw.inference.export.hub_repository import checked_repository

        repository = checked_repository(chosen.push_to_hub, chosen.public)
    from thaw.inference.export.export import export  # imports torch, which takes seconds
    from thaw.inference.export.exported_files import written_before
    from thaw.inference.image_paths import image_paths

    images, faults = image_paths(chosen.images, sys.stdin)
    if faults:
        raise UserError(faults[0])
    try:
        earlier = repository and written_before(chosen.run, chosen.destination, chosen.format)
        done = earlier or export(chosen.run, chosen.destination, chosen.format, images)
    except OSError as error:
        raise UserError(f"{chosen.destination} cannot be written ({error.strerror or error}).") from error
    print(
        f"{done.path}  {done.bytes / 1e6:.1f} MB; on {done.images} images every class equals the checkpoint's, "
        f"and the largest difference in probability is {done.difference:.1e}"
    )
    if repository:
        try:
            address = repository.push(done.files)
        except RunError as error:
            raise RunError(
                f"{done.path} is written, but {error} The same command uploads it again without a new export."
            ) from error
        print(f"uploaded to {address} ({'private' if repository.private else 'public'})")
    return 0
