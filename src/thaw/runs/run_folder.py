"""The folder of a run: its own while it works, and what was there before is kept until all has loaded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from thaw.errors import UserError
from thaw.runs.configuration import configuration_files, is_run, write_configuration
from thaw.runs.ownership import begin_in, foreign, hold, holding, refuse_foreign
from thaw.runs.ranks import is_first_process
from thaw.runs.shown_commands import option, resume_command
from thaw.runs.summary import FILE as SUMMARY
from thaw.runs.summary import TRACEBACK, read_summary, remove_old_results

_LOCK, _OPTION = ".hydra/lock", "hydra.run.dir"
LEFTOVERS = frozenset((".hydra", "train.log", "console.log", SUMMARY, TRACEBACK))


class RunFolder:
    """`path`, and whether the run has `taken` it: until then it may still hold another run, or what this one saved."""

    def __init__(self, cfg: DictConfig):
        self.path = Path(cfg.output_dir)
        self.taken = not is_run(self.path)
        self._goes_on = bool(cfg.resume)
        self._configuration: dict[str, str] = {}
        self.checkpoints: Callable[[], list[str]] | None = None  # that the run has written, once it has begun
        self._changes = _changed_options(self.path) if self._goes_on else []

    @property
    def may_be_written(self) -> bool:
        """Whether a summary may be written: a sweep is told of its jobs in any case."""
        return self.taken or HydraConfig.get().mode == RunMode.MULTIRUN

    @property
    def replaces(self) -> bool:
        """Whether another run's results are still there."""
        return not self.taken and not self._goes_on

    @property
    def command(self) -> str:
        """The command that goes on with this run; options that are not recorded yet are in it."""
        return resume_command(self.path, *([] if self.taken else self._changes))

    def start(self, cfg: DictConfig) -> None:
        """Keep the configuration, which changes when objects are built of it; write it where there is no run yet."""
        self._configuration = configuration_files(cfg)
        if self.taken and is_first_process():
            write_configuration(self._configuration, self.path)

    def take(self, goes_on: bool) -> bool:
        """Write the configuration and remove what an earlier run left, unless this one `goes_on` with it.

        Returns whether anything was removed.
        """
        self.taken = True
        if not is_first_process():
            return False
        begin_in(self.path)
        if goes_on:  # what it was before is no longer so, even if this process is killed
            (self.path / SUMMARY).unlink(missing_ok=True)
        replaced = not goes_on and remove_old_results(self.path)
        write_configuration(self._configuration, self.path)
        return replaced


def is_free(folder: Path) -> bool:
    """Whether a new run can have `folder` without replacing anything."""
    return not is_run(folder) and not foreign(folder, LEFTOVERS)


def _changed_options(folder: Path) -> list[str]:
    """Return what this command line sets that the run in `folder` was not started with: where images are now, …."""
    record = folder / ".hydra" / "overrides.yaml"
    before = OmegaConf.to_container(OmegaConf.load(record), resolve=False) if record.is_file() else []
    now = HydraConfig.get().overrides.task
    return [one for one in now if one not in before and not one.startswith("resume=")]


def hold_run_folder(folder: Path, resumed: bool = False) -> None:
    """Let no other process train in `folder` while this one lives.

    Raises:
        UserError: if another does, or `folder` holds anything but a run.

    """
    refuse_foreign(folder, is_run, LEFTOVERS, "a run")
    hold(folder, _LOCK, None if resumed else _OPTION)


def refuse_interrupted(folder: Path) -> None:
    """Keep a new run from replacing one that can go on.

    Raises:
        UserError: if a run in `folder` has been interrupted after it had saved something.

    """
    ended = read_summary(folder).get("status") in ("finished", "failed")
    if is_run(folder) and not ended and (folder / "checkpoints" / "last.ckpt").is_file():
        raise UserError(
            f"{folder} holds a run that was interrupted: {option('resume', folder)} goes on with it; else choose "
            f"another {_OPTION}, or delete the folder."
        )


@contextmanager
def run_folder_held(folder: Path, resumed: bool = False) -> Iterator[None]:
    """Hold the folder while the run works; of several processes that train together only the first one does."""
    if not is_first_process():
        yield
        return
    refuse_foreign(folder, is_run, LEFTOVERS, "a run")
    with holding(folder, _LOCK, None if resumed else _OPTION):
        yield
