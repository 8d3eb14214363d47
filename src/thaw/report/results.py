"""What a run says before it starts, and everything it leaves behind when it is done."""

import logging
import os
import platform
import resource
import sys
from functools import partial
from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only

from thaw.data.datamodule import ImageFolderDataModule
from thaw.data.folders import ClassFolders
from thaw.errors import RunError
from thaw.evaluation.evaluation import Evaluation, joined
from thaw.models.staged import StagedNet
from thaw.report import tensorboard
from thaw.report.pictures import Seen, picture_samples
from thaw.report.stage_table import stage_table
from thaw.runs.run_folder import RunFolder
from thaw.runs.shown_commands import tensorboard_command
from thaw.storage.checkpoints import read_checkpoint
from thaw.storage.versions import library_version
from thaw.strategy.phases import Phase
from thaw.training.best import monitored
from thaw.training.callbacks import EpochTable
from thaw.training.checkpoint_io import describe_checkpoint, written_checkpoints
from thaw.training.classifier import ImageClassifier
from thaw.training.phase_data import FeatureCache
from thaw.training.trainer import describe_progress, one_device

log = logging.getLogger(__name__)

_PACKAGES = ("thaw", "torch", "torchvision", "lightning", "hydra-core", "torchmetrics", "pillow", "numpy")


@rank_zero_only
def log_setup(
    trainer: Trainer, net: StagedNet, phases: list[Phase], data: ImageFolderDataModule, checkpoint: Path | None
) -> None:
    """Say what is about to be trained on what."""
    log.info(data.describe())
    log.info(
        f"{net.config['name']} on {_device_name(trainer)} in {trainer.precision}, "
        f"images of {data.image_size} px in batches of {data.batch_size}\n"
    )
    log.info(stage_table(net, phases) + "\n")
    if checkpoint:
        log.info(f"continued {describe_progress(checkpoint)}\n")


@rank_zero_only
def take_folder(folder: RunFolder, trainer: Trainer, data: ImageFolderDataModule, checkpoint: Path | None) -> None:
    """Take the folder, now that all has loaded, and picture some training images, unless the run only goes on."""
    folder.checkpoints = partial(written_checkpoints, trainer, folder.path)
    if folder.take(goes_on=checkpoint is not None):
        log.info(f"{folder.path} held an earlier run, which this one replaces")
    if not checkpoint:
        picture_samples(folder.path, trainer, data)


@partial(rank_zero_only, default=({}, None))
def finish_run(
    folder: str, trainer: Trainer, classifier: ImageClassifier, data: ImageFolderDataModule, features: FeatureCache
) -> tuple[dict, Seen | None]:
    """Evaluate the best weights and write their predictions; return the facts for the summary, and what to picture.

    Test images are looked at last, when there is nothing left that they could decide.
    """
    with tensorboard.head_inputs(classifier.net, len(data.val)) as inputs:
        evaluation = evaluate_best(trainer, classifier, data, features)
    evaluation.write_csv(Path(folder) / "predictions.csv", data.root)
    _describe(best_checkpoint(trainer), temperature=evaluation.temperature, cut=classifier.entries["val"])
    facts = _facts(trainer, classifier, evaluation, data)
    facts |= _best(Path(folder), best_checkpoint(trainer))
    facts["seconds"]["features"] = features.seconds
    if classifier.solution:
        facts["probe"] = classifier.solution
    if data.test:
        tested = evaluate_test(trainer, classifier, data)
        tested.write_csv(Path(folder) / "test_predictions.csv", data.root)
        facts["test"] = tested.metrics()
    _tell(Path(folder), facts)
    return facts, Seen(evaluation, inputs, classifier.solution)


def evaluate_best(
    trainer: Trainer, classifier: ImageClassifier, data: ImageFolderDataModule, features: FeatureCache
) -> Evaluation:
    """The best checkpoint's answers to the validation images; `classifier` is left with those weights."""
    classifier.load_state_dict(read_checkpoint(best_checkpoint(trainer))["state_dict"])
    alone = one_device(trainer)
    logits = alone.predict(classifier, datamodule=features.evaluation_source(alone, classifier, data))
    return _evaluation(data.val, logits, data.classes)


def best_checkpoint(trainer: Trainer) -> Path:
    return Path(monitored(trainer).best_model_path)


def _best(folder: Path, checkpoint: Path) -> dict:
    """Which file has the weights that everything is of, relative to the run's folder if it is there; of which epoch."""
    place = Path(os.path.relpath(checkpoint, folder))
    inside = checkpoint.absolute() if ".." in place.parts else place
    return {"checkpoint": inside.as_posix(), "best_epoch": read_checkpoint(checkpoint)["epoch"] + 1}


def _describe(best: Path, **entries: object) -> None:
    try:
        describe_checkpoint(best, **entries)
    except (OSError, RunError) as error:  # the run is done, and the checkpoint as good as before
        log.warning(f"the temperature is not kept in {best}, whose probabilities stay uncalibrated: {error}")


def evaluate_test(trainer: Trainer, classifier: ImageClassifier, data: ImageFolderDataModule) -> Evaluation:
    """The answers of the weights that `classifier` has to the test images."""
    classifier.entries = dict.fromkeys(classifier.entries)  # of these there are no features
    logits = one_device(trainer).predict(classifier, data.once(data.test, None))
    return _evaluation(data.test, logits, data.classes)


def _evaluation(images: ClassFolders, logits: list[torch.Tensor], classes: list[str]) -> Evaluation:
    return Evaluation(images.paths, torch.tensor(images.targets), joined(logits), classes)


def _facts(trainer: Trainer, classifier: ImageClassifier, evaluation: Evaluation, data: ImageFolderDataModule) -> dict:
    table = next(callback for callback in trainer.callbacks if isinstance(callback, EpochTable))
    parameters = list(classifier.net.parameters())
    return {
        "classes": data.classes,
        "data_root": str(data.root.resolve()),
        "split": data.drawn or "folders",
        "skipped": {name: len(paths) for name, paths in data.skipped.items()},
        "grey_range": data.preprocessing.grey_range,
        "fingerprint": {name: images.contents for name, images in data.splits.items()},
        "epochs": len(table.rows),
        "val": evaluation.metrics(),
        "calibration": evaluation.calibration(),
        "parameters": {
            "total": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        },
        "seconds": {"training": table.training_seconds, "validation": table.validation_seconds},
        "train_images_per_second": len(table.rows) * len(data.train) / table.training_seconds,
        "peak_memory_mb": _peak_memory_mb(trainer.strategy.root_device),
        "frozen_unchanged": True,  # else fit has failed the run
        "device": _device_name(trainer),
        "precision": str(trainer.precision),
        "versions": _versions(),
    }


def _tell(folder: Path, facts: dict) -> None:
    seconds = facts["seconds"]
    calibration = facts["calibration"]
    before, after = calibration["ece"]
    tested = f"{_accuracy('test', facts['test'])}\n" if "test" in facts else ""
    log.info(
        f"\n{_accuracy('val', facts['val'])}, best epoch {facts['best_epoch']} of {facts['epochs']}\n{tested}"
        f"calibration error {before:.3f}, {after:.3f} with the temperature {calibration['temperature']:.2f}\n"
        f"{seconds['features']:.1f} s features, "
        f"{seconds['training']:.1f} s training ({facts['train_images_per_second']:.0f} images/s), "
        f"{seconds['validation']:.1f} s validation\n"
        f"results  {folder}\n"
        f"curves   {tensorboard_command(folder)}"
    )


def _accuracy(split: str, metrics: dict) -> str:
    low, high = metrics["acc_ci95"]
    return f"{split}/acc {metrics['acc']:.4f} (95 % interval {low:.4f} to {high:.4f}, {metrics['n']} images)"


def _versions() -> dict:
    return {"python": platform.python_version(), **{name: library_version(name) for name in _PACKAGES}}


def _device_name(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def _peak_memory_mb(device: torch.device) -> float:
    """Of the process so far; on CUDA that of the tensors on the device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
