"""What a run does otherwise than it was told is said before it starts."""

from functools import partial

import pytest
from nets import tiny_net
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR, CyclicLR, LinearLR, OneCycleLR, ReduceLROnPlateau, StepLR

from thaw.features.linear_solver import LogisticProbe
from thaw.strategy.phases import Strategy
from thaw.training.classifier import ImageClassifier, Recipe
from thaw.training.remarks import epochs_remark, precision_remark, rate_remarks
from thaw.training.schedules import OneCycle, WarmupCosine

STEP = partial(StepLR, step_size=7, gamma=0.1)


def remarks(scheduler, epochs=10, phases=({"train": "all"},)):
    classifier = ImageClassifier(tiny_net(2), ["ant", "bee"], Recipe(SGD, scheduler))
    return list(rate_remarks(classifier, Strategy("mine", phases, lr=0.1).schedule(classifier.net, epochs)))


@pytest.mark.parametrize(
    "scheduler",
    [
        STEP, partial(ConstantLR, factor=1), partial(ReduceLROnPlateau, mode="max"), WarmupCosine(0.1), OneCycle(),
        partial(LinearLR, start_factor=0.1, total_iters=3), partial(OneCycleLR, max_lr=0.1, total_steps=10),
    ],
)  # fmt: skip
def test_a_schedule_that_does_as_the_strategy_says_needs_no_remark(scheduler):
    assert remarks(scheduler) == []


@pytest.mark.parametrize(
    ("scheduler", "name"),
    [
        (partial(OneCycleLR, max_lr=0.5, total_steps=10), "OneCycleLR"),
        (partial(CyclicLR, base_lr=0.3, max_lr=0.5), "CyclicLR"),
    ],
)
def test_a_schedule_that_replaces_the_strategys_rates_says_so(scheduler, name):
    (told,) = remarks(scheduler)
    assert told.startswith(f"{name} sets its own learning rates: the head trains at 0.")
    assert ", not at the strategy's 0.1 (strategy.lr); " in told


def test_a_rate_that_is_gone_before_half_of_the_epochs_is_told_with_the_cure():
    assert remarks(STEP, 42) == []
    (told,) = remarks(STEP, 60)
    assert told.startswith("in 32 of 60 epochs, the learning rate is below a thousandth") and "step_size=20" in told
    phases = [{"train": ["head"], "epochs": 30}, {"train": "all"}]
    assert remarks(STEP, 60, phases) == [], "each phase has a schedule of its own"


@pytest.mark.parametrize(
    ("asked", "used", "told"),
    [("auto", "bf16-mixed", False), (32, "32-true", False), ("bf16", "bf16-mixed", False), (16, "bf16-mixed", True)],
)
def test_another_precision_than_was_asked_for_is_told(asked, used, told):
    assert (f"the run computes in {used}" in str(precision_remark(asked, used))) is told


def test_epochs_of_a_solved_head_are_told_to_whoever_set_them():
    net = tiny_net(2)
    solved = Strategy("probe", [{"train": ["head"], "solver": LogisticProbe()}], lr=0.1).schedule(net, 10)
    trained = Strategy("mine", [{"train": "all"}], lr=0.1).schedule(net, 10)
    assert "trainer.max_epochs=10 has no effect" in epochs_remark(10, solved, ["trainer.max_epochs=10"])
    assert epochs_remark(10, solved, ["seed=1"]) is None
    assert epochs_remark(1, solved, ["trainer.max_epochs=1"]) is None
    assert epochs_remark(10, trained, ["trainer.max_epochs=10"]) is None
