"""Strategies: which stages are trained, in which phases and at which rates."""

from thaw.strategy.phases import Group, Phase, Strategy

__all__ = ["Group", "Phase", "Strategy"]
