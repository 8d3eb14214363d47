"""Checks before the first trial, so that a search starts only if its trials can."""

import json
from pathlib import Path

from omegaconf import DictConfig
from optuna.distributions import FloatDistribution

from thaw.errors import UserError
from thaw.pages.text import listed
from thaw.runs import run_files
from thaw.sweep.jobs import check_jobs
from thaw.sweep.processes import can_fork
from thaw.sweep.search.search_images import SearchImages
from thaw.sweep.search.search_setup import Plan
from thaw.sweep.search.search_space import BACKBONE, STRATEGY, WHOLE, Dimension
from thaw.sweep.search.trial_jobs import Jobs, TrialJobs
from thaw.sweep.search.trial_record import JOURNAL, TrialRecord


def check_options(jobs: Jobs, plan: Plan, images: SearchImages) -> None:
    """Check each value of each option once, before the first trial.

    Raises:
        UserError: if a run could not start with it.

    """
    backbone = next(iter(plan.space.backbones.values()))
    tried = [[*chosen, f"strategy={plan.space.strategies[0]}"] for chosen in plan.space.backbones.values()]
    tried += [[*backbone, f"strategy={name}"] for name in plan.space.strategies[1:]]
    for one in plan.space.dimensions:
        tried += [[*backbone, f"strategy={plan.space.strategies[-1]}", one.override(value)] for value in one.ends]
    for instance in plan.space.instances:
        tried += [[*backbone, f"strategy={plan.space.strategies[0]}", *instance]]
    for overrides in tried:
        check_jobs([jobs.job("check", "check", [*overrides, *images.trial])])
    for one in plan.space.dimensions:
        _refuse_without_effect(one, jobs, plan, images)


def _refuse_without_effect(one: Dimension, jobs: Jobs, plan: Plan, images: SearchImages) -> None:
    """Refuse an option that the command line varies and no strategy uses, and fractions where a number must be whole.

    Raises:
        UserError: in both cases.

    """
    if one.key in WHOLE and isinstance(one.distribution, FloatDistribution):
        raise UserError(f"{one.key} must be a whole number: write int(interval({one.ends[0]:g},{one.ends[1]:g})).")
    runner = TrialJobs(jobs, plan.space, images.trial)
    backbone = next(iter(plan.space.backbones))
    tried = [{BACKBONE: backbone, STRATEGY: name, one.key: one.ends[0]} for name in plan.space.strategies]
    if one.key in plan.asked and not any(one.key in runner.active(params) for params in tried):
        strategies = ",".join(plan.space.strategies)
        raise UserError(f"{one.key} has no effect with strategy={strategies}: leave it out, or add another strategy.")


def refuse_elsewhere(config: DictConfig, folder: Path) -> None:
    """Refuse a launcher, an operating system or a folder with which there can be no search."""
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    if launcher != "basic":
        raise UserError(f"hydra/launcher={launcher} has no effect on a search: sweep.workers=N starts N processes.")
    if not can_fork():
        raise UserError("sweep=search runs on Linux only: elsewhere, compare backbones with sweep=shortlist.")
    if (folder / run_files.SWEEP_CONFIG).is_file() and not (folder / JOURNAL).is_file():
        raise UserError(f"{folder} holds another kind of sweep: choose another folder with hydra.sweep.dir=….")


def refuse_other_search(record: TrialRecord, plan: Plan, images: SearchImages, folder: Path) -> None:
    """Refuse to continue a search with another space or other images; a larger budget or more trials are welcome.

    Raises:
        UserError: if something else than the extent of the search has changed.

    """
    now = {"options": sorted([*plan.fixed, *plan.space.listed()]), "images": json.loads(json.dumps(images.fingerprint))}
    with record.alone():
        before = record.noted("search")
        if before is None:
            record.note("search", now)
        elif before["options"] != now["options"]:
            gone, new = (sorted(set(a["options"]) - set(b["options"])) for a, b in ((before, now), (now, before)))
            raise UserError(
                f"{folder} holds a search with other options. Only there: {listed(gone, 3) or 'nothing'}; only here: "
                f"{listed(new, 3) or 'nothing'}. Repeat its options, or choose another folder with hydra.sweep.dir=…."
            )
        elif before["images"] != now["images"]:
            raise UserError(f"{folder} holds a search on other images: choose another folder with hydra.sweep.dir=….")
