"""What is wrong with a data set, or merely worth knowing, before anything is trained on it."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from thaw.curation.inspection import Inspection, inspect_all
from thaw.curation.prepare import MANIFEST, QUARANTINED, RECORD
from thaw.curation.similarity import alike_by_design, groups, similar_pairs
from thaw.curation.source_tree import SPLITS, Tree, scan
from thaw.data.class_names import confusable_names
from thaw.data.endings import what_to_install
from thaw.data.layout import has_test_beside_classes, is_divided
from thaw.data.walk import is_hidden
from thaw.errors import UserError
from thaw.pages.text import agreeing, amount, shown

ERROR, WARNING, NOTE = "error", "warning", "note"  # distorts a result; may do so; is dealt with
_FEW, _IMBALANCE = 10, 3  # training images of a class; times as many in the largest class as in the smallest
_SMALL, _LARGE, _LONG = 32, 50e6, 5  # pixels of the short side; pixels in all; times as long as wide
_FAULTS = {
    "empty": "file[s] [have] no bytes",
    "truncated": "image[s] [are] cut off",
    "unreadable": "image[s] cannot be decoded",
    "no image": "file[s] [are] named like an image and [are] none",
    "bomb": f"image[s] [have] more than {Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels and [are] refused",
}
_MODES = {
    "grey": ("L", "LA", "1"), "16 bits": ("I;16", "I;16B", "I;16L", "I", "F"), "CMYK": ("CMYK",),
    "palette": ("P", "PA"), "alpha": ("RGBA", "LA", "PA", "La", "RGBa"),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """`groups` are paths relative to the root, those together that have to do with each other.

    `text` follows their number; without groups it is a sentence about the whole set.
    """

    kind: str
    severity: str
    text: str
    groups: list[list[Path]]

    @property
    def count(self) -> int:
        return len(self.groups)


@dataclass(frozen=True)
class File:
    """An image file of the data set; `path` is relative to its root, and `split` empty where there are none."""

    path: Path
    split: str
    label: str
    found: Inspection


@dataclass(frozen=True)
class Doubt:
    """Of a label; `probability` is that of the label, `other` that of the class `suggested`."""

    path: Path
    label: str
    suggested: str
    probability: float
    other: float


@dataclass(frozen=True)
class Audit:
    root: Path
    trees: dict[str, Tree]
    files: list[File]
    findings: list[Finding]

    @property
    def distorted(self) -> bool:
        return any(finding.severity == ERROR for finding in self.findings)


def class_trees(root: Path) -> dict[str, Tree]:
    """Return what a root has in train/, val/ and test/, or in class folders only, by split; nothing is decoded.

    Raises:
        UserError: if there are no classes in it.

    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}.")
    trees = _trees(root)
    if not any(tree.classes for tree in trees.values()):
        raise UserError(f"{root} holds no classes: a folder for each, in train/ and val/ or in it, with images.")
    return trees


def audit(root: Path, trees: dict[str, Tree] | None = None) -> Audit:
    """Decode every image of a root, whose `class_trees` may be given.

    Raises:
        UserError: if there are no classes in it.

    """
    trees = trees or class_trees(root)
    listed = [(split, path, label) for split, tree in trees.items() for path, label in tree.images]
    inspections = inspect_all([root / split / path for split, path, _ in listed], "inspecting")
    files = [
        File(Path(split) / path, split, label, found)
        for (split, path, label), found in zip(listed, inspections, strict=True)
    ]
    findings = [*_of_folders(root, trees), *_of_classes(trees), *_of_files(files), *_of_copies(files)]
    order = (ERROR, WARNING, NOTE)
    return Audit(root, trees, files, sorted(findings, key=lambda finding: order.index(finding.severity)))


def _trees(root: Path) -> dict[str, Tree]:
    """By split, whose name is empty for class folders that are not divided."""
    divided = [name for name in SPLITS if (root / name).is_dir()] if is_divided(root) else []
    if divided or not has_test_beside_classes(root):
        return {name: scan(root / name) for name in divided or [""]}
    return {"": scan(root, others=["test"]), "test": scan(root / "test")}


def _finding(kind: str, severity: str, text: str, paths: Sequence[Path]) -> Iterator[Finding]:
    if paths:
        yield Finding(kind, severity, agreeing(text, len(paths)), [[path] for path in paths])


def _of_folders(root: Path, trees: dict[str, Tree]) -> Iterator[Finding]:
    stray = [Path(split) / path for split, tree in trees.items() for path in tree.stray]
    hidden = [Path(split) / path for split, tree in trees.items() for path in tree.hidden]
    if "" not in trees:
        ours = {*trees, MANIFEST, QUARANTINED, RECORD}
        beside = sorted(path.name for path in root.iterdir() if path.name not in ours)
        stray += [Path(name) for name in beside if not is_hidden(name)]
        hidden += [Path(name) for name in beside if is_hidden(name)]
    needed = what_to_install(path.name for path in stray)
    told = f"file[s] or folder[s] [are] not read, for the ending or the place{needed and f' ({needed})'}"
    yield from _finding("stray", WARNING, told, stray)
    yield from _finding("hidden", NOTE, "file[s] or folder[s] [are] hidden, and not read", hidden)
    repeated = [Path(split) / path for split, tree in trees.items() for path in tree.repeated]
    yield from _finding(
        "repeated", NOTE, "link[s] [are] not followed: the folder holds the link, or is read in another place", repeated
    )


def _of_classes(trees: dict[str, Tree]) -> Iterator[Finding]:
    empty = [Path(split) / name for split, tree in trees.items() for name in tree.empty]
    yield from _finding("empty class", ERROR, "class[es] [have] no images", empty)
    everywhere = set().union(*(tree.classes for tree in trees.values()))
    missing = [Path(split) / name for split, tree in trees.items() for name in sorted(everywhere - set(tree.classes))]
    yield from _finding("classes differ", ERROR, "class[es] [are] missing from a split", missing)
    for alike in confusable_names(everywhere):
        yield Finding("names alike", ERROR, f"names of classes cannot be told apart: {alike}", [])
    for split, tree in list(trees.items())[:1]:  # that is trained on
        counts: dict[str, int] = defaultdict(int)
        for _, label in tree.images:
            counts[label] += 1
        few = [Path(split) / name for name, count in sorted(counts.items()) if count < _FEW]
        yield from _finding("tiny class", WARNING, f"class[es] [have] fewer than {_FEW} images to learn from", few)
        if counts and max(counts.values()) > _IMBALANCE * min(counts.values()):
            least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
            told = " and ".join(f"{amount(counts[name], 'image')} of {shown(name)}" for name in (most, least))
            text = f"classes are unequal: {told}; see data.balance"
            yield Finding("imbalance", WARNING, text, [])


def _of_files(files: Sequence[File]) -> Iterator[Finding]:
    def those(fits: Callable[[Inspection], bool]) -> list[Path]:
        return [file.path for file in files if fits(file.found)]

    for kind, text in _FAULTS.items():
        yield from _finding(kind, ERROR, text, those(lambda found, kind=kind: found.kind == kind))
    files = [file for file in files if not file.found.fault]
    told = "image[s] [are] of another format than the name says, and [are] read all the same"
    yield from _finding("misnamed", WARNING, told, those(lambda found: found.misnamed))
    small = those(lambda found: min(found.width, found.height) < _SMALL)
    yield from _finding("small", WARNING, f"image[s] [have] fewer than {_SMALL} pixels on a side", small)
    large = those(lambda found: found.width * found.height > _LARGE)
    yield from _finding("large", WARNING, f"image[s] [have] more than {_LARGE / 1e6:.0f} million pixels", large)
    long = those(lambda found: max(found.width, found.height) > _LONG * min(found.width, found.height))
    yield from _finding("long", WARNING, f"image[s] [are] more than {_LONG} times as long as wide", long)
    yield from _finding(
        "blank",
        WARNING,
        "image[s] [have] hardly any contrast and [show] next to nothing",
        those(lambda found: not found.marks.any()),
    )
    for name, modes in _MODES.items():
        stored = "with" if name in ("16 bits", "alpha") else "as"
        chosen = those(lambda found, modes=modes: found.mode in modes)
        yield from _finding(name, NOTE, f"image[s] [are] stored {stored} {name}, and [become] RGB", chosen)
    yield from _finding(
        "turned", NOTE, "image[s] [are] turned upright, as the EXIF says", those(lambda found: found.turned)
    )


def _of_copies(files: Sequence[File]) -> Iterator[Finding]:
    """Equal files and images that look alike, by what they spoil."""
    good = [file for file in files if not file.found.fault]
    first: dict[str, int] = {}
    equal = [(first.setdefault(file.found.sha256, index), index) for index, file in enumerate(good)]
    alike = similar_pairs([file.found.path for file in good], [file.found.marks for file in good])
    sets = groups(len(good), [pair for pair in [*equal, *alike] if pair[0] != pair[1]])
    found: dict[str, list[list[Path]]] = defaultdict(list)
    for members in (members for members in sets if len(members) > 1):
        mine = [good[index] for index in members]
        found[_spoils(mine)].append([file.path for file in mine])
    texts = {
        "conflict": (ERROR, "image[s] [are] in several classes"),
        "leak": (ERROR, "image[s] [are] in several splits, so that answers have been seen in training"),
        "copy": (WARNING, "image[s] [are] there several times, as equal files"),
        "near copy": (WARNING, "image[s] [are] there several times: re-encoded, resized, mirrored or cropped"),
    }
    for kind, (severity, text) in texts.items():
        if found[kind]:
            yield Finding(kind, severity, agreeing(text, len(found[kind])), found[kind])
    if alike := alike_by_design([file.found.marks for file in good]):
        yield Finding("alike by design", NOTE, alike, [])


def _spoils(files: Sequence[File]) -> str:
    if len({file.label for file in files}) > 1:
        return "conflict"
    if len({file.split for file in files}) > 1:
        return "leak"
    return "copy" if len({file.found.sha256 for file in files}) < len(files) else "near copy"
