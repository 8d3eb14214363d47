"""Who goes into which split: by content and seed alone, whatever files are called and however they are ordered."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from thaw.errors import UserError
from thaw.pages.text import agreeing, amount


@dataclass(frozen=True)
class Shares:
    """Images of each class: as a number, or as a share below 1 of what is used; `limit` of all that is used."""

    val: float = 0.2
    test: float = 0
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Group:
    """Images that are copies of each other, as indices, and the smallest of their digests."""

    members: tuple[int, ...]
    key: str


def assign(groups: Sequence[Group], label: str, shares: Shares) -> dict[int, str]:
    """The split of each image of a class, and `unused` for those beyond the limit.

    Raises:
        UserError: if the class has fewer images than are asked for, or none would be left to train on.

    """
    ordered = sorted(groups, key=lambda group: hashlib.sha256(f"{shares.seed}/{group.key}".encode()).digest())
    there = sum(len(group.members) for group in groups)
    used = min(there, shares.limit or there)
    wanted = {name: _number(share, used) for name, share in (("test", shares.test), ("val", shares.val))}
    held_out = sum(wanted.values())
    if used <= held_out:
        raise UserError(
            f"class {label} has {amount(there, 'image')} that can be used{_of_limit(shares, there)}, and {held_out} "
            f"{agreeing('[are]', held_out)} to be held out, so that none is left to train on; ask for fewer with --val "
            "or --test."
        )
    splits: dict[int, str] = {}
    for name, count in (*wanted.items(), ("train", used - held_out)):
        for group in ordered:
            if group.members[0] not in splits and len(group.members) <= count:
                splits |= dict.fromkeys(group.members, name)
                count -= len(group.members)
        if count and name != "train":
            raise UserError(
                f"class {label} cannot give exactly {amount(wanted[name], 'image')} to {name}: copies of an image stay "
                "together, and they do not add up; ask for another number."
            )
    return {index: splits.get(index, "unused") for group in groups for index in group.members}


def _number(share: float, of: int) -> int:
    return round(share * of) if share < 1 else int(share)


def _of_limit(shares: Shares, there: int) -> str:
    return f" (--limit {shares.limit})" if shares.limit and shares.limit < there else ""
