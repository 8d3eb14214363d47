"""What timm needs to read a folder of ours with `create_model('local-dir:FOLDER', pretrained=True)`."""

from pathlib import Path

import torch

from thaw.inference.export.shipped import TOLERANCE, Check
from thaw.inference.trained_model import TrainedModel
from thaw.models.backbones import family_of
from thaw.models.staged import PerChannel

READ_BY_TIMM = "timm.create_model('local-dir:FOLDER', pretrained=True)"


def timm_config(model: TrainedModel) -> dict[str, object]:
    """`config.json`, as timm's own models on the Hugging Face Hub have it."""
    config, crop = model.net.config, model.preprocessing.crop
    mean, std = _normalisation(model)
    own_size = {"model_args": {"img_size": config["image_size"]}} if "image_size" in config else {}
    return {
        "architecture": family_of(config["name"], own=True).timm_name(config["name"]).partition(".")[0],
        "num_classes": len(model.classes),
        **own_size,
        "pretrained_cfg": {
            "input_size": [3, crop, crop],
            "num_classes": len(model.classes),
            "mean": mean,
            "std": std,
            "interpolation": model.preprocessing.interpolation,
            "crop_mode": "center",
            "crop_pct": crop / (model.preprocessing.resize + 0.5),  # timm rounds down what it gets from it
            "label_names": list(model.classes),
        },
    }


def probabilities_by_timm(model: TrainedModel, folder: Path, check: Check) -> torch.Tensor | None:
    """What timm's net says of the images of a check; None without timm, or where it has no equal net."""
    try:
        import timm

        net = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        mean, std = (torch.tensor(net.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
        with torch.inference_mode():
            logits = torch.cat([net((part / 255 - mean) / std) for part in check.images.split(32)])
    except Exception:  # what it does not have, or has in another shape, each of its nets tells in its own way
        return None
    found = model.probabilities(logits.float())
    return found if (found - check.expected).abs().max() <= TOLERANCE else None


def _normalisation(model: TrainedModel) -> list[list[float]]:
    """(mean, std) of x / 255 in the modules that a net begins with."""
    black, white = torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), 255.0)
    for module in model.net.children():
        if isinstance(module, PerChannel):
            black, white = module(black), module(white)
    std = 1 / (white - black).flatten()
    return [[round(value, 6) for value in values.tolist()] for values in (-black.flatten() * std, std)]
