from functools import partial

import pytest
import torch
import torch.nn.functional as F
from nets import tiny_net
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import ExponentialLR, StepLR

from thaw.data.datamodule import image_folders
from thaw.data.rotation import apply_augmentation
from thaw.models.backbones import build_net
from thaw.strategy.phases import Strategy
from thaw.training.callbacks import EpochTable
from thaw.training.classifier import ImageClassifier, Recipe
from thaw.training.trainer import build_trainer, fit

LR, MOMENTUM, EPOCHS = 0.05, 0.9, 4
SCHEDULE = {"step_size": 2, "gamma": 0.1}


@pytest.fixture
def train(image_folder):
    """Trains a tiny net from a fixed seed; gives back the net, the data and a row per epoch."""

    def run(*stages):
        data = image_folders(image_folder(), image_size=16, batch_size=5, seed=3)
        torch.manual_seed(0)
        net = tiny_net(2)
        optimizer, scheduler = partial(SGD, momentum=MOMENTUM), partial(StepLR, **SCHEDULE)
        classifier = ImageClassifier(net, data.classes, Recipe(optimizer, scheduler))
        table = EpochTable()
        options = {"logger": False, "enable_checkpointing": False, "max_epochs": EPOCHS}
        trainer = build_trainer("cpu", "32-true", callbacks=[table], **options)
        phases = Strategy("test", [{"train": list(stages)}], LR).schedule(net, EPOCHS)
        fit(trainer, classifier, phases, data)
        return net, data, table.rows

    return run


def by_hand(data, frozen):
    """The tutorial's loop in plain PyTorch, on a net of the same seed."""
    torch.manual_seed(0)
    net = tiny_net(2)
    net.requires_grad_(False)
    learning = [stage for name, stage in net.named_children() if name not in frozen]
    parameters = [p.requires_grad_() for stage in learning for p in stage.parameters()]
    optimizer = SGD(parameters, lr=LR, momentum=MOMENTUM)
    scheduler = StepLR(optimizer, **SCHEDULE)
    loader, rows = data.train_dataloader(), []
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)
        net.train()
        for name in frozen:
            net.get_submodule(name).eval()
        losses = []
        for images, labels in map(apply_augmentation, loader):
            loss = F.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += [loss.item()] * len(labels)
        scheduler.step()
        net.eval()
        with torch.inference_mode():
            images, labels = map(torch.cat, zip(*data.val_dataloader(), strict=True))
            logits = net(images)
        accuracy = (logits.argmax(1) == labels).float().mean().item()
        rows.append((sum(losses) / len(losses), F.cross_entropy(logits, labels).item(), accuracy))
    return net, rows


@pytest.mark.parametrize(
    ("stages", "frozen"),
    [(["conv1", "layer1"], []), (["head"], ["conv1", "bn1", "layer1"]), (["layer1"], ["conv1", "bn1"])],
)
def test_training_gives_the_losses_of_plain_pytorch(train, stages, frozen):
    net, data, rows = train(*stages)
    reference, expected = by_hand(data, frozen)
    for row, (train_loss, val_loss, val_acc) in zip(rows, expected, strict=True):
        assert row["train/loss"] == pytest.approx(train_loss, abs=1e-5)
        assert row["val/loss"] == pytest.approx(val_loss, abs=1e-5)
        assert row["val/acc"] == pytest.approx(val_acc, abs=1e-6)
    for key, tensor in net.state_dict().items():
        assert torch.allclose(tensor, reference.state_dict()[key], atol=1e-5), key
    assert [row["lr"] for row in rows] == pytest.approx([LR, LR, LR / 10, LR / 10])


def test_only_what_trains_changes(train):
    torch.manual_seed(0)
    before = {key: value.clone() for key, value in tiny_net(2).state_dict().items()}
    after = train("layer1")[0].state_dict()
    changed = {key.split(".")[0] for key in before if not after[key].equal(before[key])}
    assert changed == {"layer1", "fc"}


def started(net, *train):
    classifier = ImageClassifier(net, ["a", "b"], Recipe(partial(SGD, momentum=MOMENTUM), partial(StepLR, step_size=1)))
    classifier.start(Strategy("test", [{"train": list(train)}], LR).schedule(net, 1)[0])
    return classifier


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "convnext_tiny"])
def test_frozen_stages_give_the_same_in_training_and_evaluation(name):
    """Far from the stored statistics, and in spite of blocks that are dropped at random."""
    net = build_net(name, 2)
    classifier = started(net, "last")
    frozen = [stage for stage in net.stages if stage not in (*net.learned_stages[-2:], "normalize")]
    before = {key: value.clone() for key, value in net.state_dict().items()}

    def features():
        x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 30 + 100
        for stage in frozen:
            x = net.run_stage(stage, x)
        return x

    with torch.no_grad():
        classifier.train()
        training = features()
        classifier.eval()
        assert training.equal(features())
    assert all(value.equal(before[key]) for key, value in net.state_dict().items())
    assert all(module.training for module in classifier.train().net.stage_modules(net.learned_stages[-2]))


@pytest.mark.parametrize(
    ("train", "learning"),
    [("layer1.1", {"layer1.1"}), ("*bias", set()), ("layer1.0", set()), ("norm", {"bn1", "layer1.1"})],
)
def test_a_normalisation_follows_its_batches_only_if_all_of_it_learns(train, learning):
    net = started(tiny_net(2), train).train().net
    assert {
        name for name, part in net.named_modules() if isinstance(part, nn.BatchNorm2d) and part.training
    } == learning


def test_every_stage_that_learns_is_a_named_group_of_the_optimizer():
    groups = started(tiny_net(2), "layer1").configure_optimizers()["optimizer"].param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [("layer1", LR), ("fc", LR)]
    assert sum(len(group["params"]) for group in groups) == 6


def test_a_phase_brings_its_own_optimizer_and_scheduler():
    net = tiny_net(2)
    classifier = ImageClassifier(net, ["a", "b"], Recipe(SGD, partial(StepLR, step_size=1)))
    own = {"optimizer": partial(AdamW, weight_decay=0.3), "scheduler": partial(ExponentialLR, gamma=0.5)}
    phases = Strategy("test", [{"train": "head", "epochs": 1, **own}, {"train": "all"}], LR).schedule(net, 2)
    kinds = []
    for phase in phases:
        classifier.start(phase)
        made = classifier.configure_optimizers()
        kinds.append((type(made["optimizer"]), type(made["lr_scheduler"])))
    assert kinds == [(AdamW, ExponentialLR), (SGD, StepLR)]
