"""Find options that a configuration cannot set, because the run decides them, and say what to use instead."""

import posixpath
from collections.abc import Mapping
from typing import Any

from thaw.runs.value_ranges import range_fault

# Arguments that the run itself passes to a part of the configuration, each with what to use instead.
PASSED_BY_RUN: dict[str, dict[str, str]] = {
    "model": {
        "num_classes": "the class folders of data.root decide it",
        "image_size": "use data.image_size={value}",
        "weights": "use weights=… without a prefix",
        "pretrained": "use weights=imagenet or weights=none",
    },
    "optimizer": {
        "params": "strategy.phases decides what learns",
        "lr": "use strategy.lr={value}",
        "learning_rate": "use strategy.lr={value}",
    },
    "scheduler": {"optimizer": "choose an optimizer with optimizer=…"},
    "loss": {
        "input": "the run passes the logits",
        "target": "the run passes the labels",
        "weight": "use data.balance=weights",
    },
    "mix": {"num_classes": "the class folders of data.root decide it"},
    "trainer": {
        "bf16_suits": "use trainer.precision",
        "plugins": "Thaw sets its own plugins",
        "enable_progress_bar": "remove the bar with ~callbacks.bar",
        "enable_model_summary": "the table of stages is always printed",
        "use_distributed_sampler": "Thaw divides the images among devices itself",
        "auto_lr_find": "use callbacks=find_lr",
        "auto_scale_batch_size": "use data.batch_size",
        "checkpoint_callback": "use callbacks.best",
        "gpus": "use trainer.devices={value}",
        "resume_from_checkpoint": "use resume=RUN, the folder of a run",
    },
}

_EVERY_EPOCH = "every epoch is validated once, because the best one is kept"
# Options of Lightning's Trainer that no run supports, each with its harmless values and what to use instead.
_TRAINER: dict[str, tuple[tuple, str]] = {
    "fast_dev_run": ((False, 0), "use trainer=debug, which trains two batches per epoch"),
    "overfit_batches": ((0,), "use +trainer.limit_train_batches={value} and data.augment=false"),
    "num_sanity_val_steps": ((0,), "folders are checked before the run starts"),
    "check_val_every_n_epoch": ((1,), _EVERY_EPOCH),
    "val_check_interval": ((1.0, None), _EVERY_EPOCH),
    "limit_test_batches": ((1.0, None), "all test images are evaluated"),
    "limit_predict_batches": ((1.0, None), "all validation images are evaluated"),
    "enable_checkpointing": ((True, None), "a run keeps its best and its last epoch"),
    "reload_dataloaders_every_n_epochs": ((0,), "the images stay the same"),
    "default_root_dir": ((None,), "use hydra.run.dir={value}"),
    "barebones": ((False,), "a run keeps its results"),
    "max_steps": ((-1,), "use trainer.max_epochs or trainer.max_time"),
    "min_steps": ((None,), "use trainer.max_epochs"),
    "min_epochs": ((None,), "use trainer.max_epochs"),
    "model_registry": ((None,), "a run keeps its weights in its own folder"),
}

_NEEDED = {
    "table": "it writes metrics.csv, which the results need",
    "best": "it keeps the best epoch, which the results describe",
    "last": "it saves the checkpoint that resume= continues from",
}
# Arguments of callbacks.last and callbacks.best: the only value allowed, and why.
_LAST: dict[str, tuple[Any, str]] = {
    "filename": ("last", "resume= looks for last.ckpt"),
    "dirpath": ("./checkpoints", "resume= looks for last.ckpt in checkpoints"),
    "monitor": (None, "the last epoch is saved, whatever its metrics"),
    "save_weights_only": (False, "a run cannot continue from weights alone"),
    "save_top_k": (1, "there is only one last epoch"),
    "save_last": (None, "this callback itself saves last.ckpt"),
    "every_n_epochs": (None, "use callbacks.last.share"),
    "every_n_train_steps": (None, "use callbacks.last.share"),
    "save_on_train_epoch_end": (None, "Thaw decides that this callback saves after validation"),
}
_BEST: dict[str, tuple[Any, str]] = {
    "save_last": (None, "callbacks.last saves last.ckpt"),
    "every_n_epochs": (None, "the best of all epochs is kept"),
    "every_n_train_steps": (None, "the best of all epochs is kept"),
    "save_on_train_epoch_end": (None, "Thaw decides that this callback saves after validation"),
}
_TABLE: dict[str, tuple[Any, str]] = {"path": ("./metrics.csv", "the results need metrics.csv in the run's folder")}
_IDLE_IN_DEMO: dict[str, Any] = {"val_fraction": 0.2, "table": None, "on_bad_image": "error", "grey_range": "auto"}
# Callbacks of Lightning that ignore the phases of a strategy, and what to use instead.
_REPLACED_CALLBACKS = {
    "BaseFinetuning": "use strategy=…",
    "BackboneFinetuning": "use strategy=…",
    "BatchSizeFinder": "use data.batch_size",
    "LearningRateFinder": "use callbacks=find_lr",
    "StochasticWeightAveraging": "use callbacks=ema",
    "WeightAveraging": "use callbacks=ema",
    "EMAWeightAveraging": "use callbacks=ema",
    "Timer": "use trainer.max_time",
}


def fault(values: Mapping) -> str | None:
    """Return a sentence, without its full stop, about the first option that cannot work or has no effect, or None."""
    return _demo_fault(values) or _callback_fault(values) or _trainer_fault(values) or range_fault(values)


def _callback_fault(values: Mapping) -> str | None:
    callbacks = values.get("callbacks") or {}
    for name, reason in _NEEDED.items():
        if not callbacks.get(name):
            return f"callbacks.{name} cannot be left out: {reason}"
    for name, callback in callbacks.items():
        target = callback["_target_"] if callback else ""
        instead = _REPLACED_CALLBACKS.get(target.rpartition(".")[2]) if target.startswith("lightning.") else None
        if instead:
            return f"callbacks.{name}._target_={target} does not know phases: {instead}"
    for name, fixed in (("table", _TABLE), ("last", _LAST), ("best", _BEST)):
        for argument, (allowed, reason) in fixed.items():
            if (value := callbacks[name].get(argument, allowed)) != allowed:
                return f"callbacks.{name}.{argument}={value!r} is not possible: {reason}"
    if callbacks["best"].get("save_top_k") == 0 or not callbacks["best"].get("monitor", True):
        return "callbacks.best must save the best epoch's checkpoint: do not change its monitor and save_top_k"
    if misplaced := _misplaced_file(callbacks) or _shared_file(callbacks):
        return misplaced
    if values["trainer"].get("callbacks") != list(callbacks.values()):
        return "the run sets trainer.callbacks from callbacks: add yours with +callbacks.NAME._target_=…"
    return None


def _misplaced_file(callbacks: Mapping) -> str | None:
    for name, callback in callbacks.items():
        filename = str((callback or {}).get("filename") or "")
        if posixpath.isabs(filename) or ".." in filename.split("/"):
            return f"callbacks.{name}.filename={filename!r} lies outside dirpath: choose the folder with dirpath"
    return None


def _shared_file(callbacks: Mapping) -> str | None:
    writers: dict[str, str] = {}
    for name, callback in callbacks.items():
        folder, filename = ((callback or {}).get(key) for key in ("dirpath", "filename"))
        if folder is None or filename is None:
            continue
        path = posixpath.normpath(f"{folder}/{filename}.ckpt")
        if path in writers:
            first, changed = writers[path], writers[path] if name == "last" else name
            return f"callbacks.{first} and callbacks.{name} both write {path}: change callbacks.{changed}.filename"
        writers[path] = name
    return None


def _demo_fault(values: Mapping) -> str | None:
    data, weights = values["data"], values["weights"]
    if "demo" not in str(data.get("preprocessing")):
        return None
    if not isinstance(data.get("root"), Mapping):
        return f"data.root={data.get('root')!r} is not for data=demo, which draws its images: choose data=image_folder"
    tabled = {"table": "labels.csv"} if str(data["root"].get("_target_")).endswith("scenes_folder") else {}
    for name, default in {**_IDLE_IN_DEMO, **tabled}.items():
        if data.get(name, default) != default:
            return (
                f"data.{name}={data[name]!r} has no effect on the demo's drawings (data=demo, weights={weights}): add "
                "data.root=… for your own images"
            )
    return None


def _trainer_fault(values: Mapping) -> str | None:
    options = values["trainer"]
    if "max_epochs" not in options:
        return "trainer.max_epochs is not set: add trainer.max_epochs=…"
    for name, (harmless, instead) in _TRAINER.items():
        value = options.get(name, harmless[0])
        if not any(value == one and type(value) in (type(one), int, float) for one in harmless):
            return f"trainer.{name}={value!r} is not supported: {instead.format(value=value)}"
    for name in ("limit_train_batches", "limit_val_batches"):
        if options.get(name, 1) == 0:
            return f"trainer.{name}=0 leaves no batch to train on or to validate: set at least 1"
    strategy = options.get("strategy", "auto")
    if isinstance(strategy, str) and strategy != "auto" and not strategy.startswith("ddp"):
        return f"trainer.strategy={strategy!r} is not supported; the choices are auto and Lightning's ddp strategies"
    return None
