"""Link or copy images into the folders of a new data set."""

import errno
import hashlib
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from thaw.curation.source_tree import SPLITS
from thaw.errors import UserError

_NO_HARD_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


def places(rows: Sequence[tuple[Path, str, str]], in_class_folders: bool) -> dict[Path, Path]:
    """Return a unique target path for each image in `rows` (path, class, split), relative to the data set.

    Without class folders, a target is the file name alone if this name is unique in its folder, else the whole path.
    """
    used = [(path, Path(split, label)) for path, label, split in rows if split in SPLITS]
    if in_class_folders:
        return {path: folder / path.relative_to(folder.name) for path, folder in used}
    names = Counter(_key(folder / path.name) for path, folder in used)
    return {path: folder / (path.name if names[_key(folder / path.name)] == 1 else path) for path, folder in used}


def place(targets: Mapping[Path, Path], source: Path, root: Path, how: str) -> None:
    """Link or copy each file in `source` to its target path in `root`; `how` is hard, symbolic or copy.

    Raises:
        UserError: if a target exists already.

    """
    root.mkdir(parents=True, exist_ok=True)
    for path, target in targets.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        _link(source / path, root / target, how)


def _key(path: Path) -> str:
    """Return the same key for paths that some file systems treat as equal, such as `A.jpg` and `a.jpg`."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _link(source: Path, target: Path, how: str) -> None:
    try:
        if how == "symbolic":
            target.symlink_to(source.resolve())
        elif how == "hard":
            os.link(source.resolve(), target)
        else:
            _copy(source, target)
    except FileExistsError as error:
        raise UserError(
            f"{target} exists already: the file system of DEST treats two names of images as the same."
        ) from error
    except OSError as error:  # for example, the file system has no hard links
        if how != "hard" or error.errno not in _NO_HARD_LINKS:
            raise
        _link(source, target, "copy")


def _copy(source: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    # The temporary name is a hash, because a long file name with a suffix may be too long.
    part = target.with_name(f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}.part")
    shutil.copy2(source, part)
    os.replace(part, target)
