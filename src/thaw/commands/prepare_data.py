"""Split unchecked photographs into train/ and val/. Every file is decoded once; no file is lost or changed.

SOURCE has one folder per class, or file names that contain the class (--pattern '{class}.*'). DEST gets train/ and
val/, and test/ with --test. manifest.csv lists all files; quarantine.csv lists the unused files with reasons.
"""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from thaw.commands import frame
from thaw.runs.conf_folder import conf_folder

DOWNLOADS = cast(dict[str, Any], OmegaConf.to_object(OmegaConf.load(conf_folder() / "downloads.yaml")))


def options() -> Namespace:
    parser, share = frame.parser(__doc__), frame.share(below_one=True)
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="folder of photographs; it is never changed")
    add("dest", type=Path, metavar="DEST", help="a new folder, or one that this command made before")
    add("--val", type=frame.whole(), metavar="N", help="number of images per class for val/")
    add("--val-fraction", type=share, default=0.2, metavar="X", help="val/ share per class, unless --val is set (0.2)")
    add("--test", type=frame.whole(), metavar="N", help="number of images per class for test/ (0)")
    add("--test-fraction", type=share, default=0.0, metavar="X", help="test/ share per class, unless --test is set (0)")
    add("--limit", type=frame.whole(), metavar="N", help="largest number of images to use per class (all)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the split (0)")
    add("--pattern", metavar="P", help="pattern of file names that contain the class: '{class}.*' for cat.0.jpg")
    add("--link", choices=("hard", "symbolic", "copy"), default="hard", help="links or copies in DEST (hard)")
    add("--download", choices=DOWNLOADS, help="first download this data set into SOURCE, unless SOURCE exists")
    return parser.parse_args()


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
    except KeyboardInterrupt:
        print("stopped; the same command continues from here", file=sys.stderr)
        raise
    return 0
