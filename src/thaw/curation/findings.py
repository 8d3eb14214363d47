"""Check the folders, classes and images of a data set, and find copies; each check yields findings."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.curation.inspection import Inspection, pixel_limit
from thaw.curation.prepare import MANIFEST, QUARANTINED, RECORD
from thaw.curation.similarity import alike_by_design, similar_pairs
from thaw.curation.source_tree import Tree
from thaw.data.class_names import confusable_names
from thaw.data.connected_groups import groups
from thaw.data.endings import what_to_install
from thaw.data.walk import is_hidden
from thaw.pages.text import agreeing, amount, shown

ERROR, WARNING, NOTE = "error", "warning", "note"  # distorts metrics; may distort metrics; does not distort metrics
_FEW, _IMBALANCE = 10, 3  # warn below this many training images per class, or above this ratio of class sizes
_SMALL, _LARGE, _LONG = 32, 50e6, 5  # limits of: short side in pixels; number of pixels; ratio of long to short side
_FAULTS = {
    "empty": "file[s] [have] no bytes",
    "truncated": "image[s] [are] cut off",
    "unreadable": "image[s] cannot be decoded",
    "no image": "file[s] [have] an image file extension but [contain] no image",
    "bomb": f"image[s] [have] more than {pixel_limit()} and [are] refused",
}
_MODES = {
    "grey": ("L", "LA", "1"), "16 bits": ("I;16", "I;16B", "I;16L", "I", "F"), "CMYK": ("CMYK",),
    "palette": ("P", "PA"), "alpha": ("RGBA", "LA", "PA", "La", "RGBa"),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """All cases of one kind of problem in a data set.

    Each of `groups` is one case: the paths of its images, relative to the root. `text` continues a sentence that begins
    with the number of groups. If `groups` is empty, `text` is a complete sentence about the data set.
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
    """Inspected image; `path` is relative to the data set's root, `split` is "" if the root has class folders only."""

    path: Path
    split: str
    label: str
    found: Inspection


def _finding(kind: str, severity: str, text: str, paths: Sequence[Path]) -> Iterator[Finding]:
    if paths:
        yield Finding(kind, severity, agreeing(text, len(paths)), [[path] for path in paths])


def folder_findings(root: Path, trees: dict[str, Tree]) -> Iterator[Finding]:
    stray = [Path(split) / path for split, tree in trees.items() for path in tree.stray]
    hidden = [Path(split) / path for split, tree in trees.items() for path in tree.hidden]
    if "" not in trees and not any(tree.tabled for tree in trees.values()):
        ours = {*trees, MANIFEST, QUARANTINED, RECORD}
        beside = sorted(path.name for path in root.iterdir() if path.name not in ours)
        stray += [Path(name) for name in beside if not is_hidden(name)]
        hidden += [Path(name) for name in beside if is_hidden(name)]
    needed = what_to_install(path.name for path in stray)
    text = f"skipped file[s] or folder[s] [have] no image file extension or no class folder{needed and f' ({needed})'}"
    yield from _finding("stray", WARNING, text, stray)
    yield from _finding("hidden", NOTE, "file[s] or folder[s] [are] hidden and skipped", hidden)
    repeated = [Path(split) / path for split, tree in trees.items() for path in tree.repeated]
    text = "link[s] [are] not followed: the linked folder contains the link, or is read at another path"
    yield from _finding("repeated", NOTE, text, repeated)


def class_findings(trees: dict[str, Tree]) -> Iterator[Finding]:
    empty = [Path(split) / name for split, tree in trees.items() for name in tree.empty]
    yield from _finding("empty class", ERROR, "class[es] [have] no images", empty)
    everywhere = set().union(*(tree.classes for tree in trees.values()))
    missing = [Path(split) / name for split, tree in trees.items() for name in sorted(everywhere - set(tree.classes))]
    yield from _finding("classes differ", ERROR, "class[es] [are] missing from a split", missing)
    for alike in confusable_names(everywhere):
        yield Finding("names alike", ERROR, f"names of classes look the same: {alike}", [])
    for split, tree in list(trees.items())[:1]:  # the first split is the training set
        counts = Counter(label for _, label in tree.images)
        few = [Path(split) / name for name, count in sorted(counts.items()) if count < _FEW]
        yield from _finding("tiny class", WARNING, f"class[es] [have] fewer than {_FEW} images to learn from", few)
        if counts and max(counts.values()) > _IMBALANCE * min(counts.values()):
            least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
            sizes = " and ".join(f"{amount(counts[name], 'image')} of {shown(name)}" for name in (most, least))
            yield Finding("imbalance", WARNING, f"classes have unequal sizes: {sizes}; see data.balance", [])


def image_findings(files: Sequence[File]) -> Iterator[Finding]:
    def where(fits: Callable[[Inspection], bool]) -> list[Path]:
        return [file.path for file in files if fits(file.found)]

    for kind, text in _FAULTS.items():
        yield from _finding(kind, ERROR, text, where(lambda found, kind=kind: found.kind == kind))
    files = [file for file in files if not file.found.fault]
    text = "image[s] [have] the file extension of another format; Thaw reads the format from the content"
    yield from _finding("misnamed", WARNING, text, where(lambda found: found.misnamed))
    small = where(lambda found: min(found.width, found.height) < _SMALL)
    yield from _finding("small", WARNING, f"image[s] [have] fewer than {_SMALL} pixels on a side", small)
    large = where(lambda found: found.width * found.height > _LARGE)
    yield from _finding("large", WARNING, f"image[s] [have] more than {_LARGE / 1e6:.0f} million pixels", large)
    long = where(lambda found: max(found.width, found.height) > _LONG * min(found.width, found.height))
    yield from _finding("long", WARNING, f"image[s] [are] more than {_LONG} times as long as wide", long)
    blank = where(lambda found: found.thumbnail is not None and not found.thumbnail.any())
    yield from _finding("blank", WARNING, "image[s] [have] almost no contrast", blank)
    for name, modes in _MODES.items():
        stored = "with" if name in ("16 bits", "alpha") else "as"
        chosen = where(lambda found, modes=modes: found.mode in modes)
        yield from _finding(name, NOTE, f"image[s] [are] stored {stored} {name} and [are] converted to RGB", chosen)
    yield from _finding("turned", NOTE, "image[s] [are] turned upright by EXIF", where(lambda found: found.turned))


def copy_findings(files: Sequence[File]) -> Iterator[Finding]:
    """Yield a finding per kind of problem with identical files or near-duplicates, such as copies in two splits."""
    good = [file for file in files if not file.found.fault]
    first: dict[str, int] = {}
    equal = [(first.setdefault(file.found.sha256, index), index) for index, file in enumerate(good)]
    thumbnails = [file.found.thumbnail for file in good if file.found.thumbnail is not None]
    alike = similar_pairs([file.found.path for file in good], thumbnails)
    sets = groups(len(good), [pair for pair in [*equal, *alike] if pair[0] != pair[1]])
    found: dict[str, list[list[Path]]] = defaultdict(list)
    for members in (members for members in sets if len(members) > 1):
        copies = [good[index] for index in members]
        found[_kind_of_copies(copies)].append([file.path for file in copies])
    texts = {
        "conflict": (ERROR, "image[s] [are] in several classes"),
        "leak": (ERROR, "image[s] [are] in several splits, so that metrics would be too good"),
        "copy": (WARNING, "image[s] [have] identical copies"),
        "near copy": (WARNING, "image[s] [have] near-duplicates: re-encoded, resized, mirrored or cropped"),
    }
    for kind, (severity, text) in texts.items():
        if found[kind]:
            yield Finding(kind, severity, agreeing(text, len(found[kind])), found[kind])
    if sentence := alike_by_design(thumbnails):
        yield Finding("alike by design", NOTE, sentence, [])


def _kind_of_copies(files: Sequence[File]) -> str:
    if len({file.label for file in files}) > 1:
        return "conflict"
    if len({file.split for file in files}) > 1:
        return "leak"
    return "copy" if len({file.found.sha256 for file in files}) < len(files) else "near copy"
