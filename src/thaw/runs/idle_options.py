"""Refuse options that have no effect on the configured run: a user who sets an option expects an effect."""

from collections.abc import Iterable, Mapping, Sequence

from thaw.errors import UserError

_RATES = ("lr", "lr_decay", "head_lr")
_OF_STEPS = (
    *("optimizer", "scheduler", "mix", "loss", "lr_factor", *(f"strategy.{key}" for key in _RATES)),
    *("head", "trainer.gradient_clip_val", "trainer.accumulate_grad_batches"),
    *("callbacks.ema", "callbacks.find_lr", "callbacks.early_stopping"),
)
_AUGMENTATION: tuple[str, ...] = ("data.rotation", "data.crop_scale")
_WHEN_SOLVED = (*_AUGMENTATION, "data.augment")
_SOLVED = "all phases of strategy={name} have a solver, so no optimizer takes steps"


def options_without_effect(values: Mapping) -> dict[str, str]:
    """Find keys and groups without an effect in the configuration `values`; return the reason for each."""
    strategy, data = values["strategy"], values["data"]
    phases = [phase for phase in strategy["phases"] if isinstance(phase, Mapping)]
    learned = [phase for phase in phases if not phase.get("solver")]
    found = dict.fromkeys(_OF_STEPS, _SOLVED) if phases and not learned else {}
    solvers = [phase.get("solver") for phase in phases]
    if found and not any(isinstance(solver, Mapping) and solver.get("views") for solver in solvers):
        found |= dict.fromkeys(_WHEN_SOLVED, "a solver computes the head without augmentation (solver.views=0)")
    if found:
        found["features.views"] = f"{_SOLVED}; a solver uses strategy.phases.0.solver.views instead"
    if found and data.get("balance") == "sampler":
        found["data.balance"] = f"{_SOLVED}; data.balance=weights has an effect"
    if learned and all(phase.get("train") in ("head", ["head"]) for phase in learned):
        reason = "with strategy={name}, an optimizer trains only the head"
        found |= dict.fromkeys(("strategy.lr_decay", "strategy.keep_statistics"), reason)
    for key in _RATES:
        if learned and all(phase.get(key) is not None for phase in learned):
            found[f"strategy.{key}"] = f"strategy={{name}} sets its own {key} in every phase without a solver"
    if strategy.get("pretrained") is False:
        found |= dict.fromkeys(("weights", "head"), "strategy={name} starts from random weights")
    if values["trainer"].get("gradient_clip_val") is None:
        found["trainer.gradient_clip_algorithm"] = "trainer.gradient_clip_val is not set"
    if data.get("augment") is False:
        found |= dict.fromkeys(_AUGMENTATION, "data.augment=false turns augmentation off")
    if data.get("folds") is not None:
        found["data.val_fraction"] = "data.folds splits the images"
    return {key: reason.format(name=strategy.get("name")) for key, reason in found.items()}


def refuse_idle(values: Mapping, overrides: Iterable[str]) -> None:
    """Raise UserError if an override of a single run has no effect; `values` is the run's configuration."""
    reasons = options_without_effect(values)
    for override in overrides:
        if reason := _reason(override, reasons):
            raise UserError(f"{override} has no effect: {reason}.")


def refuse_idle_sweep(jobs: Sequence[tuple[Mapping, Sequence[str]]]) -> None:
    """Raise UserError if an override has no effect in any job of a sweep.

    This check leaves out overrides that all jobs have, because users cannot give an override to only some of the jobs.

    Args:
        jobs: the configuration values and the overrides of each job.

    """
    if len(jobs) < 2:
        return
    reasons = [options_without_effect(values) for values, _ in jobs]
    shared = set.intersection(*(set(overrides) for _, overrides in jobs))
    for override in dict.fromkeys(override for _, overrides in jobs for override in overrides):
        found = [_reason(override, of_job) for of_job in reasons]
        if override not in shared and all(found):
            raise UserError(f"{override} has no effect in any job of the sweep: {found[0]}.")


def is_idle(override: str, reasons: Mapping[str, str]) -> bool:
    """Return whether an override has no effect, given the result of `options_without_effect`."""
    return _reason(override, reasons) is not None


def _reason(override: str, reasons: Mapping[str, str]) -> str | None:
    key, _, value = override.lstrip("+~").partition("=")
    if key == "weights" and value == "none":
        return None
    chosen = [f"{key}.{name}" for name in value.strip("[]").split(",")] if key == "callbacks" else [key]
    return next(
        (reasons[idle] for name in chosen for idle in reasons if name == idle or name.startswith(f"{idle}.")), None
    )
