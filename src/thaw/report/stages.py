"""The table before training: which stage learns."""

from collections.abc import Sequence

from thaw.models.staged import StagedNet
from thaw.strategy import Phase


def stage_table(net: StagedNet, phases: Sequence[Phase]) -> str:
    """Stage | parameters | trains, from the input to the head; with several phases a column for each."""
    headings = ["trains"] if len(phases) == 1 else [f"epochs {phase.first + 1}-{phase.last}" for phase in phases]
    rows = [["stage", "parameters", *headings]]
    for name in net.learned_stages:
        marks = [f"lr {phase.lr:g}" if name in phase.stages else "frozen" for phase in phases]
        rows.append([name, f"{_size(net, [name]):,}", *marks])
    totals = [f"{_size(net, phase.stages):,}" for phase in phases]
    rows.append(["all", f"{_size(net, net.learned_stages):,}", *totals])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _size(net: StagedNet, stages: Sequence[str]) -> int:
    return sum(parameter.numel() for name in stages for parameter in net.stage(name).parameters())


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
