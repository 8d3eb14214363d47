"""Draw the built-in animals into a folder of your own, as in: draw DEST --species cat dog owl."""

from pathlib import Path

from thaw.commands import frame
from thaw.demo.datasets import draw_folder
from thaw.demo.drawings import SPECIES
from thaw.errors import UserError
from thaw.runs.shown_commands import option
from thaw.runs.writable import refuse_unwritable


def main() -> None:
    parser = frame.parser(__doc__)
    add = parser.add_argument
    add("dest", type=Path, metavar="DEST", help="a new folder; the command makes train/ and val/ in it")
    add("--species", nargs="+", choices=SPECIES, default=list(SPECIES), metavar="NAME")
    add("--train", type=int, default=50, help="training images per species (50)")
    add("--val", type=int, default=200, help="validation images per species (200)")
    add("--seed", type=int, default=0, help="seed of the drawings; another seed draws other animals (0)")
    chosen = parser.parse_args()
    if chosen.dest.is_dir() and any(chosen.dest.iterdir()):
        raise UserError(f"{chosen.dest} is not empty; choose a new folder.")
    refuse_unwritable(chosen.dest, "DEST")
    draw_folder(chosen.dest, chosen.species, {"train": chosen.train, "val": chosen.val}, chosen.seed)
    print(f"python train.py {option('data.root', chosen.dest)} data.image_size=64 weights=demo")
