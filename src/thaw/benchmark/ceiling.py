"""The upper limit of training speed: time Thaw's training step on random images that are already on the device."""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig

from thaw.runs.conf_folder import conf_folder
from thaw.training.assembly import build_recipe
from thaw.training.classifier import ImageClassifier
from thaw.training.hardware import memory_format

_WARM_UP, _FEWEST, _MOST, _SECONDS = 3, 5, 300, 20


def compose_config(overrides: list[str]) -> DictConfig:
    """Return the configuration of `python train.py OVERRIDES`, without callbacks, loggers and checkpoints."""
    overrides = [*overrides, "trainer.callbacks=[]", "trainer.logger=false", "+trainer.enable_checkpointing=false"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        cfg = compose("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # the configuration has ${hydra:...} references
    return cfg


def build_step(cfg: DictConfig, classes: int) -> tuple[Callable[[], None], torch.device]:
    """Return a training step on a batch of random images, and its device."""
    trainer: Trainer = instantiate(cfg.trainer)
    size, device = cfg.data.train_size, trainer.strategy.root_device
    net = instantiate(cfg.model, num_classes=classes, image_size=size)
    net.to(memory_format=memory_format(cfg.channels_last))
    names = [str(number) for number in range(classes)]
    classifier = ImageClassifier(net, names, build_recipe(cfg, graph=cfg.graph)).to(device)
    classifier.trainer = trainer
    classifier.start(instantiate(cfg.strategy).schedule(net, trainer.max_epochs, cfg.lr_factor)[0])
    optimizer = classifier.phase_optimizer()
    images = torch.randint(256, (cfg.data.batch_size, 3, size, size), dtype=torch.uint8, device=device)
    labels = torch.randint(classes, (cfg.data.batch_size,), device=device)

    def step() -> None:
        with trainer.precision_plugin.forward_context():
            _, loss = classifier.forward_and_loss(images, labels)
        classifier.optimizer_zero_grad(0, 0, optimizer)
        classifier.backward(loss)
        optimizer.step()

    return step, device


def step_seconds(step: Callable[[], object], device: torch.device, seconds: float = _SECONDS) -> list[float]:
    """Return the seconds of each step. After a warm-up, repeat the step 5 to 300 times, until `seconds` are over."""
    for _ in range(_WARM_UP):
        step()
    marks, end = [_mark(device)], time.perf_counter() + seconds
    while len(marks) <= _FEWEST or (time.perf_counter() < end and len(marks) <= _MOST):
        step()
        marks.append(_mark(device))
    if device.type != "cuda":
        return [after - before for before, after in itertools.pairwise(marks)]
    torch.cuda.synchronize(device)
    return [before.elapsed_time(after) / 1000 for before, after in itertools.pairwise(marks)]


def _mark(device: torch.device) -> Any:
    """Return the time in seconds, or on CUDA an event, because waiting for the GPU would slow the steps down."""
    if device.type == "mps":
        torch.mps.synchronize()
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m thaw.benchmark.ceiling")
    parser.add_argument("result", type=Path, help="the JSON file to write")
    parser.add_argument("classes", type=int)
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, as for train.py")
    options = parser.parse_args()
    cfg = compose_config(options.overrides)
    seconds = step_seconds(*build_step(cfg, options.classes))
    rate = cfg.data.batch_size / statistics.median(seconds)
    options.result.write_text(json.dumps({"steps": seconds, "images_per_second": rate}))


if __name__ == "__main__":
    main()
