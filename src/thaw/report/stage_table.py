"""Write the table of stages that a run logs before training."""

from collections.abc import Iterable, Sequence

from thaw.models.staged import StagedNet
from thaw.pages.text import aligned
from thaw.strategy.phases import Phase


def stage_table(net: StagedNet, phases: Sequence[Phase]) -> str:
    """Return a text table with a row per stage, from the input to the head, and a column of learning rates per phase.

    If only some parameters of a stage are trainable, their share is shown before the learning rate.
    """
    headings = ["trains"] if len(phases) == 1 else [_epochs(phase) for phase in phases]
    rows = [["stage", "parameters", *headings]]
    for name in net.learned_stages:
        rows.append([name, f"{_size(net, net.stage_parameters(name)):,}", *(_mark(net, name, p) for p in phases)])
    totals = [f"{_size(net, phase.parameters):,}" for phase in phases]
    rows.append(["all", f"{_size(net, [name for name, _ in net.named_parameters()]):,}", *totals])
    return "\n".join(aligned(rows, numbers=True, ruled=(1, -1)))


def _epochs(phase: Phase) -> str:
    return f"epochs {phase.first + 1}-{phase.last}" if phase.last - phase.first > 1 else f"epoch {phase.last}"


def _mark(net: StagedNet, stage: str, phase: Phase) -> str:
    group = next((group for group in phase.groups if group.stage == stage), None)
    if group is None:
        return "frozen"
    if phase.solver:
        return "solved"
    share = _size(net, group.parameters) / _size(net, net.stage_parameters(stage))
    return f"lr {group.lr:.3g}" if share == 1 else f"{share:.2%} lr {group.lr:.3g}"


def _size(net: StagedNet, names: Iterable[str]) -> int:
    return sum(net.get_parameter(name).numel() for name in names)
