"""Train a pretrained net on your images: python train.py strategy=feature_extractor."""

import sys

if __name__ == "__main__":
    from thaw.runs.stopping import end_on_interrupt

    end_on_interrupt()  # first of all: what is imported below takes a moment

from dataclasses import asdict
from functools import partial
from pathlib import Path

import hydra
from omegaconf import DictConfig

from thaw.runs.launch import launch
from thaw.runs.ranks import beside_first
from thaw.runs.recorded_run import recorded_run
from thaw.runs.resume import resumed
from thaw.runs.shorthand import written_out
from thaw.runs.streams import outlived
from thaw.sweep.recipe import as_multirun


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Returns the validation accuracy of the best weights; of several processes the first alone does."""
    with recorded_run(cfg) as (folder, summary):
        # Importing torch takes seconds, which --help, --cfg and the planning of a sweep need not wait for.
        from lightning import seed_everything

        from thaw.data.fingerprint import refuse_other_data
        from thaw.demo.pretraining import load_pretrained
        from thaw.report.pictures import picture_results
        from thaw.report.results import begin, conclude, introduce
        from thaw.report.tensorboard import record_values
        from thaw.runs.components import instantiate
        from thaw.runs.configuration import chosen_values
        from thaw.training.checks import check_configuration, check_data
        from thaw.training.classifier import ImageClassifier
        from thaw.training.hardware import memory_format
        from thaw.training.precision import bf16_suits
        from thaw.training.rehearsal import check_net, rehearse
        from thaw.training.remarks import remark
        from thaw.training.trainer import fit, last_checkpoint, refuse_fewer_epochs

        check_configuration(cfg)
        data = instantiate(cfg.data)
        check_data(data)
        checkpoint = last_checkpoint(cfg.output_dir) if cfg.resume else None
        if checkpoint:
            refuse_other_data(folder.path, checkpoint, data.fingerprint, data.root)
            refuse_fewer_epochs(folder.path, checkpoint, cfg.trainer.max_epochs)
        seed_everything(cfg.seed, workers=True, verbose=False)
        net = instantiate(cfg.model, num_classes=len(data.classes), image_size=min(data.image_size, data.train_size))
        check_net(net, data)
        strategy = instantiate(cfg.strategy)
        phases = strategy.schedule(net, cfg.trainer.max_epochs)
        trainer = instantiate(cfg.trainer, bf16_suits=bf16_suits(net, phases, data.image_size))
        summary["weights"] = cfg.weights if strategy.pretrained else "none"
        classifier = ImageClassifier(
            net,
            data.classes,
            optimizer=instantiate(cfg.optimizer),
            scheduler=instantiate(cfg.scheduler),
            loss=instantiate(cfg.loss),
            class_weights=data.class_weights,
            mix=instantiate(cfg.mix, num_classes=len(data.classes)),
            keep_statistics=strategy.keep_statistics and summary["weights"] != "none",
            preprocessing=asdict(data.preprocessing),
        )
        features, head = instantiate(cfg.features), instantiate(cfg.head)
        rehearse(trainer, classifier, phases, data)
        introduce(trainer, net, phases, data, checkpoint)
        remark(cfg, trainer, classifier, phases)

        if not checkpoint:
            load_pretrained(net, summary["weights"])
        if summary["weights"] != "none" or all(phase.head_only for phase in phases):
            head.install(net)
        net.to(memory_format=memory_format(cfg.channels_last))
        if cfg.compile:
            net.compile()
        fit(trainer, classifier, phases, data, checkpoint, features, partial(begin, folder, trainer, data, checkpoint))
        facts, seen = conclude(cfg.output_dir, trainer, classifier, data, features)
        summary.update(facts)
    # The results are written: what follows only shows them.
    picture_results(cfg.output_dir, trainer, data, seen)
    record_values(trainer, chosen_values(cfg, summary["weights"], data.image_size), summary)
    return summary["val"]["acc"] if trainer.is_global_zero else None


if __name__ == "__main__":
    with outlived():
        sys.argv[1:] = beside_first(as_multirun(written_out(resumed(sys.argv[1:]))))
        launch(main, Path(__file__).with_name("conf") / "train.yaml")
