"""Options that need a package of an optional extra: refuse them before any work if the package is missing."""

from importlib.util import find_spec

from thaw.errors import UserError

# The class that a configuration names, the module that it imports, the package's name, and the extra that installs it.
_NEEDED = {
    "lightning.pytorch.loggers.MLFlowLogger": ("mlflow", "MLflow", "mlflow"),
    "lightning.pytorch.loggers.WandbLogger": ("wandb", "Weights & Biases", "wandb"),
}


def refuse_without_package(path: str, target: str) -> None:
    """Raise UserError if `target`, which the configuration names at `path`, needs a package that is not installed."""
    module, name, extra = _NEEDED.get(target, ("", "", ""))
    spec = find_spec(module) if module else None
    if module and (spec is None or spec.origin is None):  # W&B's folder wandb/ of results is no package
        raise UserError(f"{path} needs {name}: pip install -e '.[{extra}]'.")
