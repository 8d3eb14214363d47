"""Decide the split of each file, or the reason to set it aside."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thaw.curation.inspection import Inspection, suffixes
from thaw.curation.similarity import groups, similar_pairs
from thaw.curation.source_tree import Tree
from thaw.curation.split import Group, Shares, assign

QUARANTINE, UNUSED = "quarantine", "unused"


@dataclass(frozen=True)
class Entry:
    """Decision about one file.

    `split` is train, val, test, unused (beyond the limit) or quarantine. `verdict` is `ok` or a reason.
    """

    path: Path  # relative to the source
    label: str
    split: str
    found: Inspection
    kind: str = "ok"
    verdict: str = "ok"


Similar = Callable[[Sequence[Path], Sequence], list[tuple[int, int]]]


def plan(
    tree: Tree, inspections: Sequence[Inspection], shares: Shares, similar: Similar = similar_pairs
) -> list[Entry]:
    """Return an entry for each image of `tree`, in order.

    Raises:
        UserError: if a class has too few images for the `shares`.

    """
    entries = [
        Entry(path, label, "", found, *_own_verdict(found))
        for (path, label), found in zip(tree.images, inspections, strict=True)
    ]
    _set_copies_aside(entries)
    usable = [index for index, entry in enumerate(entries) if not entry.split]
    groups_of_copies = _copies(entries, usable, similar)
    _set_conflicts_aside(entries, groups_of_copies)
    by_class = defaultdict(list)
    for members in groups_of_copies:
        if not entries[members[0]].split:
            by_class[entries[members[0]].label].append(
                Group(tuple(members), min(entries[i].found.sha256 for i in members))
            )
    for label in tree.classes:
        for index, split in assign(by_class[label], label, shares).items():
            entries[index] = replace(entries[index], split=split)
    return [entry if entry.split else replace(entry, split=QUARANTINE) for entry in entries]


def _own_verdict(found: Inspection) -> tuple[str, str]:
    if found.fault:
        assert found.kind is not None, "an inspection with a fault has its kind"
        return found.kind, found.fault
    if found.misnamed:
        ending = suffixes(found.format)[0]
        return "misnamed", f"is a {found.format} file (it should end in {ending}); used anyway"
    return "ok", "ok"


def _set_copies_aside(entries: list[Entry]) -> None:
    """Keep the first of equal files; keep none if they are in several classes."""
    equal = defaultdict(list)
    for index, entry in enumerate(entries):
        if entry.found.fault:
            entries[index] = replace(entry, split=QUARANTINE)
        else:
            equal[entry.found.sha256].append(index)
    for members in equal.values():
        labels = {entries[index].label for index in members}
        first = entries[members[0]].path
        for index in members if len(labels) > 1 else members[1:]:
            copy = "copy", f"is the same file as {first}"
            kind, verdict = _conflict(entries, members, index) if len(labels) > 1 else copy
            entries[index] = replace(entries[index], split=QUARANTINE, kind=kind, verdict=verdict)


def _copies(entries: Sequence[Entry], usable: Sequence[int], similar: Similar) -> list[list[int]]:
    paths = [entries[index].found.path for index in usable]
    pairs = similar(paths, [entries[index].found.thumbnail for index in usable])
    return [[usable[member] for member in members] for members in groups(len(usable), pairs)]


def _set_conflicts_aside(entries: list[Entry], groups_of_copies: Sequence[Sequence[int]]) -> None:
    for members in groups_of_copies:
        if len({entries[index].label for index in members}) > 1:
            verdicts = {index: _conflict(entries, members, index) for index in members}
            for index, (kind, verdict) in verdicts.items():
                entries[index] = replace(entries[index], split=QUARANTINE, kind=kind, verdict=verdict)


def _conflict(entries: Sequence[Entry], members: Sequence[int], index: int) -> tuple[str, str]:
    other = next(entries[i] for i in members if entries[i].label != entries[index].label)
    return "conflict", f"shows the same picture as {other.path}, which is in another class"
