"""Which jobs a sweep has, where each is kept, and what is left of it to do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, read_write

from thaw.errors import UserError
from thaw.runs.configuration import is_run, read_resolved, resolved_job
from thaw.runs.idle_options import refuse_idle_sweep
from thaw.runs.run_folder import is_free
from thaw.runs.shown_commands import quoted
from thaw.runs.summary import read_summary


@dataclass(frozen=True)
class Job:
    """One run of a sweep, `number` counted from 1; `name` says what sets it apart from the others."""

    number: int
    name: str
    folder: Path
    overrides: list[str]
    strategy: str
    epochs: int
    configuration: DictConfig

    @property
    def finished(self) -> bool:
        return self.summary.get("status") == "finished"

    @property
    def summary(self) -> dict:
        """What the run says of itself so far; empty where it has not come to an end."""
        return read_summary(self.folder)

    @property
    def arguments(self) -> list[str]:
        """Of the command line that does what is left of it: all, or the rest of what was interrupted."""
        return [*self.overrides, *([f"resume={quoted(self.folder)}"] if self._goes_on else [])]

    @property
    def _goes_on(self) -> bool:
        """Whether it was interrupted, or could not begin again after that; one that failed starts anew."""
        failed = self.summary.get("status") == "failed" and self.summary.get("begun", True)
        return not failed and (self.folder / "checkpoints" / "last.ckpt").is_file()


def plan(compose: Callable[[list[str]], DictConfig], batch: Sequence[Sequence[str]], folder: Path) -> list[Job]:
    """The jobs of a sweep in `folder`, from the overrides of each; equal ones are done once.

    `compose` gives a job's configuration, Hydra's part of it included. A run that is in `folder` already is recognised
    by its configuration, whatever its folder is called.
    """
    kept = [(read_resolved(place), place) for place in sorted(folder.glob("*")) if is_run(place)]
    jobs, seen = [], []
    for overrides in batch:
        cfg = compose(list(overrides))
        configuration = resolved_job(cfg)
        if configuration in seen:
            continue
        seen.append(configuration)
        place = next((path for values, path in kept if values == configuration), None)
        if place is None:
            place = _free(folder / _subfolder(cfg, len(jobs)), {job.folder for job in jobs})
        strategy, epochs = cfg.hydra.runtime.choices.strategy, OmegaConf.select(cfg, "trainer.max_epochs")
        name = _name(overrides, batch) or strategy
        jobs.append(Job(len(jobs) + 1, name, place, list(overrides), strategy, epochs, cfg))
    _refuse_moved_images([values for values, _ in kept if values not in seen], seen)
    return jobs


def _refuse_moved_images(left: Sequence[dict], planned: Sequence[dict]) -> None:
    """Refuse to do anew what is done, where `left` runs differ from those `planned` only in where their images were."""
    for values in left:
        before = values.get("data", {}).get("root")
        if not isinstance(before, str) or Path(before).expanduser().exists():
            continue
        for other in planned:
            now = other["data"]["root"]
            if {**values, "data": {**values["data"], "root": now}} == other:
                raise UserError(
                    f"this sweep's runs have data.root={before}, which is gone, and with data.root={now} all of them "
                    f"would be trained anew: make {before} a link to the images, or choose another hydra.sweep.dir."
                )


def check_jobs(jobs: Sequence[Job]) -> None:
    """Compare what is asked of every job with the code that it names, before the first one starts.

    Raises:
        UserError: for the first job that could not start.

    """
    from thaw.runs.components import check_components  # it loads the code that a configuration names
    from thaw.runs.targets import refuse_foreign_targets

    for job in jobs:
        values = resolved_job(job.configuration)
        refuse_foreign_targets(values)
        check_components(job.configuration, values)
    refuse_idle_sweep([(resolved_job(job.configuration), job.overrides) for job in jobs])


def _name(overrides: Sequence[str], batch: Sequence[Sequence[str]]) -> str:
    own = [override for override in overrides if not all(override in others for others in batch)]
    strategy_first = sorted(own, key=lambda override: not override.startswith("strategy="))
    return " ".join(override.removeprefix("strategy=") for override in strategy_first)


def _subfolder(cfg: DictConfig, number: int) -> str:
    with read_write(cfg.hydra):
        cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        return cfg.hydra.sweep.subdir
    finally:
        HydraConfig.instance().cfg = before


def _free(folder: Path, taken: set[Path]) -> Path:
    """`folder`, or that name with a number where another run, or anything else, has it."""
    candidate, count = folder, 1
    while candidate in taken or not is_free(candidate):
        count += 1
        candidate = folder.with_name(f"{folder.name}-{count}")
    return candidate
