"""Hydra looks for sweepers in this package."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus, run_job, setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict

from thaw.data.workers import usable_cores
from thaw.errors import UserError
from thaw.runs.shown_commands import quoted
from thaw.sweep.execution import RECORD, finish_sweep, launch_jobs, locked, refuse, run_jobs
from thaw.sweep.jobs import Job, check_jobs, plan
from thaw.sweep.launched import LaunchedTask, threads_each
from thaw.sweep.own_folder import refuse_paths
from thaw.sweep.processes import can_fork, import_once
from thaw.sweep.recipe import without_recipe


class ThawSweeper(BasicSweeper):
    """Hydra's sweep over lists of values, which goes on where it was interrupted and ends in a comparison.

    Jobs run in forks of this process, unless hydra/launcher names another launcher than Hydra's own.
    """

    def setup(self, *, hydra_context, task_function, config) -> None:
        self.task_function, self.launched = task_function, LaunchedTask(task_function)
        super().setup(hydra_context=hydra_context, task_function=self.launched, config=config)

    def sweep(self, arguments: list[str]) -> None:
        folder = Path(self.config.hydra.sweep.dir)
        with locked(folder):
            OmegaConf.save(self.config, folder / RECORD)
            jobs = self._plan(arguments, folder)
            stopped_by = run_jobs(jobs, self._work) if self._runs_here() else self._launch(jobs)
            finish_sweep(folder, jobs, stopped_by)

    def _plan(self, arguments: list[str], folder: Path) -> list[Job]:
        try:
            jobs = plan(self._compose, self._combinations(arguments), folder)
            import_once()
            check_jobs([job for job in jobs if not job.finished])
        except UserError as error:
            refuse(str(error).removesuffix("."))
        return jobs

    def _combinations(self, arguments: list[str]) -> list[list[str]]:
        """The overrides of each job; what the command line says of a key replaces what the recipe says."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (batch,) = self.split_arguments(overrides, max_batch_size=None)
        return [without_recipe(combination) for combination in batch]

    def _runs_here(self) -> bool:
        return can_fork() and self.config.hydra.launcher._target_.endswith("BasicLauncher")

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        refuse_paths(cfg)
        return cfg

    def _work(self, job: Job, arguments: list[str]) -> None:
        """In a fork of this process."""
        sys.argv[1:] = arguments  # processes that Lightning starts from here run this job, not the sweep
        cfg = self._compose([*arguments, *_places(job)])
        setup_globals()
        with open_dict(cfg):
            cfg.hydra.job.num, cfg.hydra.job.id = job.number - 1, str(job.number - 1)
        done = run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=cfg,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        sys.exit(0 if done.status is JobStatus.COMPLETED else 1)

    def _launch(self, jobs: Sequence[Job]) -> int | None:
        left = [job for job in jobs if not job.finished]
        if left and not self.config.hydra.launcher._target_.endswith("SlurmLauncher"):  # whose jobs have own machines
            self._refuse_processes(left)
            at_once = self.config.hydra.launcher.get("n_jobs", len(left))
            self.launched.threads = threads_each(usable_cores(), min(at_once, len(left)))
        overrides = [[*job.overrides, *_places(job)] for job in left]
        return launch_jobs(jobs, lambda: self.launcher.launch(overrides, initial_job_idx=0))

    def _refuse_processes(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            strategy = self._compose(job.overrides).trainer.get("strategy", "auto")
            if strategy != "auto":
                launcher = self.config.hydra.runtime.choices["hydra/launcher"]
                refuse(
                    f"trainer.strategy={strategy} starts processes, which it cannot within hydra/launcher={launcher}: "
                    "without that, jobs run one after another, each with its processes; on a cluster "
                    "hydra/launcher=submitit_slurm starts them (docs/clusters.md)"
                )


def _places(job: Job) -> list[str]:
    """Processes that train together find the folder under the name that a single run has for it."""
    sweep, name = quoted(job.folder.parent), quoted(job.folder.name)
    return [f"hydra.sweep.dir={sweep}", f"hydra.sweep.subdir={name}", f"hydra.run.dir={quoted(job.folder)}"]
