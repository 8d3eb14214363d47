"""The whole of `sweep=search`: trials until the budget asks for the last stage, then the comparison."""

import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from thaw.data.workers import usable_cores
from thaw.pages.text import amount, duration
from thaw.runs import run_files
from thaw.runs.optional_output import naming_page, warn_on_failure
from thaw.runs.stopping import Stopped, StopSignals
from thaw.runs.streams import print_error
from thaw.sweep.jobs import Job
from thaw.sweep.processes import Process, import_once
from thaw.sweep.search.final_stage import FinalStage
from thaw.sweep.search.merged_weights import Merged, merged_runs
from thaw.sweep.search.proposals import Proposals
from thaw.sweep.search.search_checks import check_options, refuse_elsewhere, refuse_other_search
from thaw.sweep.search.search_images import SearchImages, search_images
from thaw.sweep.search.search_loop import Search, best_trial
from thaw.sweep.search.search_progress import SearchProgress
from thaw.sweep.search.search_results import PAGE, Finished, write_results
from thaw.sweep.search.search_setup import Plan, plan_search
from thaw.sweep.search.time_budget import TimeBudget, process_start
from thaw.sweep.search.trial_jobs import Jobs, TrialJobs
from thaw.sweep.search.trial_record import TrialRecord, finished
from thaw.sweep.tracked_sweep import tracked_sweep

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
    refuse_elsewhere(config, folder)
    plan = plan_search(config, arguments, models)
    import_once()
    jobs = Jobs(folder, plan.fixed, compose, _with_threads(task, plan.workers))
    images = search_images(compose, plan)
    check_options(jobs, plan, images)
    record = _open_record(config, folder, plan, images)
    part = _Part(jobs, plan, images, record, TimeBudget(folder, plan.budget, start=process_start()))
    print(f"search in {folder}: {_extent(plan)}", flush=True)
    with tracked_sweep(folder, [jobs.configuration([])]):
        _search(part, shlex.join(["python", "train.py", *arguments]))


def _search(part: "_Part", command: str) -> None:
    """Search with all processes, and write the results; `command` is the command line of the search."""
    workers = _start_workers(part)
    try:
        with StopSignals():
            progress = SearchProgress(part.record, part.budget)
            replace(part, jobs=replace(part.jobs, tick=progress.running)).work(progress)
    except Stopped as stop:
        _stop_workers(workers, stop, part.record)
        part.write(command, with_last_stage=False)
        raise
    _await(workers, part.jobs.folder)
    part.conclude(command)


def _open_record(config: DictConfig, folder: Path, plan: Plan, images: SearchImages) -> TrialRecord:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / run_files.SWEEP_CONFIG).is_file():
        OmegaConf.save(config, folder / run_files.SWEEP_CONFIG)
    record = TrialRecord(folder)
    refuse_other_search(record, plan, images, folder)
    record.start([plan.budget, plan.trials])
    return record


def _start_workers(part: "_Part") -> list[Process]:
    """Start all processes but this one. Each opens the record itself, because locks do not survive a fork."""
    folder, plan = part.jobs.folder, part.plan

    def work() -> None:
        replace(part, record=TrialRecord(folder), budget=TimeBudget(folder, plan.budget)).work()

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


@dataclass(frozen=True)
class _Part:
    """One process's part of a search."""

    jobs: Jobs
    plan: Plan
    images: SearchImages
    record: TrialRecord
    budget: TimeBudget

    @cached_property
    def trial_jobs(self) -> TrialJobs:
        return TrialJobs(self.jobs, self.plan.space, self.images.trial)

    @cached_property
    def proposals(self) -> Proposals:
        runner = self.trial_jobs
        return Proposals(self.plan.space, runner.configured, runner.active, runner.right)

    @cached_property
    def stage(self) -> FinalStage:
        return FinalStage(self.jobs, self.record, self.plan.space, self.images.final, self.plan.seed)

    def work(self, progress: SearchProgress | None = None) -> None:
        """Take part in the search and in its last stage."""
        search = Search(
            record=self.record,
            proposals=self.proposals,
            runner=self.trial_jobs,
            budget=self.budget,
            most=self.plan.trials,
            reserve=lambda trials: self.stage.reserve(trials, self.plan.budget),
            report=lambda trial, trials: progress.ended(trials) if progress else None,
        )
        search.search()
        self.stage.run(self.budget, lambda run, result: progress.final(run, result) if progress else None)

    def conclude(self, command: str) -> None:
        """Write the results, print a summary, and exit with 1 if nothing was found."""
        summary = self.write(command)
        print(f"\n{summary}{naming_page('report', self.jobs.folder / PAGE)}", flush=True)
        trials = self.record.trials()
        failed = [trial for trial in trials if trial.overrides and not trial.open and trial.reason]
        if failed and not finished(trials):
            print_error(f"all trials failed: {failed[0].reason}")
        if not any(trial.complete for trial in trials):
            sys.exit(1)

    def write(self, command: str, with_last_stage: bool = True) -> str:
        """Write the results of the trials and, if it has run, of the last stage; return a summary."""
        trials, merged = self.record.trials(), list[Merged]()
        with warn_on_failure("averages of weights"):
            merged = merged_runs(self.stage, self.budget.left) if with_last_stage else []
        found = Finished(
            folder=self.jobs.folder,
            trials=trials,
            dimensions=self.plan.space.all_dimensions,
            dropped=self.proposals.dropped(trials),
            seconds=(self.plan.budget, self.budget.used()),
            repetitions=len(self.plan.space.instances),
            runs=self.stage.finished() if with_last_stage else [],
            fixed=self.plan.fixed,
            command=command,
            winner=self.stage.winner() if with_last_stage else best_trial(trials),
            merged=merged,
            chosen_on=self.images.chosen_on,
            sizes=self.trial_jobs.sizes(trials),
            holds_back=bool(self.images.final),
        )
        return write_results(found)


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
    backbones, strategies = len(plan.space.backbones), len(plan.space.strategies)
    most = f", at most {amount(plan.trials, 'trial')}" if plan.trials else ""
    return f"{amount(backbones, 'backbone')}, {amount(strategies, 'strategy')}, {duration(plan.budget)}{most}"
