"""Train a pretrained network on your images, as in: train strategy=feature_extractor."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from thaw.runs.conf_folder import conf_folder
from thaw.runs.launch import launch as launch_hydra
from thaw.runs.ranks import for_secondary_rank
from thaw.runs.recorded_run import recorded_run
from thaw.runs.resume import resume_arguments
from thaw.runs.shorthand import expand_shorthand
from thaw.runs.streams import tolerate_closed_output
from thaw.sweep import own_folder
from thaw.sweep.recipe import add_multirun_flag

if TYPE_CHECKING:
    from lightning import Trainer

    from thaw.data.datamodule import ImageFolderDataModule


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Train a run and return the validation accuracy (or mAP) of its best weights; ranks above 0 return None."""
    with recorded_run(cfg) as (folder, summary):
        # Imported here, because torch takes seconds, and --help, --cfg and planning a sweep do not need it.
        from thaw.runs.optional_imports import skip_unneeded

        skip_unneeded()
        from lightning import seed_everything

        from thaw.demo.pretraining import load_pretrained
        from thaw.report.pictures import picture_results
        from thaw.report.recording import ended_on_error, record_results
        from thaw.report.results import finish_run, log_setup, take_folder
        from thaw.runs.configuration import chosen_values
        from thaw.training.assembly import assemble, finish_net
        from thaw.training.checks import check_configuration, checked_data
        from thaw.training.remarks import remark
        from thaw.training.trainer import fit

        check_configuration(cfg)
        data, checkpoint = checked_data(cfg)
        seed_everything(cfg.seed, workers=True, verbose=False)
        parts = assemble(cfg, data)
        summary.update(parts.sources)
        log_setup(parts.trainer, parts.net, parts.phases, data, checkpoint)
        remark(cfg, parts.trainer, parts.classifier, parts.phases)
        if not checkpoint:
            load_pretrained(parts.net, parts.weights)
        finish_net(parts, cfg.channels_last, cfg.compile)
        settings = chosen_values(cfg, parts.weights, data.image_size)
        taking = partial(take_folder, folder, parts.trainer, data, checkpoint, settings)
        with ended_on_error(parts.trainer):
            fit(parts.trainer, parts.classifier, parts.phases, data, checkpoint, parts.features, taking)
            facts, seen = finish_run(cfg.output_dir, parts.trainer, parts.classifier, data, parts.features)
            summary.update(facts, **_robustness(cfg, parts.trainer, folder.path, data))
    # The results are already written, so an error below loses no result.
    with ended_on_error(parts.trainer):
        picture_results(cfg.output_dir, parts.trainer, data, seen)
        record_results(parts.trainer, settings, summary, folder.path)
    return summary["val"][summary["metric"]] if parts.trainer.is_global_zero else None


def _robustness(cfg: DictConfig, trainer: "Trainer", folder: Path, data: "ImageFolderDataModule") -> dict:
    """Return the accuracy on corrupted images as an entry of the summary, if the configuration asks for it."""
    if not cfg.robustness or not trainer.is_global_zero:
        return {}
    from thaw.inference.robustness import write_robustness

    return {"robustness": write_robustness(folder, data)}


def launch() -> None:
    """Run `main` with the arguments in `sys.argv`, and exit with its status."""
    # Hydra builds its callbacks before `main`, so the former name thaw.output.OwnFolder must be importable here.
    sys.modules.setdefault("thaw.output", own_folder)
    with tolerate_closed_output():
        sys.argv[1:] = for_secondary_rank(add_multirun_flag(expand_shorthand(resume_arguments(sys.argv[1:]))))
        launch_hydra(main, conf_folder() / "train.yaml")
