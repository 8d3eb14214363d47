"""Decide for each image file which split it joins, or why it is excluded from the data set."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thaw.curation.inspection import Inspection, suffixes
from thaw.curation.similarity import similar_pairs
from thaw.curation.source_tree import Tree
from thaw.curation.split import Shares, assign
from thaw.data.connected_groups import groups

QUARANTINE, UNUSED = "quarantine", "unused"


@dataclass(frozen=True)
class Entry:
    """Decision about one image file.

    `split` is train, val, test, unused (beyond `--limit`) or quarantine (excluded). `verdict` is `ok` or describes the
    problem, and `kind` is `ok` or the kind of problem.
    """

    path: Path  # relative to the source
    label: str
    split: str
    found: Inspection
    kind: str = "ok"
    verdict: str = "ok"


def plan(tree: Tree, inspections: Sequence[Inspection], shares: Shares) -> list[Entry]:
    """Decide the split of each image of `tree`, and return the decisions in order.

    Raises:
        UserError: if a class has too few images for the `shares`, or copies prevent the exact split sizes.

    """
    entries = [
        Entry(path, label, "", found, *_own_verdict(found))
        for (path, label), found in zip(tree.images, inspections, strict=True)
    ]
    _set_copies_aside(entries)
    usable = [index for index, entry in enumerate(entries) if not entry.split]
    found = [entries[index].found for index in usable]
    pairs = similar_pairs([one.path for one in found], [one.thumbnail for one in found if one.thumbnail is not None])
    by_class: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for places in groups(len(usable), pairs):
        members = [usable[place] for place in places]
        if not _set_conflict_aside(entries, members):
            by_class[entries[members[0]].label][min(found[place].sha256 for place in places)] = members
    for label in tree.classes:
        for index, split in assign(by_class[label], label, shares).items():
            entries[index] = replace(entries[index], split=split)
    return [entry if entry.split else replace(entry, split=QUARANTINE) for entry in entries]


def _own_verdict(found: Inspection) -> tuple[str, str]:
    if found.fault:
        assert found.kind is not None, "every fault has a kind"
        return found.kind, found.fault
    if found.misnamed:
        ending = suffixes(found.format)[0]
        return "misnamed", f"is a {found.format} file, but its name does not end in {ending}; used anyway"
    return "ok", "ok"


def _set_copies_aside(entries: list[Entry]) -> None:
    """Exclude faulty files. Of identical files, keep only the first; if their classes differ, keep none."""
    equal = defaultdict(list)
    for index, entry in enumerate(entries):
        if entry.found.fault:
            entries[index] = replace(entry, split=QUARANTINE)
        else:
            equal[entry.found.sha256].append(index)
    for members in equal.values():
        if not _set_conflict_aside(entries, members):
            verdict = f"is the same file as {entries[members[0]].path}"
            for index in members[1:]:
                entries[index] = replace(entries[index], split=QUARANTINE, kind="copy", verdict=verdict)


def _set_conflict_aside(entries: list[Entry], members: Sequence[int]) -> bool:
    """If copies of one image are in several classes, exclude all of them and return True."""
    for index in members:
        other = next((entries[i] for i in members if entries[i].label != entries[index].label), None)
        if other is None:
            return False
        verdict = f"shows the same picture as {other.path}, which is in another class"
        entries[index] = replace(entries[index], split=QUARANTINE, kind="conflict", verdict=verdict)
    return True
