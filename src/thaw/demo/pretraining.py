"""Demo weights: a backbone learned once from the drawn source animals, kept in the cache."""

import logging
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import AdamW

from thaw.data.datamodule import ImageFolderDataModule
from thaw.demo.datasets import source_folder
from thaw.models.backbones import build_net
from thaw.models.sizes import demo_size
from thaw.models.staged import StagedNet
from thaw.models.tensor_files import read_tensors
from thaw.models.weights import load_backbone, load_weights
from thaw.storage.cache import build_once
from thaw.storage.versions import DRAWINGS, PRETRAINING
from thaw.strategy.phases import Strategy
from thaw.training.callbacks import EpochBar, EpochTable
from thaw.training.classifier import ImageClassifier
from thaw.training.hardware import memory_format
from thaw.training.schedules import OneCycle
from thaw.training.trainer import build_trainer, fit

log = logging.getLogger(__name__)

# AdamW and one cycle of its rate get a deep net through 450 steps, in which SGD has hardly begun to learn.
BATCH_SIZE, EPOCHS, WEIGHT_DECAY = 32, 6, 0.05
CROP_SCALE = (0.4, 1.0)
LR, LR_WITHOUT_BATCH_NORM = 2e-3, 2e-4
BATCH_NORM_MOMENTUM = 0.1
POOR = 0.25  # of eight species


def load_pretrained(net: StagedNet, weights: str) -> None:
    """Fill `net` as `load_weights` does, and with demo weights if `weights` is demo.

    Raises:
        UserError: as `load_weights` does.

    """
    if weights == "demo":
        load_backbone(net, read_tensors(demo_weights(net.config["name"])), source="weights=demo")
    else:
        load_weights(net, weights)


def demo_weights(name: str) -> Path:
    """The .safetensors file with the backbone of the model `name`, learned now if the cache lacks it."""
    return build_once(
        f"weights/{name.replace('/', '-')}-v{PRETRAINING}.{DRAWINGS}.safetensors",
        lambda path: _learn(name, path),
        lambda path: path.stat().st_size > 0,
        keep=8,
    )


def _learn(name: str, path: Path) -> None:
    image_size = demo_size(name)
    data = ImageFolderDataModule(source_folder(), image_size, batch_size=BATCH_SIZE, crop_scale=CROP_SCALE)
    log.info(
        f"demo weights for {name} are learned now, once, from {len(data.train)} drawn animals of "
        f"{len(data.classes)} species ({EPOCHS} epochs; about 2.5 minutes for resnet34 on 2 cores)"
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)  # so that the weights do not depend on the seed of the run that needs them first
        net = build_net(name, len(data.classes), image_size)
        _make_quick(net)
        save_file(_trained(net, data).state_dict(), path)


def _trained(net: StagedNet, data: ImageFolderDataModule) -> StagedNet:
    normalized = any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    rate = LR if normalized else LR_WITHOUT_BATCH_NORM
    table = EpochTable()
    classifier = ImageClassifier(
        net.to(memory_format=memory_format()),
        data.classes,
        optimizer=partial(AdamW, weight_decay=WEIGHT_DECAY, fused=True),
        scheduler=OneCycle(),
    )
    strategy = Strategy("demo weights", [{"train": "all"}], lr=rate)
    trainer = build_trainer(
        max_epochs=EPOCHS, devices=1, logger=False, enable_checkpointing=False, callbacks=[table, EpochBar()]
    )
    fit(trainer, classifier, strategy.schedule(net, EPOCHS), data)
    if table.rows[-1]["val/acc"] < POOR:
        log.warning(f"{net.config['name']} has learned little of them: expect little of the transfer")
    return net.to(memory_format=torch.contiguous_format)


def _make_quick(net: nn.Module) -> None:
    """Residual blocks that start as the identity (Goyal et al. 2017, section 5.1) and statistics that keep up."""
    for module in net.modules():
        last = getattr(module, "bn3", None) or getattr(module, "bn2", None)
        if isinstance(last, nn.BatchNorm2d) and hasattr(module, "downsample"):  # a block with a shortcut around it
            nn.init.zeros_(last.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = BATCH_NORM_MOMENTUM  # some families' 0.01 or less needs thousands of steps
