"""Which steps are recorded, tried without a GPU: the recording itself is replaced."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from thaw.errors import UserError
from thaw.training import step_graph
from thaw.training.step_graph import StepGraph


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, images, start):
        return self.norm(images)


@pytest.fixture
def recorded(monkeypatch):
    """Recordings warm the network up, as CUDA's do, and count their replays."""
    replays = []

    def record(entry, examples, allow_unused_input):
        for _ in range(3):
            entry(*examples)

        def replay(images):
            replays.append(len(images))
            return entry(images)

        return replay

    monkeypatch.setattr(step_graph, "_obstacle", lambda images, module: "")
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: torch.set_rng_state(state))
    return replays


def test_full_batches_are_replayed_and_the_warm_up_leaves_no_trace(recorded):
    torch.manual_seed(0)
    batches = [torch.randn(4, 3), torch.randn(4, 3), torch.randn(2, 3)]
    graph, net, plain = StepGraph(True), Net(), Net()
    for batch in batches:
        assert graph.logits(net, batch, None, SimpleNamespace()).equal(plain(batch, None))
    assert recorded == [4, 4], "the last batch is shorter"
    for found, wanted in zip(net.buffers(), plain.buffers(), strict=True):
        assert found.equal(wanted)


def test_another_phase_is_recorded_anew(recorded):
    graph, net = StepGraph(), Net()
    graph.logits(net, torch.randn(4, 3), None, SimpleNamespace())
    graph.reset()
    graph.logits(net, torch.randn(2, 3), None, SimpleNamespace())
    assert recorded == [4, 2]


def test_a_recording_that_fails_is_replaced_by_the_step_itself(recorded, monkeypatch, caplog):
    def fail(*given, **options):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    net, plain, batch = Net(), Net(), torch.randn(4, 3)
    assert StepGraph().logits(net, batch, None, SimpleNamespace()).equal(plain(batch, None))
    assert "a step cannot be recorded as a CUDA graph" in caplog.text


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"world_size": 2}, "several devices"),
        ({"accumulate_grad_batches": 2}, "adds gradients up"),
        ({"train_dataloader": SimpleNamespace(num_workers=2)}, "loader processes"),
        ({}, ""),
    ],
)
def test_what_prevents_a_recording_is_named(facts, reason):
    images = SimpleNamespace(device=torch.device("cuda"))
    trainer = {"world_size": 1, "accumulate_grad_batches": 1, "train_dataloader": SimpleNamespace(num_workers=0)}
    found = step_graph._obstacle(images, SimpleNamespace(trainer=SimpleNamespace(**{**trainer, **facts})))
    assert reason in found and bool(found) == bool(reason)


def test_on_a_cpu_nothing_is_recorded_and_a_wish_for_it_is_answered(caplog):
    net = Net()
    StepGraph("auto").logits(net, torch.randn(4, 3), None, SimpleNamespace())
    assert not caplog.text
    StepGraph(True).logits(net, torch.randn(4, 3), None, SimpleNamespace())
    assert "graph=true has no effect: there is no CUDA device" in caplog.text


def test_another_mode_is_refused():
    with pytest.raises(UserError, match="graph='maybe' is unknown; the choices are auto, true and false"):
        StepGraph("maybe")
