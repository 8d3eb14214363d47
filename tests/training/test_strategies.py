"""Every strategy of conf/strategy, against plain SGD by hand."""

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from hydra.utils import instantiate
from lightning import Callback
from nets import tiny_resnet
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from thaw.data.datamodule import image_folders
from thaw.data.rotation import apply_augmentation
from thaw.training.classifier import ImageClassifier, Recipe
from thaw.training.phase_data import FeatureCache
from thaw.training.trainer import build_trainer, fit

EPOCHS = 5
STAGES = ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]


def rates(lr, decay=1.0, stages=STAGES, head=0.01):
    return {stage: lr * decay ** STAGES[::-1].index(stage) for stage in stages} | {"fc": head}


def is_norm(name):
    return "bn1." in name


def is_bias(name):
    return name.endswith("bias")


SOLVED = (1, {"fc": 0.0}, None)

# Of each phase: its epochs, the rate of each stage, and which of their parameters learn.
EXPECTED = {
    "feature_extractor": [(5, rates(0.01, stages=[]), None)],
    "fine_tune": [(5, rates(0.001, 0.8, head=0.02), None)],
    "last_half": [(5, rates(0.003, stages=["layer3", "layer4"]), None)],
    "layer3_layer4": [(5, rates(0.003, stages=["layer3", "layer4"]), None)],
    "lp_ft": [SOLVED, (4, rates(0.001, 0.7, head=0.001), None)],
    "probe": [SOLVED],
    "gradual": [
        (1, rates(0.01, 0.8, stages=[]), None),
        (1, rates(0.003, 0.8, stages=["layer4"]), None),
        (1, rates(0.003, 0.8, stages=["layer3", "layer4"]), None),
        (1, rates(0.003, 0.8, stages=["layer2", "layer3", "layer4"]), None),
        (1, rates(0.003, 0.8), None),
    ],
    "surgical_first": [(5, rates(0.003, stages=["conv1", "layer1"]), None)],
    "surgical_middle": [(5, rates(0.003, stages=["layer2", "layer3"]), None)],
    "surgical_last": [(5, rates(0.003, stages=["layer4"]), None)],
    "batch_norm": [(5, rates(0.01), is_norm)],
    "bias": [(5, rates(0.01), is_bias)],
    "from_scratch": [(5, rates(0.01), None)],
}


class PhaseEnds(Callback):
    def __init__(self):
        self.states, self.rates = [], []

    def on_train_start(self, trainer, classifier):
        self.rates.append({group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups})

    def on_train_end(self, trainer, classifier):
        self.states.append({key: value.clone() for key, value in classifier.net.state_dict().items()})


def by_hand(data, phases, states):
    """The state after each phase, and the names of what learned in it; a solved head is taken from `states`."""
    torch.manual_seed(0)
    net, first = tiny_resnet(2), 0
    loader = data.train_dataloader()
    for (epochs, stage_rates, chosen), state in zip(phases, states, strict=True):
        if (epochs, stage_rates, chosen) == SOLVED:
            net.fc.load_state_dict({key: state[f"fc.{key}"] for key in ("weight", "bias")})
            yield state, {"fc.weight": 0, "fc.bias": 0}
            first += 1
            continue
        learns = {}
        for name, _ in net.named_parameters():
            stage = "conv1" if name.startswith("bn1.") else name.split(".")[0]
            if stage in stage_rates and (chosen is None or chosen(name) or stage == "fc"):
                learns[name] = stage_rates[stage]
        for path, module in net.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train({f"{path}.weight", f"{path}.bias"} <= learns.keys())
        optimizer = SGD([{"params": [net.get_parameter(name)], "lr": lr} for name, lr in learns.items()], momentum=0.9)
        scheduler = StepLR(optimizer, step_size=2, gamma=0.1)
        for epoch in range(first, first + epochs):
            loader.sampler.set_epoch(epoch)
            for images, labels in map(apply_augmentation, loader):
                net.zero_grad()
                F.cross_entropy(net(images), labels).backward()
                optimizer.step()
            scheduler.step()
        first += epochs
        yield {key: value.clone() for key, value in net.state_dict().items()}, learns


def test_every_strategy_is_expected_here():
    assert sorted(EXPECTED) == sorted(path.stem for path in (ROOT / "conf/strategy").glob("*.yaml"))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_strategy_changes_just_what_it_names_at_the_rates_it_names(configure, image_folder, name):
    data = image_folders(image_folder(train=5), image_size=16, batch_size=5)
    torch.manual_seed(0)
    net, ends = tiny_resnet(2), PhaseEnds()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    cfg = configure(f"strategy={name}", "scheduler.step_size=2")
    phases = instantiate(cfg.strategy).schedule(net, EPOCHS)
    classifier = ImageClassifier(net, data.classes, Recipe(instantiate(cfg.optimizer), instantiate(cfg.scheduler)))
    options = {"logger": False, "enable_checkpointing": False, "max_epochs": EPOCHS}
    trainer = build_trainer("cpu", "32-true", callbacks=[ends], **options)
    fit(trainer, classifier, phases, data, features=FeatureCache(views=0))

    assert len(ends.states) == len(EXPECTED[name])
    expected = by_hand(data, EXPECTED[name], ends.states)
    for state, optimizer_rates, phase, (reference, learned) in zip(
        ends.states, ends.rates, EXPECTED[name], expected, strict=True
    ):
        assert optimizer_rates == pytest.approx(phase[1])
        norms = {name.removesuffix(".weight") for name in learned if is_norm(name) and name.endswith(".weight")}
        statistics = {key for key in state if key.rpartition(".")[0] in norms}
        changed = {key for key in state if not state[key].equal(before[key])}
        still = (
            {"fc.bias"} - changed if name == "lp_ft" else set()
        )  # large at the optimum, where steps are rounded away
        assert changed | still == learned.keys() | statistics
        for key, tensor in state.items():
            largest = max(1, reference[key].abs().max().item())  # statistics of a net that has hardly learned are large
            assert torch.allclose(tensor, reference[key], atol=1e-6 * largest), key
        before = state
