"""What a configuration cannot say, since the run itself decides it, and what to say instead."""

from collections.abc import Mapping

# Arguments that a run hands to a component of this name; what a configuration says of them would be overwritten.
GIVEN: dict[str, dict[str, str]] = {
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
    "scheduler": {"optimizer": "choose it with optimizer=…"},
    "loss": {
        "input": "these are the net's logits",
        "target": "these are the labels",
        "weight": "use data.balance=weights",
    },
    "mix": {"num_classes": "the class folders of data.root decide it"},
    "trainer": {
        "bf16_suits": "use trainer.precision",
        "plugins": "Thaw has its own",
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

# Options of Lightning's Trainer that contradict what every run does; harmless is the value that changes nothing.
_EVERY_EPOCH = "every epoch is validated once, for the best one is kept"
_TRAINER: dict[str, tuple[tuple, str]] = {
    "fast_dev_run": ((False, 0), "use trainer=debug, which trains two batches an epoch"),
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

_NUMBERS = {
    "accumulate_grad_batches": (lambda value: type(value) is int and value > 0, "a whole number of at least 1"),
    "gradient_clip_val": (lambda value: value is None or value > 0, "a number above 0"),
}

_NEEDED = {
    "table": "it writes metrics.csv, which the results are taken from",
    "best": "it keeps the best epoch, which the results are taken from",
    "last": "it saves what resume= continues from",
}
# Arguments of these callbacks, the value that they have, and why they have no other.
_LAST = {
    "filename": ("last", "resume= looks for last.ckpt"),
    "dirpath": ("./checkpoints", "resume= looks for last.ckpt in checkpoints"),
    "monitor": (None, "the last epoch is saved, whatever it is worth"),
    "save_weights_only": (False, "weights alone cannot be continued from"),
    "save_top_k": (1, "there is one last epoch"),
    "save_last": (None, "it is this callback that saves last.ckpt"),
    "every_n_epochs": (None, "use callbacks.last.share"),
    "every_n_train_steps": (None, "use callbacks.last.share"),
    "save_on_train_epoch_end": (None, "it saves when an epoch is over"),
}
_BEST = {
    "save_last": (None, "callbacks.last saves last.ckpt"),
    "every_n_epochs": (None, "the best of all epochs is kept"),
    "every_n_train_steps": (None, "the best of all epochs is kept"),
    "save_on_train_epoch_end": (None, "it saves when an epoch is over"),
}
_IDLE_IN_DEMO = {"val_fraction": 0.2, "on_bad_image": "error", "grey_range": "auto"}


_OTHERS = {
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
    """What is said in vain, or missing, in a configuration's plain values: a sentence without its full stop."""
    for check in (_demo, _callbacks, _trainer):
        if told := check(values):
            return told
    return None


def _callbacks(values: Mapping) -> str | None:
    callbacks = values.get("callbacks") or {}
    for name, reason in _NEEDED.items():
        if not callbacks.get(name):
            return f"callbacks.{name} cannot be left out: {reason}"
    for name, callback in callbacks.items():
        target = callback["_target_"] if callback else ""
        instead = _OTHERS.get(target.rpartition(".")[2]) if target.startswith("lightning.") else None
        if instead:
            return f"callbacks.{name}._target_={target} knows nothing of phases: {instead}"
    for name, (harmless, reason) in _LAST.items():
        if callbacks["last"].get(name, harmless) != harmless:
            return f"callbacks.last.{name}={callbacks['last'][name]!r}: {reason}"
    for name, (harmless, reason) in _BEST.items():
        if callbacks["best"].get(name, harmless) != harmless:
            return f"callbacks.best.{name}={callbacks['best'][name]!r}: {reason}"
    if callbacks["best"].get("save_top_k") == 0 or not callbacks["best"].get("monitor", True):
        return "callbacks.best has to keep an epoch: leave its monitor and save_top_k as they are"
    if values["trainer"].get("callbacks") != list(callbacks.values()):
        return "trainer.callbacks is made of what is in callbacks: add yours with +callbacks.NAME._target_=…"
    return None


def _demo(values: Mapping) -> str | None:
    """The demo draws its images; what else is said of image folders would not be about the user's."""
    data, weights = values["data"], values["weights"]
    drawn = "demo" in str(data.get("preprocessing"))
    if drawn and not isinstance(data.get("root"), Mapping):
        return f"data.root={data.get('root')!r} is not for data=demo, which draws its images: choose data=image_folder"
    for name, harmless in _IDLE_IN_DEMO.items() if drawn else ():
        if data.get(name, harmless) != harmless:
            return (
                f"data.{name}={data[name]!r} does nothing to the demo's drawings (data=demo, weights={weights}): add "
                "data.root=… for your own images"
            )
    return None


def _trainer(values: Mapping) -> str | None:
    options = values["trainer"]
    if "max_epochs" not in options:
        return "trainer.max_epochs is not set: add trainer.max_epochs=…"
    for name, (harmless, instead) in _TRAINER.items():
        value = options.get(name, harmless[0])
        if not any(value == one and type(value) in (type(one), int, float) for one in harmless):
            return f"trainer.{name}={value!r} does not go with Thaw: {instead.format(value=value)}"
    for name, (allowed, wanted) in _NUMBERS.items():
        if name in options and not allowed(options[name]):
            return f"trainer.{name}={options[name]!r} must be {wanted}"
    for name in ("limit_train_batches", "limit_val_batches"):
        if options.get(name, 1) == 0:
            return f"trainer.{name}=0 leaves nothing to learn or to choose from: set at least 1"
    strategy = options.get("strategy", "auto")
    if isinstance(strategy, str) and strategy != "auto" and not strategy.startswith("ddp"):
        return f"trainer.strategy={strategy!r} is not supported; the choices are auto and Lightning's kinds of ddp"
    return None
