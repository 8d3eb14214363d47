"""Look for faults that would distort a result: broken files, copies across splits or classes, wrong labels, odd images.

ROOT has train/, val/ and perhaps test/ with one folder per class, or only class folders. No file in ROOT is changed.
The exit status is 1 if the command finds such a fault.
"""

from argparse import Namespace
from functools import partial
from pathlib import Path

from thaw.commands import frame
from thaw.runs.optional_output import naming_page
from thaw.runs.ownership import refuse_inside, refuse_other_results
from thaw.runs.writable import refuse_unwritable


def options() -> Namespace:
    parser = frame.parser(__doc__)
    add = parser.add_argument
    add("root", type=Path, metavar="ROOT")
    add("--out", type=Path, metavar="DIR", help="folder for the results (outputs/audit/<ROOT's name>)")
    add(
        "--table",
        type=Path,
        metavar="FILE",
        help="table of labels, as for data.table; ROOT then needs no class folders",
    )
    add("--labels", action="store_true", help="also look for wrong labels, with a pretrained network")
    add("--model", default="resnet34", metavar="NAME", help="for --labels: torchvision's NAME, or timm/NAME (resnet34)")
    add("--weights", default="imagenet", metavar="W", help="for --labels: imagenet, demo, none or a file (imagenet)")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    from thaw.curation.audit import audit, class_trees
    from thaw.curation.audit_page import facts, table, write_audit
    from thaw.curation.source_tree import refuse_one_class, tabled_trees

    out = chosen.out or Path("outputs/audit") / chosen.root.resolve().name
    refuse_inside(out, chosen.root, "--out")
    refuse_other_results(out, ("audit.json",), "an audit")
    refuse_unwritable(out, "--out")
    trees = tabled_trees(chosen.root, chosen.table) if chosen.table else class_trees(chosen.root)
    find_doubts = None
    if chosen.labels:
        refuse_one_class(trees)
        from thaw.curation.labels import doubted_labels, load_backbone  # imports torch, which takes seconds

        # Load the model first: a wrong name must fail before minutes of decoding.
        find_doubts = partial(doubted_labels, backbone=load_backbone(chosen.model, chosen.weights))
    found = audit(chosen.root, trees)
    doubts = find_doubts(found.files) if find_doubts else None
    shown = facts(found, doubts)
    write_audit(out, shown)
    print(table(shown) + naming_page("page", out / "audit.html"))
    return 1 if found.distorted else 0
