"""A heap of photographs becomes `train/`, `val/` and, if asked for, `test/` with a folder per class in each."""

import csv
import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from thaw.curation.journal import inspected
from thaw.curation.plan import QUARANTINE, UNUSED, Entry, plan
from thaw.curation.similarity import alike_by_design
from thaw.curation.split import Shares
from thaw.curation.tree import SPLITS, Tree, read_tree
from thaw.errors import UserError

LINKS = ("hard", "symbolic", "copy")
MANIFEST, QUARANTINED, RECORD = "manifest.csv", "quarantine.csv", "prepared.json"
_MANIFEST = ("path", "class", "split", "sha256", "size", "mode", "verdict", "width", "height", "format")


@dataclass(frozen=True)
class Request:
    """What is asked for; `pattern` names classes in the names of files, else they are folders."""

    source: Path
    dest: Path
    shares: Shares
    pattern: str | None = None
    link: str = "hard"


def prepare(request: Request) -> str:
    """Makes the data set, or what is missing of it, and tells what has become of how many files.

    The source is never changed. `dest` appears as a whole when all is done; until then what is known lies in
    `<dest>.part`, from where the next call goes on.

    Raises:
        UserError: for a source that cannot be used, or a `dest` that holds something else.

    """
    _check(request)
    tree = read_tree(request.source, request.pattern)
    record = {**_told(request), "files": _listing(tree)}
    if request.dest.exists():
        return _complete(request, record)
    part = request.dest.with_name(f"{request.dest.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    with _alone(part / "lock", request.dest):
        paths = [path for path, _ in tree.images]
        entries = plan(tree, inspected(request.source, paths, part / "inspections", "inspecting"), request.shares)
        shutil.rmtree(part / "data", ignore_errors=True)
        _place([(entry.path, entry.label, entry.split) for entry in entries], request, part / "data")
        _write_lists(part / "data", tree, entries)
        (part / "data" / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        os.replace(part / "data", request.dest)
    shutil.rmtree(part)
    return _summary(entries, tree, request)


def _check(request: Request) -> None:
    source, dest = request.source.resolve(), request.dest.resolve()
    if source == dest or source in dest.parents or dest in source.parents:
        raise UserError(f"DEST={request.dest} and SOURCE={request.source} must not lie in each other.")


@contextmanager
def _alone(path: Path, dest: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout as error:
        raise UserError(f"{dest} is being prepared by another process.") from error
    try:
        yield
    finally:
        lock.release()


def _told(request: Request) -> dict:
    shares = asdict(request.shares)
    return {"source": str(request.source.resolve()), "pattern": request.pattern, "link": request.link, **shares}


def _listing(tree: Tree) -> str:
    """Changes with any image that is added, removed or altered."""
    digest = hashlib.sha256()
    for path, label in tree.images:
        facts = (tree.root / path).stat()
        digest.update(f"{path}\0{label}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _complete(request: Request, record: dict) -> str:
    """What is there, with files that have been lost from it put back."""
    kept = request.dest / RECORD
    before = json.loads(kept.read_text()) if kept.is_file() else None
    if before != record:
        raise UserError(f"DEST={request.dest} {_difference(before, record)}; choose another DEST, or remove it first.")
    with (request.dest / MANIFEST).open(newline="") as file:
        rows = [(Path(row["path"]), row["class"], row["split"]) for row in csv.DictReader(file)]
    missing = [row for row in rows if row[2] in SPLITS and not _target(request, request.dest, *row).exists()]
    _place(missing, request, request.dest)
    shutil.rmtree(request.dest.with_name(f"{request.dest.name}.part"), ignore_errors=True)
    done = f"{len(missing)} files were missing and are back" if missing else "there is nothing to do"
    return f"{request.dest} has been prepared before: {done}."


def _difference(before: dict | None, record: dict) -> str:
    if before is None:
        return "exists and was not made by this command"
    changed = [f"{key}={before.get(key)}" for key in record if key != "files" and before.get(key) != record[key]]
    return f"was prepared with {', '.join(changed)}" if changed else "was prepared from other files in SOURCE"


def _place(rows: Sequence[tuple[Path, str, str]], request: Request, root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for path, label, split in rows:
        if split in SPLITS:
            target = _target(request, root, path, label, split)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(request.source / path, target, request.link)


def _target(request: Request, root: Path, path: Path, label: str, split: str) -> Path:
    return root / split / label / (path.name if request.pattern else path.relative_to(label))


def _link(source: Path, target: Path, how: str) -> None:
    if how == "symbolic":
        target.symlink_to(source.resolve())
        return
    try:
        if how == "hard":
            os.link(source.resolve(), target)
            return
    except OSError as error:  # another file system, or one without hard links
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
    part = target.with_name(f"{target.name}.part")
    shutil.copy2(source, part)
    os.replace(part, target)


def _write_lists(root: Path, tree: Tree, entries: Sequence[Entry]) -> None:
    with (root / MANIFEST).open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_MANIFEST)
        for entry in entries:
            found = entry.found
            facts = entry.path.as_posix(), entry.label, entry.split, found.sha256, found.size, found.mode, entry.verdict
            rows.writerow([*facts, found.width, found.height, found.format])
    with (root / QUARANTINED).open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["path", "class", "kind", "reason"])
        aside = [(entry.path, entry.label, entry.kind, entry.verdict) for entry in entries if entry.split == QUARANTINE]
        aside += [(path, "", "stray", "does not end like an image of a class") for path in tree.stray]
        aside += [(path, "", "hidden", "is hidden") for path in tree.hidden]
        rows.writerows((path.as_posix(), *rest) for path, *rest in sorted(aside))


def _summary(entries: Sequence[Entry], tree: Tree, request: Request) -> str:
    counts = Counter((entry.label, entry.split) for entry in entries)
    columns = [name for name in (*SPLITS, UNUSED, QUARANTINE) if any(split == name for _, split in counts)]
    rows = [["class", *columns], *([label, *(str(counts[label, name]) for name in columns)] for label in tree.classes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    kinds = Counter(entry.kind for entry in entries if entry.split == QUARANTINE)
    kinds |= Counter({"stray": len(tree.stray), "hidden": len(tree.hidden)})
    aside = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()) if count)
    told = f"\nset aside, with reasons in {request.dest / QUARANTINED}: {aside}" if aside else ""
    alike = alike_by_design([entry.found.marks for entry in entries if entry.found.marks is not None])
    told += f"\nnote     {alike}" if alike else ""
    return "\n".join(table) + told + f"\ndata     {request.dest}"
