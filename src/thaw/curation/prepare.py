"""Turn a folder of photographs into `train/`, `val/` and, on request, `test/`, each with one folder per class."""

import csv
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from thaw.curation.decisions import QUARANTINE, UNUSED, Entry, plan
from thaw.curation.journal import file_stamp, inspected
from thaw.curation.placement import place, places
from thaw.curation.similarity import alike_by_design
from thaw.curation.source_tree import SPLITS, Tree, read_tree
from thaw.curation.split import Shares
from thaw.errors import UserError
from thaw.pages.limits import LINES
from thaw.pages.text import agreeing, aligned, amount, shown
from thaw.runs.writable import refuse_unwritable
from thaw.storage.files import read_rows, whole_file

LINKS = ("hard", "symbolic", "copy")
MANIFEST, QUARANTINED, RECORD = "manifest.csv", "quarantine.csv", "prepared.json"
_LOCK = "lock"
_MANIFEST = ("path", "class", "split", "sha256", "size", "mode", "verdict", "width", "height", "format")


@dataclass(frozen=True)
class Request:
    """Options of `prepare`. `pattern` extracts the class from file names; None means that each class has a folder."""

    source: Path
    dest: Path
    shares: Shares
    pattern: str | None = None
    link: str = "hard"


def prepare(request: Request) -> str:
    """Create the data set, or restore missing files of an existing one, and return a summary as text.

    The source is never changed. Unfinished work stays in `<dest>.part`, and the next call continues it. `dest` is
    created only when the data set is complete.

    Raises:
        UserError: if the source cannot be used, or `dest` exists and was not made with the same options and files.

    """
    _check(request)
    tree = read_tree(request.source, request.pattern)
    record = {**_options(request), "files": _listing(tree)}
    if request.dest.exists():
        return _complete(request, record)
    part = _part(request.dest)
    if part.exists() and not _is_own(part):
        raise UserError(
            f"{part} exists, but was not made by this command. The command needs that path for its unfinished work: "
            f"move {part}, or choose another DEST."
        )
    refuse_unwritable(part, "DEST")
    with _alone(part / _LOCK, request.dest):
        if request.dest.exists():  # another process created it after the check above
            return _complete(request, record)
        paths = [path for path, _ in tree.images]
        entries = plan(tree, inspected(request.source, paths, part / "inspections", "inspecting"), request.shares)
        shutil.rmtree(part / "data", ignore_errors=True)
        targets = places([(entry.path, entry.label, entry.split) for entry in entries], not request.pattern)
        place(targets, request.source, part / "data", request.link)
        _write_lists(part / "data", tree, entries)
        (part / "data" / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        os.replace(part / "data", request.dest)
    shutil.rmtree(part, ignore_errors=True)  # ignore errors: another process may wait for the lock
    return _summary(entries, tree, request)


def _part(dest: Path) -> Path:
    return dest.with_name(f"{dest.name}.part")


def _is_own(part: Path) -> bool:
    """Return whether a folder contains only the files of an interrupted call of `prepare`."""
    try:
        names = {path.name for path in part.iterdir()} if part.is_dir() else set()
    except FileNotFoundError:  # another process finished and deleted the folder
        return True
    return _LOCK in names and names <= {_LOCK, "inspections", "data"}


def _check(request: Request) -> None:
    source, dest = request.source.resolve(), request.dest.resolve()
    if source == dest or source in dest.parents or dest in source.parents:
        raise UserError(f"DEST={request.dest} and SOURCE={request.source} must not contain each other.")


def _alone(path: Path, dest: Path) -> AbstractContextManager:
    try:
        return FileLock(path).acquire(timeout=1)
    except (Timeout, FileNotFoundError) as error:  # not found: the other process has deleted its folder
        raise UserError(f"{dest} is being prepared by another process; wait until it ends.") from error


def _options(request: Request) -> dict:
    shares = asdict(request.shares)
    return {"source": str(request.source.resolve()), "pattern": request.pattern, "link": request.link, **shares}


def _listing(tree: Tree) -> str:
    """Return a digest that changes if an image is added, removed or modified."""
    digest = hashlib.sha256()
    for path, label in tree.images:
        line = "\0".join(map(str, (path, label, *file_stamp(tree.root / path)))) + "\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _complete(request: Request, record: dict) -> str:
    """Restore missing files of an existing data set, and return a summary."""
    kept = request.dest / RECORD
    before = json.loads(kept.read_text()) if kept.is_file() else None
    if before != record:
        raise UserError(f"DEST={request.dest} {_difference(before, record)}; choose another DEST, or delete it first.")
    rows = [(Path(row["path"]), row["class"], row["split"]) for row in read_rows(request.dest / MANIFEST)]
    targets = places(rows, not request.pattern)
    missing = {path: target for path, target in targets.items() if not (request.dest / target).exists()}
    for target in missing.values():
        (request.dest / target).unlink(missing_ok=True)  # a broken link, for which exists() is False
    place(missing, request.source, request.dest, request.link)
    if _is_own(_part(request.dest)):
        shutil.rmtree(_part(request.dest), ignore_errors=True)
    restored = agreeing("missing file[s] [were] restored", len(missing))
    done = f"{len(missing):,} {restored}" if missing else "there is nothing to do"
    return f"{request.dest} has been prepared before: {done}."


def _difference(before: dict | None, record: dict) -> str:
    if before is None:
        return "exists, but was not made by this command"
    changed = [f"{key}={before.get(key)}" for key in record if key != "files" and before.get(key) != record[key]]
    return f"was prepared with {', '.join(changed)}" if changed else "was prepared from other files in SOURCE"


def _write_lists(root: Path, tree: Tree, entries: Sequence[Entry]) -> None:
    with whole_file(root / MANIFEST) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_MANIFEST)
        for entry in entries:
            found = entry.found
            facts = entry.path.as_posix(), entry.label, entry.split, found.sha256, found.size, found.mode, entry.verdict
            rows.writerow([*facts, found.width, found.height, found.format])
    with whole_file(root / QUARANTINED) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["path", "class", "kind", "reason"])
        aside = [(entry.path, entry.label, entry.kind, entry.verdict) for entry in entries if entry.split == QUARANTINE]
        aside += [(path, "", "stray", "has no image file extension or no class folder") for path in tree.stray]
        aside += [(path, "", "hidden", "is hidden") for path in tree.hidden]
        aside += [
            (
                path,
                "",
                "repeated",
                "is a link to a folder that contains the link, or to a folder that is read under another path",
            )
            for path in tree.repeated
        ]
        rows.writerows((path.as_posix(), *rest) for path, *rest in sorted(aside))


def _summary(entries: Sequence[Entry], tree: Tree, request: Request) -> str:
    counts = Counter((entry.label, entry.split) for entry in entries)
    columns = [name for name in (*SPLITS, UNUSED, QUARANTINE) if any(split == name for _, split in counts)]
    shown_classes = [(shown(label), *(str(counts[label, name]) for name in columns)) for label in tree.classes[:LINES]]
    table = aligned([("class", *columns), *shown_classes], numbers=True)
    if len(tree.classes) > LINES:
        table.append(f"and {amount(len(tree.classes) - LINES, 'more class')}, in {request.dest / MANIFEST}")
    kinds = Counter(entry.kind for entry in entries if entry.split == QUARANTINE)
    kinds |= Counter({name: len(getattr(tree, name)) for name in ("stray", "hidden", "repeated")})
    aside = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()) if count)
    notes = f"\nexcluded ({request.dest / QUARANTINED} has the reasons): {aside}" if aside else ""
    alike = alike_by_design([entry.found.thumbnail for entry in entries if entry.found.thumbnail is not None])
    notes += f"\nnote     {alike}" if alike else ""
    return "\n".join(table) + notes + f"\ndata     {request.dest}"
