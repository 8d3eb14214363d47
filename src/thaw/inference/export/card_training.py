"""How a model was trained, as lines of a model card."""

from collections.abc import Iterator, Mapping
from typing import Any

from thaw.runs.configuration import flat

# Options of a run -> their names on a card. Options that name files or folders of the machine are left out.
_OF_VIEWS = {
    "data.train_size": "side of the training images, in pixels",
    "data.crop_scale": "random crops, as a share of the image's area",
    "data.rotation": "random rotation, in degrees",
}
_OPTIONS = {
    "data.balance": "classes balanced by",
    "data.train_share": "share of the training images in use",
    "seed": "seed",
}
_OF_STEPS = {
    "data.batch_size": "batch size",
    "strategy.lr": "learning rate",
    "strategy.lr_decay": "decay of the learning rate per stage towards the input",
}
_PARTS = ("optimizer", "scheduler", "loss", "mix")  # objects that the configuration builds
_HYDRA = ("_target_", "_partial_", "_convert_")  # keys of Hydra


def phases(config: Mapping[str, Any]) -> list[str]:
    """Return a line per phase of the strategy: which layers were trained, and how."""
    return [", ".join(_phase(phase)) for phase in (config.get("strategy") or {}).get("phases") or ()]


def _phase(phase: Mapping[str, Any]) -> Iterator[str]:
    train = phase.get("train", "all")
    yield train if isinstance(train, str) else " + ".join(map(str, train))
    for key, value in phase.items():
        if key == "solver":
            yield f"computed by the solver {_short(value.get('_target_', ''))}"
        elif key in ("epochs", "lr", "lr_decay", "head_lr") and value is not None:
            yield f"{key} {value}"


def settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the name and value of each main option of a run."""
    values = flat(dict(config))
    phases = (config.get("strategy") or {}).get("phases") or ()
    steps = any("solver" not in phase for phase in phases)
    augmented = steps or any(phase["solver"].get("views") for phase in phases)  # a solver alone takes whole images
    options = _OPTIONS | (_OF_STEPS if steps else {}) | (_OF_VIEWS if augmented else {})
    found = [(name, _value(values[key])) for key, name in options.items() if values.get(key) is not None]
    for part in _PARTS if steps else ():
        built = config.get(part)
        if isinstance(built, Mapping):
            arguments = ", ".join(f"{key}={_value(value)}" for key, value in built.items() if key not in _HYDRA)
            found.append((part, f"{_short(built.get('_target_', ''))}({arguments})"))
    return found


def _short(target: str) -> str:
    return target.rpartition(".")[2]


def _value(value: object) -> str:
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)
