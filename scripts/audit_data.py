"""Look for what would distort a result: broken files, copies in several splits or classes, doubtful labels, odd images.

ROOT has train/, val/ and perhaps test/ with a folder per class in each, or class folders only. Nothing in it is
changed. The exit status is 1 if something would distort a result.
"""

import argparse
import sys
from pathlib import Path

from thaw.errors import RunError, UserError
from thaw.runs.ownership import refuse_inside, refuse_other_results
from thaw.runs.streams import outlived
from thaw.runs.writable import refuse_unwritable


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("root", type=Path, metavar="ROOT")
    add("--out", type=Path, metavar="DIR", help="of audit.json and audit.html (outputs/audit/<name of ROOT>)")
    add("--labels", action="store_true", help="look for wrong labels, too, by what a pretrained net sees")
    add(
        "--model",
        default="resnet34",
        metavar="NAME",
        help="for --labels: a net of torchvision's or timm/NAME (resnet34)",
    )
    add("--weights", default="imagenet", metavar="W", help="for --labels: imagenet, demo, none or a path (imagenet)")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    from thaw.curation.audit import audit, class_trees
    from thaw.curation.audit_page import facts, table, write_audit

    if chosen.labels:
        from thaw.curation.labels import doubted_labels, load_backbone  # PyTorch, which the rest need not wait for

    out = chosen.out or Path("outputs/audit") / chosen.root.resolve().name
    try:
        refuse_inside(out, chosen.root, "--out")
        refuse_other_results(out, ("audit.json",), "an audit")
        refuse_unwritable(out, "--out")
        trees = class_trees(chosen.root)
        backbone = load_backbone(chosen.model, chosen.weights) if chosen.labels else None  # before minutes of decoding
        found = audit(chosen.root, trees)
        doubts = doubted_labels(found.files, backbone) if backbone else None
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    told = facts(found, doubts)
    write_audit(out, told)
    print(f"{table(told)}\n\npage     {out / 'audit.html'}")
    return 1 if found.distorted else 0


if __name__ == "__main__":
    with outlived():
        sys.exit(main())
