"""Download a published data set, resume an interrupted download, and check the archive's SHA-256."""

import hashlib
import os
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from thaw.errors import RunError, UserError
from thaw.runs.writable import refuse_unwritable

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """ZIP file at `url`, whose folder `folder` contains the data set."""

    url: str
    sha256: str
    folder: str


def fetch(what: Archive, dest: Path) -> Path:
    """Download and unpack the archive to the folder `dest`, unless `dest` exists already; return `dest`.

    Raises:
        UserError: if `<dest>.zip` exists and is not the archive, or `dest` cannot be written.
        RunError: if the download fails, its SHA-256 is not `what.sha256`, or it is not a complete ZIP file.

    """
    if dest.is_dir():
        return dest
    archive = dest.with_name(f"{dest.name}.zip")
    refuse_unwritable(dest.parent, "SOURCE")
    found = archive.is_file()
    if not found:
        _download(what.url, what.sha256, archive)
    elif _sha256(archive) != what.sha256:
        raise UserError(f"{archive} exists, but is not the archive from {what.url}; move it, or choose another SOURCE.")
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=dest.parent) as unpacked:
        _unpack(archive, Path(unpacked))
        os.replace(Path(unpacked) / what.folder, dest)
    if not found:
        archive.unlink()
    return dest


def _download(url: str, sha256: str, archive: Path) -> None:
    part = archive.with_name(f"{archive.name}.part")
    resumed = part.exists()
    try:
        _receive(url, part)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise RunError(f"cannot fetch {url} ({reason}). Run the same command again to resume the download.") from error
    if (digest := _sha256(part)) != sha256:
        cure = f". This download resumed an earlier one: remove {part} and try again" if resumed else ""
        if not resumed:
            part.unlink()
        raise RunError(f"{url} is not the expected file: its SHA-256 is {digest}, not {sha256}{cure}.")
    os.replace(part, archive)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _receive(url: str, part: Path) -> None:
    """Download to `part`. If `part` exists and the server supports ranges, download only the missing bytes."""
    there = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # no bytes are missing: the whole file has been downloaded
            return
        raise
    with answer:
        resumed = answer.status == 206
        total = int(answer.headers.get("Content-Length", 0)) + (there if resumed else 0)
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(total=total, initial=there if resumed else 0, unit="B", unit_scale=True, desc="fetching",
                 disable=not sys.stderr.isatty(), leave=False) as bar,
        ):  # fmt: skip
            while block := answer.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
    if total and part.stat().st_size < total:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)  # extractall keeps every path inside `folder`
    except zipfile.BadZipFile as error:
        raise RunError(f"{archive} is not a complete ZIP archive; remove it and try again.") from error
