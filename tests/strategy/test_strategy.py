import pytest
from nets import tiny_net
from torch.optim import AdamW

from thaw.errors import UserError
from thaw.strategy.phases import Group, Strategy

CONV1 = ("conv1.weight", "bn1.weight", "bn1.bias")
LAYER1 = ("layer1.0.weight", "layer1.0.bias", "layer1.1.weight", "layer1.1.bias")
FC = ("fc.weight", "fc.bias")


def schedule(phases, max_epochs=4, lr=0.1, lr_factor=1.0, **options):
    return Strategy("mine", phases, lr, **options).schedule(tiny_net(2), max_epochs, lr_factor)


def test_all_means_every_stage_and_the_head_always_learns():
    (phase,) = schedule([{"train": "all"}])
    assert phase.groups == (Group("conv1", 0.1, CONV1), Group("layer1", 0.1, LAYER1), Group("fc", 0.1, FC))
    assert (phase.first, phase.last) == (0, 4)
    assert schedule([{"train": ["head"]}])[0].parameters == {*FC}
    assert schedule([{"train": ["layer1"]}])[0].parameters == {*LAYER1, *FC}


def test_phases_follow_each_other_and_one_takes_the_epochs_that_are_left():
    phases = schedule([{"train": ["head"], "epochs": 3, "lr": 1}, {"train": "all"}], max_epochs=10)
    assert [(phase.first, phase.last, phase.groups[-1].lr) for phase in phases] == [(0, 3, 1), (3, 10, 0.1)]
    phases = schedule([{"train": ["head"]}, {"train": "all", "epochs": 3}], max_epochs=10)
    assert [(phase.first, phase.last) for phase in phases] == [(0, 7), (7, 10)]


def test_rates_decay_from_stage_to_stage_towards_the_input():
    def rates(phase):
        return {group.stage: group.lr for group in phase.groups}

    (phase,) = schedule([{"train": "all", "lr_decay": 0.5}], lr=0.8)
    assert rates(phase) == {"conv1": 0.2, "layer1": 0.4, "fc": 0.8}
    (phase,) = schedule([{"train": ["conv1"]}], lr=0.8, lr_decay=0.5)
    assert rates(phase) == {"conv1": 0.2, "fc": 0.8}, "a frozen stage between two counts too"


def test_one_factor_multiplies_the_rates_of_all_phases():
    phases = [{"train": "head", "epochs": 1, "lr": 0.4}, {"train": "all", "lr_decay": 0.5, "head_lr": 0.2}]
    plain, scaled = schedule(phases, lr=0.1), schedule(phases, lr=0.1, lr_factor=3)
    for one, other in zip(plain, scaled, strict=True):
        assert [group.lr * 3 for group in one.groups] == pytest.approx([group.lr for group in other.groups])


def test_a_phase_may_have_an_optimizer_of_its_own():
    first, second = schedule([{"train": "head", "epochs": 1, "optimizer": AdamW}, {"train": "all"}])
    assert (first.optimizer, second.optimizer, second.scheduler) == (AdamW, None, None)


@pytest.mark.parametrize(
    ("phases", "told"),
    [
        ([{"train": ["layer9"]}], "trains 'layer9', which tiny does not have; the choices are all, head, first"),
        ([{"train": "layer9"}], "the stages conv1, layer1, fc, a module such as layer1.0"),
        ([{"train": ["layer1", "layer1.0"]}], "trains 'layer1.0' and 'layer1', which overlap"),
        ([{"train": ["all", "*bias"]}], "'\\*bias' and 'all', which overlap"),
        ([{"train": ["layer1", "layer1"]}], "'layer1' twice"),
        ([{"train": ["90-10%"]}], "'90-10%', which tiny does not have"),
        ([{"train": []}], "must be all or a list"),
        ([{"train": [3]}], "must be all or a list"),
        ([{}], "train=None"),
        ([{"train": "all", "rate": 1}], "unknown key 'rate'"),
        ([{"train": "all", "lr": "abc"}], "lr='abc', which must be a number above 0"),
        ([{"train": "all", "lr": 0}], "lr=0"),
        ([{"train": "all", "lr_decay": 0}], "lr_decay=0, which must be above 0 and at most 1"),
        ([{"train": "all", "lr_decay": 1.1}], "lr_decay=1.1"),
        ([{"train": "all", "lr_decay": True}], "lr_decay=True"),
        ([{"train": "all", "optimizer": "adam"}], "optimizer='adam', but needs a class, given as"),
        ([{"train": "all", "scheduler": {"step_size": 3}}], "scheduler={'step_size': 3}"),
        ([{"train": "all", "epochs": 0}], "epochs=0"),
        ([{"train": "all", "epochs": 5}], "need 5 epochs, more than trainer.max_epochs=4; set it higher"),
        (
            [{"train": "head", "epochs": 4}, {"train": "all"}],
            "need 5 epochs, more than trainer.max_epochs=4",
        ),
        (
            [{"train": "all", "epochs": 3}],
            "take only 3 of the epochs in trainer.max_epochs=4; set trainer.max_epochs=3",
        ),
        ([{"train": "all"}, {"train": "all"}], "2 phases do not set epochs, but only one phase"),
        ([], "it has no phases"),
    ],
)
def test_phases_that_make_no_sense_are_refused_in_a_sentence(phases, told):
    with pytest.raises(UserError, match=told) as error:
        schedule(phases)
    assert str(error.value).startswith("strategy=mine: ")
    assert str(error.value).endswith(".")
