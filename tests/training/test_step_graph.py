"""Which steps are recorded, tried without a GPU: the recording itself is replaced. test_gpu.py tries it with one."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thaw.errors import UserError
from thaw.training import step_graph
from thaw.training.step_graph import StepGraph


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward_and_loss(self, images, labels):
        logits = self.head(self.norm(images))
        return logits, F.cross_entropy(logits, labels)


@pytest.fixture
def replays(monkeypatch):
    """Recordings warm the network up and write gradients to their own memory, as CUDA's do, and count their replays."""
    counted = []

    class Graph:
        def __init__(self, run):
            self.run = run

        def replay(self):
            counted.append(1)
            self.run()

    def record(images, labels, compute, module, limit):
        parameters = list(module.parameters())
        for _ in range(3):
            compute(images, labels)[1].backward()
        own, outputs = [torch.zeros_like(one) for one in parameters], (torch.zeros(len(images), 2), torch.zeros(()))

        def run():
            logits, loss = compute(images, labels)
            for place, value in zip(
                (*own, *outputs), (*torch.autograd.grad(loss, parameters), logits, loss), strict=True
            ):
                place.copy_(value.detach())

        pairs = list(zip(parameters, own, strict=True))
        return step_graph._Recording(Graph(run), (images, labels), outputs, pairs, 0.25)

    monkeypatch.setattr(step_graph, "_obstacle", lambda images, module: "")
    monkeypatch.setattr(step_graph, "_memory", lambda device: 0)
    monkeypatch.setattr(step_graph, "_record", record)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: torch.set_rng_state(state))
    return counted


def batch(images):
    return torch.randn(images, 3), torch.arange(images) % 2


def step(graph, module, images, labels):
    """What Lightning does: the step, then gradients are set to None, then computed, unless a replay has done both."""
    logits, loss = graph.step(images, labels, module.forward_and_loss, module)
    if not graph.replayed:
        module.zero_grad()
        loss.backward()
    return [
        logits,
        loss,
        *(one.grad.clone() for one in module.parameters()),
        *(one.clone() for one in module.buffers()),
    ]


def test_full_batches_are_replayed_and_the_recording_leaves_no_trace(replays):
    graph, plain = (StepGraph(mode) for mode in (True, False))
    recorded, other = Module(), Module()
    for size in (4, 4, 2, 4):
        given = batch(size)
        for found, wanted in zip(step(graph, recorded, *given), step(plain, other, *given), strict=True):
            assert torch.equal(found, wanted)
        assert graph.replayed == (size == 4)
    assert len(replays) == 3, "the third batch is shorter"
    assert (graph.seconds, plain.seconds) == (0.75, 0)


def test_a_loss_stays_when_the_next_step_is_replayed(replays):
    graph, module = StepGraph(), Module()
    _, loss = graph.step(*batch(4), module.forward_and_loss, module)
    before = loss.clone()
    graph.step(*batch(4), module.forward_and_loss, module)
    assert loss.equal(before)


def test_another_phase_is_recorded_anew(replays):
    graph, module = StepGraph(), Module()
    for size in (4, 2):
        graph.reset()
        step(graph, module, *batch(size))
        assert graph.replayed
    assert len(replays) == 2


def test_a_recording_that_fails_is_replaced_by_the_step_itself(replays, monkeypatch, caplog):
    def fail(*given):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(step_graph, "_record", fail)
    given, graph = batch(4), StepGraph()
    for found, wanted in zip(step(graph, Module(), *given), step(StepGraph(False), Module(), *given), strict=True):
        assert torch.equal(found, wanted)
    assert not graph.replayed
    assert "a step cannot be recorded as a CUDA graph" in caplog.text


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"world_size": 2}, "several devices"),
        ({"accumulate_grad_batches": 2}, "adds up gradients"),
        ({"precision_plugin": SimpleNamespace(scaler=1)}, "precision=16-mixed changes the scale of the loss"),
        ({}, ""),
    ],
)
def test_what_prevents_a_recording_is_named(facts, reason):
    images = SimpleNamespace(device=torch.device("cuda"))
    trainer = {"world_size": 1, "accumulate_grad_batches": 1, "precision": "16-mixed", "precision_plugin": None}
    found = step_graph._obstacle(images, SimpleNamespace(trainer=SimpleNamespace(**{**trainer, **facts})))
    assert reason in found and bool(found) == bool(reason)


def test_on_a_cpu_nothing_is_recorded_and_a_wish_for_it_is_answered(caplog):
    for mode, said in (("auto", ""), (True, "graph=true has no effect: there is no CUDA device")):
        graph = StepGraph(mode)
        step(graph, Module(), *batch(4))
        assert not graph.replayed and said in caplog.text and bool(said) == bool(caplog.text)


def test_another_mode_is_refused():
    with pytest.raises(UserError, match="graph='maybe' is unknown; the choices are auto, true and false"):
        StepGraph("maybe")
