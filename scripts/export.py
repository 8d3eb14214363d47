"""Write a trained model for other programs, and check that it says what the checkpoint says.

RUN is the folder of a run, or a checkpoint file of it. Formats: onnx is one file, uint8 RGB images (N, S, S, 3) in and
calibrated probabilities out; torch is the same for PyTorch alone (.pt2); safetensors is a folder of config.json and
model.safetensors, which timm reads where it has the net.
"""

import argparse
import sys
from pathlib import Path

from thaw.errors import RunError, UserError
from thaw.runs.streams import outlived


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN")
    add("destination", type=Path, metavar="DEST")
    add("--format", choices=("onnx", "safetensors", "torch"), required=True)
    add("--images", nargs="+", default=[], metavar="PATH", help="to check with (validation images of the run)")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    try:
        from thaw.inference.export.export import export  # PyTorch, which --help need not wait for
        from thaw.inference.image_paths import image_paths

        images, faults = image_paths(chosen.images, sys.stdin)
        if faults:
            raise UserError(faults[0])
        done = export(chosen.run, chosen.destination, chosen.format, images)
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except OSError as error:
        print(f"error: {chosen.destination} cannot be written ({error.strerror or error}).", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(
        f"{done.path}  {done.bytes / 1e6:.1f} MB; of {done.images} images every class is that of the checkpoint, and "
        f"the largest difference in probability {done.difference:.1e}"
    )
    return 0


if __name__ == "__main__":
    with outlived():
        sys.exit(main())
