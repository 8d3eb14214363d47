"""Where pretrained weights come from, and the licence that is stated there."""

import re
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

_SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "cc-by-nc-4.0": "CC-BY-NC-4.0"}
_VAGUE = ("", "unknown", "other")
# The title of a licence's text -> its SPDX identifier. BSD licences have no title that tells their versions apart.
_TITLES = {r"Apache (Software )?License,?\s+(Version )?2\.0": "Apache-2.0", r"MIT License": "MIT"}


@dataclass(frozen=True)
class Origin:
    """The source of pretrained weights. `licence` is None if the source states none; `statement` says who states it."""

    source: str
    licence: str | None
    statement: str


def spdx(name: str | None) -> str | None:
    """Return a licence's SPDX identifier, or the name itself if it is not a common one; None if `name` says nothing."""
    name = (name or "").strip()
    return None if name.lower() in _VAGUE else _SPDX.get(name.lower(), name)


def package_origin(package: str) -> Origin:
    """Return the origin of weights that the installed pip package `package` contains.

    The licence is the package's `License-Expression`, else the one whose text is in the package's file LICENSE. The
    free text of the field `License` is used last, because it often says only UNKNOWN.
    """
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return Origin(f"the pip package {package}", None, "the package has no metadata")
    source = f"the pip package {package} {found.version}"
    stated = spdx(_entry(found, "License-Expression"))
    if stated:
        return Origin(source, stated, "the package's metadata states it")
    for file in _licence_files(found):
        title = file.read_text(encoding="utf-8", errors="replace")[:500]
        for pattern, name in _TITLES.items():
            if re.search(pattern, title, re.IGNORECASE):
                return Origin(source, name, f"the package's file {file.name} states it")
    stated = spdx(_entry(found, "License"))
    return Origin(source, stated, f"the package's metadata states {'it' if stated else 'no licence'}")


def _entry(found: Distribution, name: str) -> str:
    return (found.metadata.get_all(name) or [""])[0]


def _licence_files(found: Distribution) -> list[Path]:
    files = [Path(str(found.locate_file(file))) for file in found.files or () if ".dist-info/" in str(file)]
    return [file for file in files if re.match("(?i)licen[cs]e|copying", file.name) and file.is_file()]
