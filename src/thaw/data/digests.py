"""What a split's pixels depend on, as short strings that change with it: file contents, libraries, code."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import PIL
import torchvision

from thaw.data.images import named_fault
from thaw.data.workers import usable_cores


def contents_digest(paths: Sequence[str | Path]) -> str:
    """SHA-256 over the contents of the files, in their order.

    Raises:
        UnreadableImageError: naming the path of a file that cannot be read.

    """
    return hashlib.sha256(b"".join(file_digests(paths))).hexdigest()


def file_digests(paths: Sequence[str | Path]) -> list[bytes]:
    """SHA-256 of each file.

    Raises:
        UnreadableImageError: naming the path of a file that cannot be read.

    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(_file_digest, paths))


def digest_of(*facts: object) -> str:
    """SHA-256 over what `facts` are written as."""
    return hashlib.sha256("\n".join(map(repr, facts)).encode()).hexdigest()


READING = ("images", "grey", "metadata")  # modules that decide what is read of a file


@cache
def code_version(*names: str) -> str:
    """Changes with the source of the modules `names` of this folder, and with the libraries that they use."""
    sources = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in names]
    return digest_of(sources, PIL.__version__, torchvision.__version__)


def _file_digest(path: str | Path) -> bytes:
    with named_fault(path):
        return hashlib.sha256(Path(path).read_bytes()).digest()
