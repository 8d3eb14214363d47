"""Thaw compares transfer-learning strategies on your images and saves the best model.

The names in `thaw.__all__` are the library's interface. Each is imported only when it is first used.

    import thaw

    model = thaw.load_model("outputs/feature_extractor/2026-01-31_12-00-00")  # a run folder or a checkpoint file
    for prediction in thaw.predict(model, ["cat.jpg", pil_image, array], top=3):
        print(prediction.top)  # [(class, calibrated probability), ...], most probable first

    for run in thaw.read_runs("outputs/sweeps/2026-01-31_12-00-00"):
        print(run.summary["strategy"], run.seed, run.accuracy)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thaw.comparison.finished_runs import Run as Run
    from thaw.comparison.finished_runs import read_run as read_run
    from thaw.comparison.finished_runs import read_runs as read_runs
    from thaw.data.datamodule import ImageFolderDataModule as ImageFolderDataModule
    from thaw.data.datamodule import image_folders as image_folders
    from thaw.inference.predict import Prediction as Prediction
    from thaw.inference.predict import predict as predict
    from thaw.inference.trained_model import TrainedModel as TrainedModel
    from thaw.inference.trained_model import load_model as load_model
    from thaw.models.backbones import build_net as build_net
    from thaw.strategy import Strategy as Strategy
    from thaw.training.classifier import ImageClassifier as ImageClassifier
    from thaw.training.classifier import Recipe as Recipe
    from thaw.training.phase_data import FeatureCache as FeatureCache

_MODULES = {
    "FeatureCache": "thaw.training.phase_data",
    "ImageClassifier": "thaw.training.classifier",
    "ImageFolderDataModule": "thaw.data.datamodule",
    "Prediction": "thaw.inference.predict",
    "Recipe": "thaw.training.classifier",
    "Run": "thaw.comparison.finished_runs",
    "Strategy": "thaw.strategy",
    "TrainedModel": "thaw.inference.trained_model",
    "build_net": "thaw.models.backbones",
    "image_folders": "thaw.data.datamodule",
    "load_model": "thaw.inference.trained_model",
    "predict": "thaw.inference.predict",
    "read_run": "thaw.comparison.finished_runs",
    "read_runs": "thaw.comparison.finished_runs",
}

__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]  # pyright wants a literal list


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'thaw' has no attribute {name!r}; its names are {', '.join(_MODULES)}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
