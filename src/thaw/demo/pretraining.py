"""Demo weights: a backbone that is pretrained once on drawn animals and then cached."""

import logging
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import AdamW

from thaw.data.datamodule import ImageFolderDataModule, image_folders
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
from thaw.training.classifier import ImageClassifier, Recipe
from thaw.training.hardware import memory_format
from thaw.training.schedules import OneCycle
from thaw.training.trainer import build_trainer, fit

log = logging.getLogger(__name__)

# AdamW with a one-cycle learning rate trains a deep network in 450 steps; SGD learns almost nothing.
BATCH_SIZE, EPOCHS, WEIGHT_DECAY = 32, 6, 0.05
CROP_SCALE = (0.4, 1.0)
LR, LR_WITHOUT_BATCH_NORM = 2e-3, 2e-4
BATCH_NORM_MOMENTUM = 0.1
POOR = 0.25  # accuracy; chance is 0.125


def load_pretrained(net: StagedNet, weights: str) -> None:
    """Load `weights` into `net`: demo weights here, other weights with `thaw.models.weights.load_weights`."""
    if weights == "demo":
        load_backbone(net, read_tensors(demo_weights(net.config["name"])), source="weights=demo")
    else:
        load_weights(net, weights)


def demo_weights(name: str) -> Path:
    """Return the .safetensors file of demo weights for the model `name`; pretrain if the cache lacks the file."""
    return build_once(
        f"weights/{name.replace('/', '-')}-v{PRETRAINING}.{DRAWINGS}.safetensors",
        lambda path: _pretrain(name, path),
        lambda path: path.stat().st_size > 0,
        keep=8,
    )


def _pretrain(name: str, path: Path) -> None:
    image_size = demo_size(name)
    data = image_folders(source_folder(), image_size, batch_size=BATCH_SIZE, crop_scale=CROP_SCALE)
    log.info(
        f"pretraining demo weights for {name}, once, on {len(data.train)} drawn animals of "
        f"{len(data.classes)} species ({EPOCHS} epochs; about 2.5 minutes for resnet34 on 2 cores)"
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the cached weights must not depend on the seed of the run that creates them
        net = build_net(name, len(data.classes), image_size)
        _speed_up(net)
        save_file(_trained(net, data).state_dict(), path)


def _trained(net: StagedNet, data: ImageFolderDataModule) -> StagedNet:
    normalized = any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    rate = LR if normalized else LR_WITHOUT_BATCH_NORM
    table = EpochTable()
    classifier = ImageClassifier(
        net.to(memory_format=memory_format()),
        data.classes,
        Recipe(partial(AdamW, weight_decay=WEIGHT_DECAY, fused=True), OneCycle()),
    )
    strategy = Strategy("demo weights", [{"train": "all"}], lr=rate)
    trainer = build_trainer(
        max_epochs=EPOCHS, devices=1, logger=False, enable_checkpointing=False, callbacks=[table, EpochBar()]
    )
    fit(trainer, classifier, strategy.schedule(net, EPOCHS), data)
    if table.rows[-1]["val/acc"] < POOR:
        log.warning(
            f"{net.config['name']} has learned little from the drawings: expect low accuracy after the transfer"
        )
    return net.to(memory_format=torch.contiguous_format)


def _speed_up(net: nn.Module) -> None:
    """Make residual blocks start as the identity (Goyal et al. 2017, section 5.1), and batch norms adapt faster."""
    for module in net.modules():
        last = getattr(module, "bn3", None) or getattr(module, "bn2", None)
        if isinstance(last, nn.BatchNorm2d) and hasattr(module, "downsample"):  # a residual block, which has a shortcut
            nn.init.zeros_(last.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = BATCH_NORM_MOMENTUM  # some networks' 0.01 or less would need thousands of steps
