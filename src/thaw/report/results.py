"""Log a run's setup before training. After training, evaluate the run and log its results."""

import logging
import os
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only

from thaw.data.datamodule import ImageFolderDataModule
from thaw.data.description import copies_in_training
from thaw.data.folders import ClassFolders
from thaw.errors import RunError
from thaw.evaluation.judgement import AnyPredictions, judge, test_metrics
from thaw.evaluation.label_predictions import LabelPredictions
from thaw.evaluation.predictions import Predictions, joined
from thaw.evaluation.predictions_table import write_predictions
from thaw.features.head_inputs import head_inputs
from thaw.models.staged import StagedNet
from thaw.report.pictures import Results, picture_samples
from thaw.report.recording import on_each, start_records
from thaw.report.stage_table import stage_table
from thaw.runs import run_files
from thaw.runs.run_folder import RunFolder
from thaw.storage.checkpoints import read_checkpoint
from thaw.storage.files import write_rows
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
    trainer: Trainer, net: StagedNet, phases: Sequence[Phase], data: ImageFolderDataModule, checkpoint: Path | None
) -> None:
    """Log the data, the network, the device and the stages before training."""
    log.info(data.describe())
    log.info(
        f"{net.config['name']} on {_device_name(trainer)} in {trainer.precision}, "
        f"images of {data.image_size} px in batches of {data.batch_size}\n"
    )
    log.info(stage_table(net, phases) + "\n")
    if checkpoint:
        log.info(f"continued {describe_progress(checkpoint)}\n")


@rank_zero_only
def take_folder(
    folder: RunFolder,
    trainer: Trainer,
    data: ImageFolderDataModule,
    checkpoint: Path | None,
    settings: Mapping[str, object],
) -> None:
    """Call `RunFolder.take`, which removes an earlier run's files, and record `settings` in the run's loggers.

    Plot training images unless the run is resumed.
    """
    folder.checkpoints = partial(written_checkpoints, trainer, folder.path)
    if folder.take(goes_on=checkpoint is not None):
        log.info(f"{folder.path} contained an earlier run, which this run replaces")
    start_records(trainer, settings, folder.path, continues=checkpoint is not None)
    if not checkpoint:
        picture_samples(str(folder.path), trainer, data)


@partial(rank_zero_only, default=cast("tuple[dict, Results | None]", ({}, None)))
def finish_run(
    folder: str, trainer: Trainer, classifier: ImageClassifier, data: ImageFolderDataModule, features: FeatureCache
) -> tuple[dict, Results | None]:
    """Evaluate the best weights and write their predictions; return the entries of the summary, and what to plot.

    Test images are evaluated last, so that they cannot influence any decision.
    """
    with head_inputs(classifier.net, len(data.val)) as inputs:
        found = predict_best(trainer, classifier, data, features)
    judged = judge(found, inputs.vectors, inputs.shown, _groups(found, data))
    write_predictions(Path(folder) / run_files.PREDICTIONS, judged.calibrated, data.root)
    _write_groups(Path(folder), data)
    facts = {
        "metric": classifier.objective.decisive.removeprefix("val/"),
        "val": judged.metrics,
        "calibration": judged.calibration,
        **_summary_entries(trainer, classifier, data),
    }
    _write_description(best_checkpoint(trainer), cut=classifier.val_input_stage, **judged.description)
    facts |= _best_entries(Path(folder), best_checkpoint(trainer))
    facts["seconds"]["features"] = features.seconds
    facts["frozen_images_per_second"] = features.images_per_second
    if classifier.solution:
        facts["probe"] = classifier.solution
    if data.test:
        tested = predict_test(trainer, classifier, data)
        write_predictions(Path(folder) / run_files.TEST_PREDICTIONS, judged.calibrated_like(tested), data.root)
        facts["test"] = test_metrics(tested, judged, _groups(tested, data))
    _log_results(Path(folder), facts, on_each(trainer.loggers, lambda record: record.view(Path(folder))))
    return facts, Results(judged.calibrated, inputs, classifier.solution)


def _groups(found: AnyPredictions, data: ImageFolderDataModule) -> np.ndarray | None:
    """Return the group of each image, or None if there are no groups, or only one."""
    if not data.groups:
        return None
    groups = np.array([data.groups.get(path, path) for path in found.paths])
    if len(set(groups)) > 1:
        return groups
    log.warning(f"all {len(groups)} images are in one group, so intervals are too narrow")
    return None


def _write_groups(folder: Path, data: ImageFolderDataModule) -> None:
    """Write the groups of validation and test images, if any; an image without a group is its own group."""
    if data.groups:
        paths = [path for images in (data.val, data.test) if images for path in images.paths]
        named = [(Path(path).relative_to(data.root).as_posix(), data.groups.get(path)) for path in paths]
        rows = [{"path": path, "group": group or path} for path, group in named]
        write_rows(folder / run_files.GROUPS, ["path", "group"], rows)


def predict_best(
    trainer: Trainer, classifier: ImageClassifier, data: ImageFolderDataModule, features: FeatureCache
) -> AnyPredictions:
    """Load the best checkpoint into `classifier`, and return its predictions for the validation images."""
    classifier.load_state_dict(read_checkpoint(best_checkpoint(trainer))["state_dict"])
    alone = one_device(trainer)
    logits = alone.predict(classifier, datamodule=features.evaluation_source(alone, classifier, data))
    return _predictions(data.val, logits, data.classes)


def best_checkpoint(trainer: Trainer) -> Path:
    best = monitored(trainer)
    assert best is not None, "a run always keeps its best weights"
    return Path(best.best_model_path)


def _best_entries(folder: Path, checkpoint: Path) -> dict:
    """Return the checkpoint's path, relative to `folder` if it lies inside, and its epoch, counted from 1."""
    place = Path(os.path.relpath(checkpoint, folder))
    inside = checkpoint.absolute() if ".." in place.parts else place
    return {"checkpoint": inside.as_posix(), "best_epoch": read_checkpoint(checkpoint)["epoch"] + 1}


def _write_description(best: Path, **entries: object) -> None:
    try:
        describe_checkpoint(best, **entries)
    except (OSError, RunError) as error:  # only warn: the checkpoint is usable without these entries
        log.warning(f"cannot write the temperature to {best}; predictions from this file stay uncalibrated: {error}")


def predict_test(trainer: Trainer, classifier: ImageClassifier, data: ImageFolderDataModule) -> AnyPredictions:
    """Return the predictions for the test images with the weights now in `classifier`."""
    assert data.test is not None
    classifier.set_input_stages()  # test images have no stored features
    logits = one_device(trainer).predict(classifier, data.view_loader(data.test, None))
    return _predictions(data.test, logits, data.classes)


def _predictions(images: ClassFolders, logits: list | None, classes: list[str]) -> AnyPredictions:
    assert logits is not None, "Trainer.predict returns predictions by default"
    if images.label_sets.several:
        return LabelPredictions(images.paths, images.label_sets.matrix(images.targets), joined(logits), classes)
    return Predictions(images.paths, np.array(images.targets), joined(logits), classes)


def _summary_entries(trainer: Trainer, classifier: ImageClassifier, data: ImageFolderDataModule) -> dict:
    callbacks = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue] - a connector sets it
    table = next(callback for callback in callbacks if isinstance(callback, EpochTable))
    parameters = list(classifier.net.parameters())
    return {
        "classes": data.classes,
        "data_root": str(data.root.resolve()),
        "split": data.split_note or ("table" if data.options.table else "folders"),
        "skipped": {name: len(paths) for name, paths in data.skipped.items()},
        "grey_range": data.preprocessing.grey_range,
        "copies_in_training": copies_in_training(data.splits),
        "fingerprint": {name: images.contents for name, images in data.splits.items()},
        "epochs": len(table.rows),
        "parameters": {
            "total": sum(p.numel() for p in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        },
        "seconds": {"training": table.training_seconds, "validation": table.validation_seconds},
        "train_images_per_second": len(table.rows) * len(data.train) / table.training_seconds,
        "train_gpu_share": _gpu_share(classifier, table),
        "peak_memory_mb": _peak_memory_mb(trainer.strategy.root_device),
        "frozen_unchanged": True,  # otherwise training has already raised an error
        "device": _device_name(trainer),
        "precision": str(trainer.precision),
        "versions": {"python": platform.python_version(), **{name: library_version(name) for name in _PACKAGES}},
    }


def _gpu_share(classifier: ImageClassifier, table: EpochTable) -> float | None:
    """Return the share of the training time in which the GPU replayed CUDA graphs, or None if it replayed none."""
    replayed = classifier.step_graph.seconds
    return replayed / (table.training_seconds - table.seconds_before) if replayed else None


def _log_results(folder: Path, facts: dict, views: Sequence[str]) -> None:
    seconds = facts["seconds"]
    calibration, metric = facts["calibration"], facts["metric"]
    before, after = calibration["ece"]
    busy, temperature = facts["train_gpu_share"], calibration["temperature"]
    tested = f"{_reached('test', metric, facts['test'])}\n" if "test" in facts else ""
    scaled = f"the temperature {temperature:.2f}" if metric == "acc" else "a temperature per class"
    log.info(
        f"\n{_reached('val', metric, facts['val'])}, best epoch {facts['best_epoch']} of {facts['epochs']}\n{tested}"
        f"calibration error {before:.3f}, {after:.3f} with {scaled}\n"
        f"{seconds['features']:.1f} s features, "
        f"{seconds['training']:.1f} s training ({facts['train_images_per_second']:.0f} images/s"
        + (f", {busy:.0%} of the time on the GPU" if busy else "")
        + f"), {seconds['validation']:.1f} s validation\n"
        + "\n".join([f"results  {folder}", *filter(None, views)])
    )


def _reached(split: str, metric: str, metrics: dict) -> str:
    low, high = metrics[f"{metric}_ci95"]
    f1 = f", macro F1 {metrics['macro_f1']:.4f}" if metric == "map" else ""
    return f"{split}/{metric} {metrics[metric]:.4f} (95 % interval {low:.4f} to {high:.4f}, {metrics['n']} images{f1})"


def _device_name(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def _peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory in MiB: that of the tensors on a CUDA device, otherwise that of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
