"""Assign images to splits by content and seed; names and order of files do not matter."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thaw.errors import UserError
from thaw.pages.text import agreeing, amount


@dataclass(frozen=True)
class Shares:
    """Split sizes per class, as numbers of images or fractions below 1; `limit` is the number of images per class."""

    val: float = 0.2
    test: float = 0
    limit: int | None = None
    seed: int = 0


def assign(groups: Mapping[str, Sequence[int]], label: str, shares: Shares) -> dict[int, str]:
    """Return the split of each image of a class by its index; images beyond `shares.limit` get `unused`.

    `groups` maps the smallest SHA-256 of all copies of an image to the indices of these copies.

    Raises:
        UserError: if the class has too few images, or the exact sizes would put copies into different splits.

    """
    keys = sorted(groups, key=lambda key: hashlib.sha256(f"{shares.seed}/{key}".encode()).digest())
    available = sum(map(len, groups.values()))
    used = min(available, shares.limit or available)
    wanted = {name: _number(share, used) for name, share in (("test", shares.test), ("val", shares.val))}
    held_out = sum(wanted.values())
    if used <= held_out:
        raise UserError(
            f"class {label} has {amount(available, 'usable image')}{_limit_note(shares, available)}, but "
            f"{held_out} {agreeing('[are]', held_out)} to be held out, so none is left to train on. "
            "Choose fewer with --val or --test."
        )
    splits: dict[int, str] = {}
    for name, count in (*wanted.items(), ("train", used - held_out)):
        for copies in (groups[key] for key in keys):
            if copies[0] not in splits and len(copies) <= count:
                splits |= dict.fromkeys(copies, name)
                count -= len(copies)
        if count and name != "train":
            raise UserError(
                f"class {label} cannot give exactly {amount(wanted[name], 'image')} to {name}, because copies of an "
                "image stay in one split; choose another number."
            )
    return {index: splits.get(index, "unused") for copies in groups.values() for index in copies}


def _number(share: float, of: int) -> int:
    return round(share * of) if share < 1 else int(share)


def _limit_note(shares: Shares, available: int) -> str:
    return f" (--limit {shares.limit})" if shares.limit and shares.limit < available else ""
