"""Train a pretrained network on your images: train strategy=feature_extractor."""

import sys
from functools import partial

import hydra
from omegaconf import DictConfig

from thaw.runs.conf_folder import conf_folder
from thaw.runs.launch import launch as launch_hydra
from thaw.runs.ranks import beside_first
from thaw.runs.recorded_run import recorded_run
from thaw.runs.resume import resumed
from thaw.runs.shorthand import written_out
from thaw.runs.streams import outlived
from thaw.sweep.recipe import as_multirun


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Train a run and return the validation accuracy of its best weights; secondary processes return None."""
    with recorded_run(cfg) as (folder, summary):
        # Importing torch takes seconds, which --help, --cfg and the planning of a sweep need not wait for.
        from lightning import seed_everything

        from thaw.demo.pretraining import load_pretrained
        from thaw.report.pictures import picture_results
        from thaw.report.results import begin, conclude, introduce
        from thaw.report.tensorboard import record_values
        from thaw.runs.configuration import chosen_values
        from thaw.training.assembly import assemble, finish_net
        from thaw.training.checks import check_configuration, checked_data
        from thaw.training.remarks import remark
        from thaw.training.trainer import fit

        check_configuration(cfg)
        data, checkpoint = checked_data(cfg)
        seed_everything(cfg.seed, workers=True, verbose=False)
        parts = assemble(cfg, data)
        summary["weights"] = parts.weights
        introduce(parts.trainer, parts.net, parts.phases, data, checkpoint)
        remark(cfg, parts.trainer, parts.classifier, parts.phases)

        if not checkpoint:
            load_pretrained(parts.net, parts.weights)
        finish_net(parts, cfg.channels_last, cfg.compile)
        take_folder = partial(begin, folder, parts.trainer, data, checkpoint)
        fit(parts.trainer, parts.classifier, parts.phases, data, checkpoint, parts.features, take_folder)
        facts, seen = conclude(cfg.output_dir, parts.trainer, parts.classifier, data, parts.features)
        summary.update(facts)
    # The results are written: what follows only shows them.
    picture_results(cfg.output_dir, parts.trainer, data, seen)
    record_values(parts.trainer, chosen_values(cfg, parts.weights, data.image_size), summary)
    return summary["val"]["acc"] if parts.trainer.is_global_zero else None


def launch() -> None:
    """Run `main` with the arguments in `sys.argv`, and exit with its status."""
    with outlived():
        sys.argv[1:] = beside_first(as_multirun(written_out(resumed(sys.argv[1:]))))
        launch_hydra(main, conf_folder() / "train.yaml")
