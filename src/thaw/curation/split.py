"""Assign images to splits by content and seed; names and order of files do not matter."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from thaw.errors import UserError
from thaw.pages.text import agreeing, amount


@dataclass(frozen=True)
class Shares:
    """Sizes of splits per class, as numbers of images or as shares below 1; `limit` is the number of images to use."""

    val: float = 0.2
    test: float = 0
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Group:
    """Copies of one image: their indices, and the smallest of their digests as the key."""

    members: tuple[int, ...]
    key: str


def assign(groups: Sequence[Group], label: str, shares: Shares) -> dict[int, str]:
    """Return the split of each image of a class, `unused` for images beyond the limit.

    Raises:
        UserError: if the class has too few images, or copies prevent the exact sizes.

    """
    ordered = sorted(groups, key=lambda group: hashlib.sha256(f"{shares.seed}/{group.key}".encode()).digest())
    available = sum(len(group.members) for group in groups)
    used = min(available, shares.limit or available)
    wanted = {name: _number(share, used) for name, share in (("test", shares.test), ("val", shares.val))}
    held_out = sum(wanted.values())
    if used <= held_out:
        raise UserError(
            f"class {label} has {amount(available, 'usable image')}{_limit_note(shares, available)}, of which "
            f"{held_out} {agreeing('[are]', held_out)} to be held out, so that none is left to train on; "
            "choose fewer with --val or --test."
        )
    splits: dict[int, str] = {}
    for name, count in (*wanted.items(), ("train", used - held_out)):
        for group in ordered:
            if group.members[0] not in splits and len(group.members) <= count:
                splits |= dict.fromkeys(group.members, name)
                count -= len(group.members)
        if count and name != "train":
            raise UserError(
                f"class {label} cannot give exactly {amount(wanted[name], 'image')} to {name}, because copies of an "
                "image stay in one split; choose another number."
            )
    return {index: splits.get(index, "unused") for group in groups for index in group.members}


def _number(share: float, of: int) -> int:
    return round(share * of) if share < 1 else int(share)


def _limit_note(shares: Shares, available: int) -> str:
    return f" (--limit {shares.limit})" if shares.limit and shares.limit < available else ""
