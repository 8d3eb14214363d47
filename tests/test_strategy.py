import pytest
from nets import tiny_net

from thaw.errors import UserError
from thaw.strategy import Phase, Strategy


def schedule(phases, max_epochs=4, lr=0.1):
    return Strategy("mine", phases, lr).schedule(tiny_net(2), max_epochs)


def test_all_means_every_stage_and_the_head_always_learns():
    assert schedule([{"train": "all"}]) == [Phase(("conv1", "bn1", "layer1", "fc"), 0.1, 0, 4)]
    assert schedule([{"train": ["head"]}])[0].stages == ("fc",)
    assert schedule([{"train": ["layer1"]}])[0].stages == ("layer1", "fc")


def test_phases_follow_each_other_and_one_takes_the_epochs_that_are_left():
    phases = schedule([{"train": ["head"], "epochs": 3, "lr": 1}, {"train": "all"}], max_epochs=10)
    assert [(phase.first, phase.last, phase.lr) for phase in phases] == [(0, 3, 1), (3, 10, 0.1)]


@pytest.mark.parametrize(
    ("phases", "told"),
    [
        ([{"train": ["layer9"]}], "trains 'layer9', which is no stage of tiny; the choices are all, head, conv1, bn1"),
        ([{"train": "layer1"}], "train='layer1', which must be all or a list"),
        ([{"train": []}], "must be all or a list"),
        ([{}], "train=None"),
        ([{"train": "all", "rate": 1}], "unknown key 'rate'"),
        ([{"train": "all", "lr": "abc"}], "lr='abc', which must be a number above 0"),
        ([{"train": "all", "lr": 0}], "lr=0"),
        ([{"train": "all", "epochs": 0}], "epochs=0"),
        ([{"train": "all", "epochs": 5}], "names 5 epochs .* does not fit trainer.max_epochs=4"),
        ([{"train": "all", "epochs": 3}], "names 3 epochs"),
        ([{"train": "all"}, {"train": "all"}], "leaves 2 phases without"),
        ([], "does not fit"),
    ],
)
def test_phases_that_make_no_sense_are_refused_in_a_sentence(phases, told):
    with pytest.raises(UserError, match=told) as error:
        schedule(phases)
    assert "strategy=mine" in str(error.value)
