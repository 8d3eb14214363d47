"""Strategies and their phases: which parameters train, in which epochs and at which learning rates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, runtime_checkable

from thaw.data.option_values import whole_number
from thaw.errors import UserError
from thaw.models.head import linear_head
from thaw.models.staged import StagedNet
from thaw.strategy.selection import SelectionError, selected

_KEYS = ("train", "epochs", "lr", "lr_decay", "head_lr", "optimizer", "scheduler", "solver")


@runtime_checkable
class HeadSolver(Protocol):
    """Solver that computes the optimal head from every image and `views` augmented views of each image."""

    views: int

    def solve(self, rows: Any, seed: int, class_weights: Any, bias: bool) -> Any: ...


@dataclass(frozen=True)
class Group:
    """The trainable parameters of one stage, by name, and their learning rate."""

    stage: str
    lr: float
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Phase:
    """Epochs `first` to `last - 1` of a run of `total` epochs. Only the parameters in `groups` train.

    The last group is the head's. Epochs count from 0; `number` counts phases from 1. `optimizer` and `scheduler`, if
    given, replace those of the run's `thaw.training.classifier.Recipe`. A `solver` sets the head to its optimum; the
    phase then has one epoch without training, which only measures the head.
    """

    number: int
    groups: tuple[Group, ...]
    first: int
    last: int
    total: int
    optimizer: Callable | None = None
    scheduler: Callable | None = None
    solver: HeadSolver | None = None

    @property
    def parameters(self) -> set[str]:
        """Return the names of all trainable parameters."""
        return {name for group in self.groups for name in group.parameters}


class Strategy:
    """The phases of a run, as in the files of `conf/strategy`.

    Each phase is a dict. Its key `train` selects the trainable parameters, as `thaw.strategy.selection.selected`
    describes. A phase can have `epochs`, `lr`, `lr_decay`, `head_lr`, `optimizer` and `scheduler`, too; the strategy's
    `lr`, `lr_decay` and `head_lr` are the defaults. The head always trains, at `head_lr` if given. Any other selected
    stage trains at `lr * lr_decay ** n`, where n is the number of stages after it.
    One phase can omit `epochs` and then takes the run's remaining epochs.

    A phase that trains only the head can have a `solver` and then takes one epoch. If all phases have a solver, the
    number of phases replaces `trainer.max_epochs`. If `pretrained` is false, the network starts from random weights and
    the option `weights` has no effect. With `keep_statistics`, batch norms always apply the pretrained statistics.

    Raises:
        UserError: from the constructor, if a value is invalid whatever the network.

    """

    def __init__(
        self,
        name: str,
        phases: Sequence[dict],
        lr: float,
        lr_decay: float = 1.0,
        head_lr: float | None = None,
        pretrained: bool = True,
        keep_statistics: bool = False,
    ):
        self.name = name
        self.pretrained = pretrained
        self.keep_statistics = keep_statistics
        if type(keep_statistics) is not bool:
            self._refuse(f"keep_statistics={keep_statistics!r} is neither true nor false")
        given = dict.fromkeys(_KEYS) | {"lr": lr, "lr_decay": lr_decay, "head_lr": head_lr}
        self._phases = [{**given, **phase} for phase in phases]
        for phase in self._phases:
            self._check(phase)
            if phase["solver"]:
                phase["epochs"] = 1

    def schedule(self, net: StagedNet, max_epochs: int, lr_factor: float = 1.0) -> list[Phase]:
        """Return the phases for `net`, which together last `max_epochs` epochs.

        Raises:
            UserError: if a phase names a stage or parameter that `net` lacks, if the phases do not fill `max_epochs`
                exactly, or if a phase has a solver that does not work with the head.

        """
        if self._phases and all(phase["solver"] for phase in self._phases):
            max_epochs = len(self._phases)
        whole_number("trainer.max_epochs", max_epochs)
        left = self._epochs_left(max_epochs)
        phases, first = [], 0
        for number, phase in enumerate(self._phases, start=1):
            last = first + (phase["epochs"] or left)
            own = phase["optimizer"], phase["scheduler"]
            groups, solver = self._groups(phase, net, lr_factor), phase["solver"]
            if solver:
                self._check_solved(groups, net)
            phases.append(Phase(number, groups, first, last, max_epochs, *own, solver))
            first = last
        return phases

    def _epochs_left(self, max_epochs: int) -> int:
        named = sum(phase["epochs"] or 0 for phase in self._phases)
        open_ended = sum(not phase["epochs"] for phase in self._phases)
        left = max_epochs - named
        if not self._phases:
            self._refuse("it has no phases")
        if open_ended > 1:
            self._refuse(f"{open_ended} phases do not set epochs, but only one phase can take the remaining epochs")
        if left < open_ended:
            self._refuse(
                f"its phases need {named + open_ended} epochs, more than trainer.max_epochs={max_epochs}; set it higher"
            )
        if left and not open_ended:
            self._refuse(
                f"its phases take only {named} of the epochs in trainer.max_epochs={max_epochs}; set "
                f"trainer.max_epochs={named}, or remove the key epochs from one phase, which then takes the rest"
            )
        return left

    def _groups(self, phase: dict, net: StagedNet, lr_factor: float) -> tuple[Group, ...]:
        try:
            names = selected(phase["train"], net)
        except SelectionError as error:
            self._refuse(f"a phase trains {error}")
        groups, lr = [], 0.0 if phase["solver"] else phase["lr"] * lr_factor
        for stage in reversed(net.learned_stages):
            learning = tuple(name for name in net.stage_parameters(stage) if name in names)
            if learning:
                own = phase["head_lr"] if stage == net.head_name and not phase["solver"] else None
                groups.append(Group(stage, own * lr_factor if own else lr, learning))
            lr *= phase["lr_decay"]
        return tuple(reversed(groups))

    def _check(self, phase: dict) -> None:
        for key in set(phase) - set(_KEYS):
            self._refuse(f"a phase has the unknown key {key!r}; the choices are {', '.join(_KEYS)}")
        train, epochs, lr, decay, head_lr, optimizer, scheduler, solver = (phase[key] for key in _KEYS)
        entries = [train] if isinstance(train, str) else train
        if not isinstance(entries, Sequence) or not entries or not all(type(e) is str and e for e in entries):
            self._refuse(f"a phase has train={train!r}, which must be all or a list of stages")
        if epochs is not None and not (type(epochs) is int and epochs > 0):
            self._refuse(f"a phase has epochs={epochs!r}, which must be a whole number of at least 1")
        for key, rate in (("lr", lr), ("head_lr", lr if head_lr is None else head_lr)):
            if type(rate) not in (int, float) or not 0 < rate < float("inf"):
                self._refuse(f"a phase has {key}={rate!r}, which must be a number above 0")
        if type(decay) not in (int, float) or not 0 < decay <= 1:
            self._refuse(f"a phase has lr_decay={decay!r}, which must be above 0 and at most 1")
        for key, value in (("optimizer", optimizer), ("scheduler", scheduler)):
            if value is not None and not callable(value):
                self._refuse(f"a phase has {key}={value!r}, but needs a class, given as _target_: …, _partial_: true")
        if solver is not None and not isinstance(solver, HeadSolver):
            self._refuse(f"a phase has solver={solver!r}, which must be a thaw.features.linear_solver.LogisticProbe")
        if solver and epochs not in (None, 1):
            self._refuse(f"a phase has a solver and epochs={epochs}, but a solver takes one epoch")

    def _check_solved(self, groups: Sequence[Group], net: StagedNet) -> None:
        name = net.config["name"]
        if [group.stage for group in groups] != [net.head_name]:
            self._refuse("a phase with a solver must train only the head; set train: [head]")
        if not linear_head(net):
            self._refuse(
                f"a solver needs a head that is one linear layer, unlike the head of {name}; choose another "
                "model, or a strategy without a solver, such as feature_extractor"
            )

    def _refuse(self, fault: str) -> NoReturn:
        raise UserError(f"strategy={self.name}: {fault}.")
