"""The whole of `sweep=search`: trials until the budget asks for the last stage, then the comparison."""

import json
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import FloatDistribution

from thaw.data.workers import usable_cores
from thaw.errors import UserError
from thaw.pages.text import amount, duration, listed
from thaw.runs import run_files
from thaw.runs.configuration import as_hydra_config
from thaw.runs.optional_output import naming_page, warn_on_failure
from thaw.runs.stopping import Stopped, StopSignals
from thaw.runs.streams import print_error
from thaw.sweep.jobs import Job, check_jobs
from thaw.sweep.processes import Process, can_fork, import_once
from thaw.sweep.search.final_stage import FINALISTS, WINNER, FinalStage
from thaw.sweep.search.merged_weights import Merged, Merging
from thaw.sweep.search.proposals import PROBE, Proposals
from thaw.sweep.search.search_images import SearchImages, search_images
from thaw.sweep.search.search_loop import Search, all_fail, best_trial
from thaw.sweep.search.search_progress import SearchProgress
from thaw.sweep.search.search_results import PAGE, Finished, write_results
from thaw.sweep.search.search_setup import Plan, plan_search
from thaw.sweep.search.search_space import BACKBONE, STRATEGY, WHOLE, Dimension
from thaw.sweep.search.time_budget import TimeBudget, process_start
from thaw.sweep.search.trial_jobs import Jobs, TrialJobs
from thaw.sweep.search.trial_record import JOURNAL, TrialRecord

_WORKERS = "workers"


def run_search(
    config: DictConfig,
    arguments: Sequence[str],
    models: Sequence[str],
    compose: Callable[[Sequence[str]], DictConfig],
    task: Callable[[Job, list[str]], None],
) -> None:
    """Search in the folder `hydra.sweep.dir`, or continue there; exit with a status above 0 if it did not end well.

    `arguments` are the overrides of the command line, `models` the options of conf/model. `compose` returns the
    configuration of a run from its overrides, and `task` runs a job in the current process.

    Raises:
        UserError: if the search cannot start.

    """
    folder = Path(config.hydra.sweep.dir)
    _refuse_elsewhere(config, folder)
    plan = plan_search(config, arguments, models)
    import_once()
    jobs = Jobs(folder, plan.fixed, compose, _with_threads(task, plan.workers))
    images = search_images(compose, plan)
    _check(jobs, plan, images)
    record = _open_record(config, folder, plan, images)
    budget = TimeBudget(folder, plan.budget, start=process_start())
    print(f"search in {folder}: {_extent(plan)}", flush=True)
    workers = _start_workers(jobs, plan, images)
    command = shlex.join(["python", "train.py", *arguments])
    try:
        with StopSignals():
            progress = SearchProgress(record, budget)
            _work(replace(jobs, tick=progress.running), plan, images, record, budget, progress)
    except Stopped as stop:
        _stop_workers(workers, stop, record)
        _write(jobs, plan, images, record, budget, command, None)
        raise
    _await(workers, folder)
    _conclude(jobs, plan, images, record, budget, command)


def _open_record(config: DictConfig, folder: Path, plan: Plan, images: SearchImages) -> TrialRecord:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / run_files.SWEEP_CONFIG).is_file():
        OmegaConf.save(config, folder / run_files.SWEEP_CONFIG)
    record = TrialRecord(folder)
    _refuse_other_search(record, plan, images, folder)
    return record


def _start_workers(jobs: Jobs, plan: Plan, images: SearchImages) -> list[Process]:
    """Start all processes but this one. Each opens the record itself, because locks do not survive a fork."""
    folder = jobs.folder

    def work() -> None:
        _work(jobs, plan, images, TrialRecord(folder), TimeBudget(folder, plan.budget))

    return [Process(work, folder / _WORKERS / f"{number}.log") for number in range(1, plan.workers)]


def _stop_workers(workers: Sequence[Process], stop: Stopped, record: TrialRecord) -> None:
    for worker in workers:
        worker.stop(grace=30)
    done = sum(not trial.open for trial in record.trials())
    name = signal.Signals(int(stop.code or 0) - 128).name
    print_error(f"stopped by {name} after {amount(done, 'trial')}; the same command continues.")


def _await(workers: Sequence[Process], folder: Path) -> None:
    """Wait for the other processes, which end at about the same time; report those that failed."""
    for number, worker in enumerate(workers, start=1):
        if not worker.wait(seconds=60):
            worker.stop(grace=10)
        elif worker.status:
            print_error(f"worker {number} failed; {folder / _WORKERS}/{number}.log has its output.")


def _work(
    jobs: Jobs,
    plan: Plan,
    images: SearchImages,
    record: TrialRecord,
    budget: TimeBudget,
    progress: SearchProgress | None = None,
) -> None:
    """Take part in the search and in its last stage."""
    trial_jobs = TrialJobs(jobs, plan.space, images.trial)
    proposals = _proposals(trial_jobs)
    stage = FinalStage(jobs, record, plan.space, images.final, plan.seed)
    report = (lambda trial, trials: progress.ended(trials)) if progress else (lambda trial, trials: None)
    search = Search(
        record, proposals, trial_jobs, budget, plan.trials, lambda trials: stage.reserve(trials, plan.budget), report
    )
    search.search()
    stage.run(budget, lambda run, result: progress.final(run.name, result) if progress else None)


def _proposals(trial_jobs: TrialJobs) -> Proposals:
    return Proposals(trial_jobs.space, trial_jobs.configured, trial_jobs.active, trial_jobs.right)


def _conclude(
    jobs: Jobs, plan: Plan, images: SearchImages, record: TrialRecord, budget: TimeBudget, command: str
) -> None:
    """Write the results, print a summary, and exit with 1 if nothing was found."""
    stage = FinalStage(jobs, record, plan.space, images.final, plan.seed)
    summary = _write(jobs, plan, images, record, budget, command, stage)
    print(f"\n{summary}{naming_page('report', jobs.folder / PAGE)}", flush=True)
    trials = record.trials()
    if all_fail([trial for trial in trials if not trial.open], 1):
        reason = next((trial.reason for trial in trials if trial.overrides and trial.reason), "")
        print_error(f"all trials failed: {reason}")
    if not any(trial.complete for trial in trials):
        sys.exit(1)


def _write(
    jobs: Jobs,
    plan: Plan,
    images: SearchImages,
    record: TrialRecord,
    budget: TimeBudget,
    command: str,
    stage: FinalStage | None,
) -> str:
    """Write the results of the trials and, if it has run, of the last `stage`; return a summary."""
    trials = record.trials()
    merged: list[Merged] = []
    with warn_on_failure("averages of weights"):
        merged = _merged(stage, budget) if stage else []
    runner = TrialJobs(jobs, plan.space, images.trial)
    found = Finished(
        folder=jobs.folder,
        trials=trials,
        dimensions=plan.space.all_dimensions,
        dropped=_proposals(runner).dropped(trials),
        seconds=(plan.budget, budget.used()),
        repetitions=len(plan.space.instances),
        runs=stage.finished() if stage else [],
        fixed=plan.fixed,
        command=command,
        winner=stage.winner() if stage else best_trial(trials),
        merged=merged,
        chosen_on=images.chosen_on,
        sizes=runner.sizes(trials),
        holds_back=bool(images.final),
    )
    return write_results(found)


def _merged(stage: FinalStage, budget: TimeBudget) -> list[Merged]:
    """Return averages of the weights of runs that started like the winner's, if there is time for them."""
    from thaw.runs.components import instantiate

    winner = stage.winner()
    if winner is None:
        return []
    alike = [run for run in stage.best_runs(winner) if stage.job(run).summary["weights"] != "none"]
    if len(alike) < 2 or budget.left() <= 0:
        return []
    cfg = stage.job(alike[0]).configuration
    with as_hydra_config(cfg):
        merging = Merging(instantiate(cfg.data), budget.left)
    folders = {run: stage.job(run).folder for run in alike}
    probes = [run for run in alike if folders[run].name.split("-")[1] == PROBE]
    tuned = [run for run in alike if run.trial == winner.number and run not in probes]
    soup = merging.soup(list(folders.values()))
    wise = merging.wise(folders[probes[0]], folders[tuned[0]]) if probes and tuned else None
    return [one for one in (soup, wise) if one]


def _check(jobs: Jobs, plan: Plan, images: SearchImages) -> None:
    """Check each value of each option once, before the first trial.

    Raises:
        UserError: if a run could not start with it.

    """
    backbone = next(iter(plan.space.backbones.values()))
    tried = [[*chosen, f"strategy={plan.space.strategies[0]}"] for chosen in plan.space.backbones.values()]
    tried += [[*backbone, f"strategy={name}"] for name in plan.space.strategies[1:]]
    for one in plan.space.dimensions:
        kind = one.distribution
        values = getattr(kind, "choices", None) or (getattr(kind, "low", None), getattr(kind, "high", None))
        tried += [[*backbone, f"strategy={plan.space.strategies[-1]}", one.override(value)] for value in values]
    for instance in plan.space.instances:
        tried += [[*backbone, f"strategy={plan.space.strategies[0]}", *instance]]
    for overrides in tried:
        check_jobs([jobs.job("check", [*overrides, *images.trial])])
    for one in plan.space.dimensions:
        _refuse_without_effect(one, jobs, plan, images)


def _refuse_without_effect(one: Dimension, jobs: Jobs, plan: Plan, images: SearchImages) -> None:
    """Refuse an option that the command line varies and no strategy uses, and fractions where a number must be whole.

    Raises:
        UserError: in both cases.

    """
    if one.key in WHOLE and isinstance(one.distribution, FloatDistribution):
        raise UserError(f"{one.key} must be a whole number: write int(interval({one.shown.replace(' to ', ',')})).")
    runner = TrialJobs(jobs, plan.space, images.trial)
    backbone = next(iter(plan.space.backbones))
    value = next(iter(getattr(one.distribution, "choices", (getattr(one.distribution, "low", None),))))
    tried = [{BACKBONE: backbone, STRATEGY: name, one.key: value} for name in plan.space.strategies]
    if one.key in plan.asked and not any(one.key in runner.active(params) for params in tried):
        strategies = ",".join(plan.space.strategies)
        raise UserError(f"{one.key} has no effect with strategy={strategies}: leave it out, or add another strategy.")


def _refuse_elsewhere(config: DictConfig, folder: Path) -> None:
    """Refuse a launcher, an operating system or a folder with which there can be no search."""
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    if launcher != "basic":
        raise UserError(f"hydra/launcher={launcher} has no effect on a search: sweep.workers=N starts N processes.")
    if not can_fork():
        raise UserError("sweep=search runs on Linux only: elsewhere, compare backbones with sweep=shortlist.")
    if (folder / run_files.SWEEP_CONFIG).is_file() and not (folder / JOURNAL).is_file():
        raise UserError(f"{folder} holds another kind of sweep: choose another folder with hydra.sweep.dir=….")


def _refuse_other_search(record: TrialRecord, plan: Plan, images: SearchImages, folder: Path) -> None:
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
        extent = [plan.budget, plan.trials]
        if record.noted("extent") != extent:  # the last stage begins again, with what the longer search finds
            record.note("extent", extent)
            record.note(FINALISTS, None)
            record.note(WINNER, None)


def _with_threads(task: Callable[[Job, list[str]], None], workers: int) -> Callable[[Job, list[str]], None]:
    """Return `task` with an equal part of the cores for each process."""
    if workers == 1:
        return task

    def run(job: Job, arguments: list[str]) -> None:
        import torch

        torch.set_num_threads(max(1, usable_cores() // workers))
        task(job, arguments)

    return run


def _extent(plan: Plan) -> str:
    backbones, strategies = (
        amount(len(plan.space.backbones), "backbone"),
        amount(len(plan.space.strategies), "strategy"),
    )
    most = f", at most {amount(plan.trials, 'trial')}" if plan.trials else ""
    return f"{backbones}, {strategies.replace('strategys', 'strategies')}, {duration(plan.budget)}{most}"
