"""What a run is going to use is tried on a few numbers before it starts."""

from collections import OrderedDict
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping
from nets import tiny_net
from torch import nn
from torch.optim import SGD, RMSprop
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR

from thaw.data.datamodule import image_folders
from thaw.data.order import SeededOrder
from thaw.errors import UserError
from thaw.models.staged import Normalize, StagedNet
from thaw.strategy.phases import Strategy
from thaw.training.classifier import ImageClassifier, Recipe
from thaw.training.rehearsal import check_net, rehearse

WEIGHTS = torch.tensor([2.0, 0.5])


@pytest.fixture
def try_out(image_folder):
    """Rehearses a run on eleven images, five in a batch, and gives back its data."""
    root = image_folder(train=6, size=24)
    (root / "train" / "bees" / "0.png").unlink()

    def tried(net=None, callbacks=(), devices=1, batch_size=5, limit=1.0, **options):
        data = image_folders(root, image_size=16, batch_size=batch_size)
        options = {"optimizer": SGD, "scheduler": partial(StepLR, step_size=1), **options}
        classifier = ImageClassifier(net or tiny_net(2), data.classes, Recipe(**options))
        phases = Strategy("mine", [{"train": "all"}], lr=0.1).schedule(classifier.net, 3)
        trainer = SimpleNamespace(
            strategy=SimpleNamespace(root_device=torch.device("cpu")), world_size=devices, callbacks=callbacks,
            limit_train_batches=limit, limit_val_batches=1.0,
        )  # fmt: skip
        before = torch.get_rng_state()
        rehearse(trainer, classifier, phases, data)
        assert torch.equal(torch.get_rng_state(), before), "what comes after draws as it did"
        return data

    return tried


def focal(logits, labels):
    return F.cross_entropy(logits, labels)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": partial(RMSprop, centered=True)},
        {"scheduler": partial(ReduceLROnPlateau, mode="max", patience=1)},
        {"scheduler": partial(OneCycleLR, max_lr=0.1, total_steps=3)},
        {"loss": focal},
        {"loss": nn.CrossEntropyLoss()},
        {"class_weights": WEIGHTS},
    ],
)
def test_what_will_work_passes(try_out, options):
    try_out(**options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"optimizer": partial(SGD, momentum=-1)}, "^optimizer does not work: Invalid momentum value: -1"),
        ({"optimizer": torch.optim.SparseAdam}, "^optimizer does not work: SparseAdam does not support dense"),
        ({"optimizer": lambda groups: None}, "which is not an optimizer"),
        ({"scheduler": partial(StepLR, step_size=0)}, "^scheduler does not work"),
        ({"scheduler": partial(OneCycleLR, max_lr=0.1, total_steps=2)}, "^scheduler does not work: Tried to step 3"),
        ({"loss": partial(F.cross_entropy, label_smoothing=1.5)}, "^loss does not work: label_smoothing must be"),
        ({"loss": partial(F.cross_entropy, reduction="none")}, "^loss does not work: grad can be"),
        ({"loss": focal, "class_weights": WEIGHTS}, "data.balance=weights needs a loss with the argument weight"),
        ({"limit": 0.1}, r"limit_train_batches=0\.1 selects none of 3 batches"),
        ({"devices": 2}, "data.batch_size=5 cannot be divided among 2 devices"),
        (
            {"callbacks": [EarlyStopping("val/f1")]},
            "monitor='val/f1' is not a metric; the choices are val/loss, val/acc",
        ),
        ({"callbacks": [EarlyStopping("val/acc")]}, "better when it is high; set mode=max"),
    ],
)
def test_what_would_fail_in_training_is_told_before(try_out, options, told):
    with pytest.raises(UserError, match=told):
        try_out(**options)


def flat_net(classes: int) -> StagedNet:
    """Its batch-norm sees one value per channel and image."""
    modules = OrderedDict(
        normalize=Normalize(), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), norm=nn.BatchNorm1d(3),
        fc=nn.Linear(3, classes),
    )  # fmt: skip
    stages = {"normalize": ["normalize", "pool", "flatten"], "norm": ["norm"], "fc": ["fc"]}
    return StagedNet(modules, stages, config={"name": "flat", "num_classes": classes})


def test_a_last_batch_of_one_image_is_left_out_where_batch_norm_has_no_statistics_of_it(try_out):
    data = try_out(flat_net(2))
    assert [len(data.train_order()), len(data.train_dataloader())] == [10, 2]
    assert len(try_out(tiny_net(2)).train_order()) == 11, "of an image larger than a pixel it has"
    with pytest.raises(
        UserError, match=r"data\.batch_size=1 and 11 training images, a device gets a batch of one image"
    ):
        try_out(flat_net(2), batch_size=1)


@pytest.mark.parametrize(("size", "fewest", "left"), [(9, 1, 9), (9, 2, 8), (10, 2, 8), (11, 2, 8), (12, 2, 12)])
def test_every_device_has_as_many_images_of_the_last_batch_as_it_needs(size, fewest, left):
    orders = [SeededOrder(size, 0, 4, rank, 2, fewest=fewest) for rank in range(2)]
    assert sum(map(len, orders)) == (left if fewest > 1 else size - size % 2 if size % 4 < 2 else size)


def test_a_net_of_ones_own_answers_before_it_is_trained(image_folder):
    data = image_folders(image_folder(train=2, val=1), image_size=16)
    check_net(tiny_net(2), data)
    with pytest.raises(UserError, match=r"logits of shape \(1, 5\), but it must return \(1, 2\)"):
        check_net(tiny_net(5), data)
    with pytest.raises(UserError, match=r"model\._target_ returns Linear, but must return"):
        check_net(nn.Linear(1, 1), data)
    small = image_folders(data.root, image_size=2)
    with pytest.raises(UserError, match=r"data\.train_size=2: the network does not work: .*Kernel size"):
        check_net(tiny_net(2), small)
