"""Write the results of an audit as a terminal table, as `audit.json`, and as an HTML page with pictures."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from thaw.curation.audit import Audit, Doubt, Finding
from thaw.curation.inspection import Inspection
from thaw.data.thumbnails import thumbnail_url
from thaw.pages.html import render
from thaw.pages.limits import ROWS
from thaw.pages.text import agreeing, amount, counted, printable, shown
from thaw.runs.optional_output import write_page
from thaw.storage.files import write_whole

_SHOWN = 24  # largest number of groups of images per finding on the page
_TOGETHER = 12  # largest number of pictures per group of images
_SIDE = 200  # side of a picture in pixels
_DOUBTS = 10  # largest number of doubtful labels in the terminal table


def facts(audit: Audit, doubts: Sequence[Doubt] | None) -> dict:
    """Return the content of `audit.json`; `doubts` is None if the labels were not checked."""
    files = {file.path: file.found for file in audit.files}
    counts = Counter((file.split, file.label) for file in audit.files)
    findings = [
        {
            "kind": finding.kind,
            "severity": finding.severity,
            "text": finding.text,
            "count": finding.count,
            "paths": [[path.as_posix() for path in group] for group in finding.groups],
            "details": _details(files, finding),
        }
        for finding in audit.findings
    ]
    labels = None if doubts is None else [{**vars(doubt), "path": doubt.path.as_posix()} for doubt in doubts]
    return {
        "root": str(audit.root.resolve()),
        "images": len(audit.files),
        "classes": {
            split: {label: n for (own, label), n in sorted(counts.items()) if own == split} for split in audit.trees
        },
        "distorted": audit.distorted,
        "findings": findings,
        "doubted_labels": labels,
    }


def write_audit(folder: Path, facts: dict) -> None:
    write_whole(folder / "audit.json", json.dumps(facts, indent=1) + "\n")
    write_page(folder / "audit.html", lambda: _page(facts))


def _page(facts: dict) -> str:
    root = Path(facts["root"])
    pictured = {
        path for finding in facts["findings"] for group in finding["paths"][:_SHOWN] for path in group[:_TOGETHER]
    }
    pictured |= {doubt["path"] for doubt in (facts["doubted_labels"] or [])[:_SHOWN]}
    pictures = {
        path: thumbnail_url(root / path, _SIDE) if (root / path).is_file() else None for path in sorted(pictured)
    }
    counts = [(split, label, n) for split, classes in facts["classes"].items() for label, n in classes.items()]
    fewest = sorted(sorted(counts, key=lambda row: row[2])[:ROWS], key=counts.index)
    values = {**facts, "counts": fewest, "all_counts": len(counts), "pictures": pictures}
    return render("audit.html.jinja", **values, shown=_SHOWN, together=_TOGETHER)


def table(facts: dict) -> str:
    """Return text for a terminal: the number of images per class, and a line per finding with its first paths."""
    lines = []
    for split, classes in facts["classes"].items():
        names = counted(f"{count} {label}" for label, count in classes.items())
        lines.append(f"{split or 'all'}: {amount(sum(classes.values()), 'image')} ({names})")
    lines += [""] if facts["findings"] else ["", "no problems found"]
    for finding in facts["findings"]:
        first = "; ".join(" = ".join(map(printable, group[:_TOGETHER])) for group in finding["paths"][:2])
        more = f" and {finding['count'] - 2} more" if finding["count"] > 2 else ""
        paths = f": {first}{more}" if first else ""
        lines.append(f"{finding['severity']:7}  {finding['count'] or '':5} {finding['text']}{paths}")
    if facts["doubted_labels"] is not None:
        lines += ["", *_doubtful(facts["doubted_labels"])]
    return "\n".join(map(printable, lines))


def _doubtful(doubts: Sequence[dict]) -> list[str]:
    if not doubts:
        return ["no label is doubtful"]
    first = f"; these are the first {_DOUBTS}" if len(doubts) > _DOUBTS else ""
    lines = [f"{amount(len(doubts), 'label')} {agreeing('[are]', len(doubts))} doubtful{first}:"]
    for doubt in doubts[:_DOUBTS]:
        names = shown(doubt["label"]), shown(doubt["suggested"])
        lines.append(f"  {doubt['path']}: {doubt['probability']:.0%} {names[0]}, {doubt['other']:.0%} {names[1]}")
    return lines


def _details(files: Mapping[Path, Inspection], finding: Finding) -> dict[str, str]:
    details = {}
    for path in (path for group in finding.groups for path in group if path in files):
        found = files[path]
        if found.fault:
            details[path.as_posix()] = found.fault
        elif finding.kind == "misnamed":
            details[path.as_posix()] = f"is a {found.format} file"
        elif found.width:
            details[path.as_posix()] = f"{found.width} × {found.height}, {found.mode}"
    return details
