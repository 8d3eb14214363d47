"""Options that have no part in a run as it is configured: whoever sets one expects something of it."""

from collections.abc import Iterable, Mapping, Sequence

from thaw.errors import UserError

_SOLVED = "all phases of strategy={name} are solved, and nothing is learned in steps"


def idle(values: Mapping) -> dict[str, str]:
    """The keys of a configuration's plain values that change nothing, those of groups included, and why."""
    strategy, data = values["strategy"], values["data"]
    phases = [phase for phase in strategy["phases"] if isinstance(phase, Mapping)]
    learned = [phase for phase in phases if not phase.get("solver")]
    found = {}
    if phases and not learned:
        found = dict.fromkeys(("optimizer", "scheduler", "mix", "loss"), _SOLVED)
        found |= dict.fromkeys(("strategy.lr", "strategy.lr_decay", "strategy.head_lr"), _SOLVED)
    for key in ("lr", "lr_decay", "head_lr"):
        if learned and all(phase.get(key) is not None for phase in learned):
            found[f"strategy.{key}"] = f"every phase of strategy={{name}} that learns has its own {key}"
    if strategy.get("pretrained") is False:
        found["weights"] = "strategy={name} starts from random numbers"
    if data.get("augment") is False:
        found |= dict.fromkeys(("data.rotation", "data.crop_scale"), "data.augment=false leaves images as they are")
    if data.get("folds") is not None:
        found["data.val_fraction"] = "data.folds divides the images"
    return {key: reason.format(name=strategy.get("name")) for key, reason in found.items()}


def refuse_idle(values: Mapping, overrides: Iterable[str]) -> None:
    """Compare what a command line sets with what has a part in its run.

    Raises:
        UserError: for the first override that changes nothing.

    """
    without = idle(values)
    for override in overrides:
        if reason := _reason(override, without):
            raise UserError(f"{override} has no effect: {reason}.")


def refuse_idle_sweep(jobs: Sequence[tuple[Mapping, Sequence[str]]]) -> None:
    """Compare what sets the jobs of a sweep apart, given as values and overrides of each, with what has a part in them.

    An override that all jobs share may concern only some of them.

    Raises:
        UserError: for the first other override that changes nothing in any job.

    """
    if len(jobs) < 2:
        return
    reasons = [idle(values) for values, _ in jobs]
    shared = set.intersection(*(set(overrides) for _, overrides in jobs))
    for override in dict.fromkeys(override for _, overrides in jobs for override in overrides):
        found = [_reason(override, without) for without in reasons]
        if override not in shared and all(found):
            raise UserError(f"{override} has no effect in any job of the sweep: {found[0]}.")


def _reason(override: str, without: Mapping[str, str]) -> str | None:
    key, _, value = override.lstrip("+~").partition("=")
    if key == "weights" and value == "none":
        return None
    return next((reason for idle, reason in without.items() if key == idle or key.startswith(f"{idle}.")), None)
