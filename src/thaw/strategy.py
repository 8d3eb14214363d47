"""What is trained, when and at which rate: a strategy is a list of phases."""

from collections.abc import Sequence
from dataclasses import dataclass

from thaw.errors import UserError
from thaw.models.staged import StagedNet

_KEYS = ("train", "epochs", "lr")


@dataclass(frozen=True)
class Phase:
    """Epochs `first` .. `last - 1` of a run, in which just `stages` learn, at the rate `lr`."""

    stages: tuple[str, ...]
    lr: float
    first: int
    last: int


class Strategy:
    """Phases as they are written in `conf/strategy`: {train: all | [stage, ...], epochs: n, lr: rate}.

    The head (the stage named `head` on every net) always trains. A phase without `lr` learns at the strategy's `lr`;
    one phase without `epochs` takes the epochs that are left. `pretrained` says whether the run's weights are used or
    the net starts from random numbers.

    Raises:
        UserError: from the constructor, for values that no net could be trained with.

    """

    def __init__(self, name: str, phases: Sequence[dict], lr: float, pretrained: bool = True):
        self.name = name
        self.pretrained = pretrained
        self._phases = [{"lr": lr, "epochs": None, **phase} for phase in phases]
        for phase in self._phases:
            self._check(phase)

    def schedule(self, net: StagedNet, max_epochs: int) -> list[Phase]:
        """The phases of `net`, laid out over `max_epochs` epochs.

        Raises:
            UserError: for a name that is no stage of `net`, or phases that do not fill `max_epochs` exactly.

        """
        named = [phase["epochs"] for phase in self._phases if phase["epochs"]]
        unnamed = len(self._phases) - len(named)
        left = max_epochs - sum(named)
        if unnamed > 1 or left < unnamed or left > 0 == unnamed:
            raise UserError(
                f"strategy={self.name} names {sum(named)} epochs in its phases and leaves {unnamed} phases without a "
                f"number, which does not fit trainer.max_epochs={max_epochs}."
            )
        phases, first = [], 0
        for phase in self._phases:
            last = first + (phase["epochs"] or left)
            phases.append(Phase(self._stages(phase["train"], net), phase["lr"], first, last))
            first = last
        return phases

    def _stages(self, train: Sequence[str] | str, net: StagedNet) -> tuple[str, ...]:
        known = net.learned_stages
        if train == "all":
            return tuple(known)
        wanted = {net.head_name} | {net.head_name if name == "head" else name for name in train}
        for name in sorted(wanted - set(known)):
            raise UserError(
                f"strategy={self.name} trains {name!r}, which is no stage of {net.config['name']}; "
                f"the choices are all, head, {', '.join(known)}."
            )
        return tuple(name for name in known if name in wanted)

    def _check(self, phase: dict) -> None:
        for key in set(phase) - set(_KEYS):
            self._refuse(f"has the unknown key {key!r}; its keys are {', '.join(_KEYS)}")
        train, epochs, lr = (phase.get(key) for key in _KEYS)
        if train != "all" and not (isinstance(train, Sequence) and train and not isinstance(train, str)):
            self._refuse(f"has train={train!r}, which must be all or a list of stages")
        if epochs is not None and not (type(epochs) is int and epochs > 0):
            self._refuse(f"has epochs={epochs!r}, which must be a whole number of at least 1")
        if type(lr) not in (int, float) or not 0 < lr < float("inf"):
            self._refuse(f"has lr={lr!r}, which must be a number above 0")

    def _refuse(self, fault: str) -> None:
        raise UserError(f"strategy={self.name}: a phase {fault}.")
