"""Thaw's sweeper, in the package where Hydra looks for plugins."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus, run_job, setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict

from thaw.data.workers import usable_cores
from thaw.errors import RunError, UserError
from thaw.runs import run_files
from thaw.runs.moved_names import use_current_names
from thaw.runs.shown_commands import quoted
from thaw.runs.streams import print_error, refuse
from thaw.sweep.execution import finish_sweep, launch_jobs, locked, run_jobs
from thaw.sweep.jobs import Job, check_jobs, plan, refuse_other_images
from thaw.sweep.launched import LaunchedTask, threads_each
from thaw.sweep.own_folder import refuse_paths
from thaw.sweep.processes import can_fork, import_once
from thaw.sweep.recipe import without_recipe
from thaw.sweep.sharing import most_at_once
from thaw.sweep.tracked_sweep import tracked_sweep


class ThawSweeper(BasicSweeper):
    """Hydra's sweep over lists of values; it resumes where it was interrupted and ends with a comparison.

    Jobs run in forks of this process, unless hydra/launcher names another launcher than Hydra's own. At most
    `max_batch_size` jobs share a GPU (`thaw.sweep.sharing`).
    """

    shortlists = False

    def setup(self, *, hydra_context, task_function, config) -> None:
        self.task_function, self.launched = task_function, LaunchedTask(task_function)
        super().setup(hydra_context=hydra_context, task_function=self.launched, config=config)

    def sweep(self, arguments: list[str]) -> None:
        assert self.config is not None, "Hydra calls setup first"
        folder = Path(self.config.hydra.sweep.dir)
        with locked(folder), self._explained():
            OmegaConf.save(self.config, folder / run_files.SWEEP_CONFIG)
            jobs = self._plan(arguments, folder)
            forks = can_fork() and self.config.hydra.launcher._target_.endswith("BasicLauncher")
            with tracked_sweep(folder, [job.configuration for job in jobs]):
                stopped_by = (
                    run_jobs(jobs, self._run_job, most_at_once(self.max_batch_size)) if forks else self._launch(jobs)
                )
                finish_sweep(folder, jobs, stopped_by, self.shortlists)

    def _plan(self, arguments: list[str], folder: Path) -> list[Job]:
        jobs = plan(self._compose, self._combinations(arguments), folder)
        import_once()
        check_jobs([job for job in jobs if not job.finished])
        refuse_other_images(jobs)
        return jobs

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """End the program with a sentence for a known fault, such as a wrong option or a full disk."""
        assert self.config is not None, "Hydra calls setup first"
        try:
            yield
        except (UserError, RunError) as error:
            refuse(str(error))
        except OSError as error:
            if error.errno is None:  # an error of Hydra that is called OSError
                raise
            folder = self.config.hydra.sweep.dir
            print_error(f"{folder} cannot be written ({error.strerror}): make room; the same command continues.")
            sys.exit(1)

    def _combinations(self, arguments: list[str]) -> list[list[str]]:
        """Return the overrides of each job; a value on the command line replaces the recipe's value of that key."""
        assert self.hydra_context is not None, "Hydra calls setup first"
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (batch,) = self.split_arguments(overrides, max_batch_size=None)
        return [without_recipe(combination) for combination in batch]

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        assert self.hydra_context is not None and self.config is not None, "Hydra calls setup first"
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        refuse_paths(cfg)
        use_current_names(cfg)
        return cfg

    def _run_job(self, job: Job, arguments: list[str]) -> None:
        """Run a job in this process, a fork, and exit with its status."""
        assert self.hydra_context is not None, "Hydra calls setup first"
        sys.argv[1:] = arguments  # processes that Lightning starts from here run this job, not the sweep
        cfg = self._compose([*arguments, *_folder_overrides(job)])
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
        assert self.config is not None and self.launcher is not None, "Hydra calls setup first"
        launcher, chosen = self.launcher, self.config.hydra.launcher
        left = [job for job in jobs if not job.finished]
        if left and not chosen._target_.endswith("SlurmLauncher"):  # SLURM gives each job a machine of its own
            self._refuse_processes(left)
            at_once = chosen.get("n_jobs", len(left))
            self.launched.threads = threads_each(usable_cores(), min(at_once, len(left)))
        overrides = [[*job.overrides, *_folder_overrides(job)] for job in left]
        return launch_jobs(jobs, lambda: launcher.launch(overrides, initial_job_idx=0))

    def _refuse_processes(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            strategy = job.configuration.trainer.get("strategy", "auto")
            if strategy != "auto":
                launcher = job.configuration.hydra.runtime.choices["hydra/launcher"]
                refuse(
                    f"trainer.strategy={strategy} starts processes, which fails within hydra/launcher={launcher}: "
                    "leave the launcher out. Jobs then run one after another, and each starts its own processes. On a "
                    "cluster, hydra/launcher=submitit_slurm starts them (docs/clusters.md)."
                )


def _folder_overrides(job: Job) -> list[str]:
    """Return overrides that set the job's folder. One sets `hydra.run.dir`, which Hydra uses only for single runs.

    Processes that train together read that option.
    """
    sweep, name = quoted(job.folder.parent), quoted(job.folder.name)
    return [f"hydra.sweep.dir={sweep}", f"hydra.sweep.subdir={name}", f"hydra.run.dir={quoted(job.folder)}"]


class SearchSweeper(ThawSweeper):
    """A search within a time budget; several processes can search in the same folder."""

    def sweep(self, arguments: list[str]) -> None:
        assert self.hydra_context is not None and self.config is not None, "Hydra calls setup first"
        if find_spec("optuna") is None:
            refuse("sweep=search needs Optuna: pip install -e '.[search]'.")
        from thaw.sweep.search.run_search import run_search

        models = self.hydra_context.config_loader.get_group_options("model")
        with self._explained():
            run_search(self.config, arguments, models, self._compose, self._run_job)


class ShortlistSweeper(ThawSweeper):
    """A sweep over backbones, chosen by `backbones` in the configuration; a table of the backbones follows."""

    shortlists = True

    def _combinations(self, arguments: list[str]) -> list[list[str]]:
        assert self.hydra_context is not None and self.config is not None, "Hydra calls setup first"
        from thaw.sweep.chosen_backbones import backbones, refuse_idle_in_shortlist, wanted_backbones  # import torch

        loader = self.hydra_context.config_loader
        given = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
        refuse_idle_in_shortlist(given)
        wanted = wanted_backbones(given, self.config.backbones)
        rest = [argument for argument in arguments if not argument.startswith("backbones=")]
        configured = self.config.weights == "imagenet" or any(o.key_or_group == "weights" for o in given)
        chosen = backbones(wanted, loader.get_group_options("model"), None if configured else "imagenet")
        combinations = super()._combinations(rest)
        return [[*combination, *overrides] for overrides in chosen for combination in combinations]
