"""Check a run's configuration before its parts are built, and check its data."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from thaw.data.datamodule import ImageFolderDataModule
from thaw.data.fingerprint import refuse_other_data
from thaw.errors import UserError
from thaw.runs.components import check_components, instantiate
from thaw.runs.configuration import resolved
from thaw.runs.idle_options import refuse_idle
from thaw.runs.targets import refuse_foreign_targets
from thaw.training.trainer import last_checkpoint, refuse_fewer_epochs


def check_configuration(cfg: DictConfig) -> None:
    """Check that Thaw and the configured classes support all options of `cfg`.

    Raises:
        UserError: for the first option that is impossible or has no effect.

    """
    folder = HydraConfig.get().runtime.get("output_dir")  # pyright: ignore[reportAttributeAccessIssue]  # a DictConfig
    if folder and Path(cfg.output_dir) != Path(folder):
        raise UserError(f"output_dir={cfg.output_dir} would scatter a run's files: use hydra.run.dir={cfg.output_dir}.")
    values = resolved(cfg)
    refuse_foreign_targets(values)
    check_components(cfg, values)
    if not cfg.resume:  # a resumed run repeats options that were checked at its start
        refuse_idle(values, _overrides())


def checked_data(cfg: DictConfig) -> tuple[ImageFolderDataModule, Path | None]:
    """Return the data, and the checkpoint from which a resumed run continues (None for a new run).

    Raises:
        UserError: if the data are not those of the checkpoint, an option has no effect, or `max_epochs` is too low.

    """
    data = instantiate(cfg.data)
    for override in _overrides():
        if override.lstrip("+").startswith("data.val_fraction=") and data.split_note is None:
            raise UserError(f"{override} has no effect: {data.root} has a folder val.")
    if cfg.robustness and data.label_sets.several:
        raise UserError("robustness=true is for images with one class each; leave it out.")
    checkpoint = last_checkpoint(cfg.output_dir) if cfg.resume else None
    if checkpoint:
        refuse_other_data(Path(cfg.output_dir), checkpoint, data.fingerprint, data.root)
        refuse_fewer_epochs(Path(cfg.output_dir), checkpoint, cfg.trainer.max_epochs)
    return data, checkpoint


def _overrides() -> list[str]:
    """Return the command line's overrides, or [] in a sweep, which checks the overrides of all jobs at once."""
    hydra = HydraConfig.get()
    return [] if hydra.mode == RunMode.MULTIRUN else list(hydra.overrides.task)
