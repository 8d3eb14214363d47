"""Lock a run's folder while the run works, and keep an earlier run's files until the new run has loaded its data."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from thaw.errors import UserError
from thaw.runs import run_files
from thaw.runs.configuration import configuration_files, is_run, write_configuration
from thaw.runs.ownership import begin_in, foreign, hold, holding, refuse_foreign
from thaw.runs.ranks import is_first_process
from thaw.runs.shown_commands import option, resume_command
from thaw.runs.summary import read_summary, remove_old_results

_OPTION = "hydra.run.dir"
LEFTOVERS = frozenset((run_files.HYDRA, run_files.LOG, run_files.CONSOLE, run_files.SUMMARY, run_files.TRACEBACK))


class RunFolder:
    """The folder of a run, at `path`. Before `take`, it can contain the files of an earlier run.

    Attributes:
        taken: whether the run may write into the folder. True after `take`, or at once if the folder had no run.
        checkpoints: a function that returns the checkpoints written so far; None before training.

    """

    def __init__(self, cfg: DictConfig):
        self.path = Path(cfg.output_dir)
        self.taken = not is_run(self.path)
        self._resumes = bool(cfg.resume)
        self._configuration: dict[str, str] = {}
        self.checkpoints: Callable[[], list[str]] | None = None
        self._changes = _changed_options(self.path) if self._resumes else []

    @property
    def may_be_written(self) -> bool:
        """Whether the summary may be written. Always True in a sweep, because the sweep reads its jobs' summaries."""
        return self.taken or HydraConfig.get().mode == RunMode.MULTIRUN

    @property
    def replaces(self) -> bool:
        """Whether the folder still contains the results of another run, which this run will replace."""
        return not self.taken and not self._resumes

    @property
    def command(self) -> str:
        """The command that resumes this run, with the changed options that the folder does not record yet."""
        return resume_command(self.path, *([] if self.taken else self._changes))

    def start(self, cfg: DictConfig) -> None:
        """Copy the configuration, because building objects changes `cfg`; write it unless the folder has a run."""
        self._configuration = configuration_files(cfg)
        if self.taken and is_first_process():
            write_configuration(self._configuration, self.path)

    def take(self, goes_on: bool) -> bool:
        """Write the configuration, and remove an earlier run's files unless the run `goes_on` from a checkpoint.

        Returns:
            whether any file was removed.

        """
        self.taken = True
        if not is_first_process():
            return False
        begin_in(self.path)
        if goes_on:  # the old summary is wrong from now on, even if this process is killed
            (self.path / run_files.SUMMARY).unlink(missing_ok=True)
        replaced = not goes_on and remove_old_results(self.path)
        write_configuration(self._configuration, self.path)
        return replaced


def is_free(folder: Path) -> bool:
    """Return whether a new run can use `folder` without replacing any files."""
    return not is_run(folder) and not foreign(folder, LEFTOVERS)


def recorded_overrides(folder: Path) -> list[str]:
    """Return the command-line overrides that the run in `folder` was started with."""
    path = folder / run_files.OVERRIDES
    return cast(list[str], OmegaConf.to_container(OmegaConf.load(path), resolve=False)) if path.is_file() else []


def _changed_options(folder: Path) -> list[str]:
    before, now = recorded_overrides(folder), HydraConfig.get().overrides.task
    return [one for one in now if one not in before and not one.startswith("resume=")]


def hold_run_folder(folder: Path, resumed: bool = False) -> None:
    """Lock `folder` until this process ends, so that no other process trains there.

    Raises:
        UserError: if another process trains there, or if `folder` contains anything but a run.

    """
    refuse_foreign(folder, is_run, LEFTOVERS, "a run")
    hold(folder, run_files.LOCK, None if resumed else _OPTION)


def refuse_interrupted(folder: Path) -> None:
    """Raise UserError if `folder` contains an interrupted run with a checkpoint, because it could be resumed."""
    ended = read_summary(folder).get("status") in ("finished", "failed")
    if is_run(folder) and not ended and (folder / run_files.LAST).is_file():
        raise UserError(
            f"{folder} holds an interrupted run: resume it with {option('resume', folder)}, choose another {_OPTION}, "
            "or delete the folder."
        )


@contextmanager
def run_folder_held(folder: Path, resumed: bool = False) -> Iterator[None]:
    """Lock `folder` inside the block; in distributed training, only the process of rank 0 locks it."""
    if not is_first_process():
        yield
        return
    refuse_foreign(folder, is_run, LEFTOVERS, "a run")
    with holding(folder, run_files.LOCK, None if resumed else _OPTION):
        yield
