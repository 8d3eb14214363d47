"""Draw the demo's animals into folders of your own: python scripts/draw_animals.py DEST --species cat dog owl."""

import argparse
import sys
from pathlib import Path

from thaw.demo.datasets import draw_folder
from thaw.demo.drawings import SPECIES
from thaw.errors import UserError
from thaw.runs.streams import outlived
from thaw.runs.writable import refuse_unwritable


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dest", type=Path, metavar="DEST", help="a new folder, to hold train/ and val/")
    parser.add_argument("--species", nargs="+", choices=SPECIES, default=list(SPECIES), metavar="NAME")
    parser.add_argument("--train", type=int, default=50, help="training images a species (default 50)")
    parser.add_argument("--val", type=int, default=200, help="validation images a species (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other animals (default 0)")
    options = parser.parse_args()
    if options.dest.is_dir() and any(options.dest.iterdir()):
        parser.error(f"{options.dest} is not empty; name a new folder.")
    try:
        refuse_unwritable(options.dest, "DEST")
    except UserError as error:
        parser.error(str(error))
    draw_folder(options.dest, options.species, {"train": options.train, "val": options.val}, options.seed)
    print(f"python train.py data=image_folder data.root={options.dest} data.image_size=64 weights=demo")
    return 0


if __name__ == "__main__":
    with outlived():
        sys.exit(main())
