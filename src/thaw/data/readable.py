"""Before training starts, find images that cannot be decoded, and replace or remove them."""

import json
import os
import stat
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from thaw.data.digests import digest_of, reading_version
from thaw.data.folders import ClassFolders, Sample
from thaw.data.images import load_rgb
from thaw.data.workers import in_threads
from thaw.errors import RunError, UnreadableImageError
from thaw.pages.text import listed
from thaw.storage.cache import build_once

_SHARE = 0.01  # at most this share of a split's images may be skipped
_KEPT = 100  # cache entries, a few bytes each


def skip_unreadable(splits: Mapping[str, ClassFolders]) -> dict[str, list[str]]:
    """Remove from `splits` all images that cannot be opened or decoded; return their paths by split.

    In the training split, the next image of the same class replaces each removed image. The other splits get no
    replacements, because duplicate images would make confidence intervals too narrow.

    Raises:
        RunError: if more than 1 % of a split (and more than one image) would be removed, or all images of a class.

    """
    before = {name: images.samples for name, images in splits.items()}
    bad = unopenable([path for images in splits.values() for path in images.paths])
    for images in splits.values() if bad else ():
        images.keep([sample for sample in images.samples if sample[0] not in bad])
    bad |= unreadable(
        [path for images in splits.values() for path in images.paths],
        [digest for images in splits.values() for digest in images.digests],
        max(images.short_side or 0 for images in splits.values()) or None,
    )
    skipped = {name: [path for path, _ in samples if path in bad] for name, samples in before.items()}
    for name, images in splits.items():
        if len(skipped[name]) > max(1, _SHARE * len(before[name])):
            raise RunError(
                f"{len(skipped[name])} of {len(before[name])} {name} images cannot be decoded, but data.on_bad_image="
                f"skip skips at most {_SHARE:.0%} of a split (or one image): {listed(skipped[name], 3)}."
            )
        kept = [sample for sample in before[name] if sample[0] not in bad]
        old, left = (images.label_sets.counts(label for _, label in samples) for samples in (before[name], kept))
        if lost := old.keys() - left.keys():
            names = listed(repr(images.classes[label]) for label in sorted(lost))
            raise RunError(f"no {name} image of the class {names} can be decoded, so skipping would empty this class.")
        images.keep(with_replacements(before[name], bad) if name == "train" else kept)
    return skipped


def unopenable(paths: Sequence[str]) -> set[str]:
    """Return the paths that cannot be opened as regular files, such as broken links and files without permission."""
    return {path for path, good in zip(paths, in_threads(_can_be_opened, paths), strict=True) if not good}


def _can_be_opened(path: str) -> bool:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            file.read(1)
    except OSError:
        return False
    return True


def unreadable(paths: Sequence[str], digests: Sequence[bytes], short_side: int | None) -> set[str]:
    """Return the paths that `load_rgb` cannot decode; the result is cached under the `digests` of all files."""
    by_digest = dict(zip(paths, (digest.hex() for digest in digests), strict=True))
    contents = {digest: path for path, digest in by_digest.items()}
    key = digest_of(sorted(contents), short_side, reading_version())

    def write(part: Path) -> None:
        part.write_text(json.dumps(_undecodable(contents, short_side)))

    bad = set(json.loads(build_once(f"unreadable/{key}.json", write, _is_whole, _KEPT).read_text()))
    return {path for path, digest in by_digest.items() if digest in bad}


def with_replacements(samples: Sequence[Sample], bad: Collection[str]) -> list[Sample]:
    """Replace samples whose path is in `bad` by the next good sample with their label; wrap around at the end.

    If no good sample has the label, which stands for several classes, the first good sample replaces it.
    """
    repaired = list(samples)
    following: dict[int, Sample] = {}
    other = next((sample for sample in samples if sample[0] not in bad), None)
    for index in [*reversed(range(len(samples)))] * 2:  # twice, so that the first sample follows the last
        path, label = samples[index]
        if path not in bad:
            following[label] = samples[index]
        repaired[index] = following.get(label, other or samples[index])
    return repaired


def _undecodable(contents: Mapping[str, str], short_side: int | None) -> list[str]:
    def can_be_decoded(path: str) -> bool:
        try:
            load_rgb(path, short_side)
        except UnreadableImageError:
            return False
        return True

    found = in_threads(can_be_decoded, contents.values())
    shown = tqdm(found, "checking images, once", len(contents), leave=False, disable=None)
    return [digest for digest, good in zip(contents, shown, strict=True) if not good]


def _is_whole(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text()), list)
    except ValueError:
        return False
