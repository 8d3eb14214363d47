"""Describe an exported folder for timm's `create_model('local-dir:FOLDER', pretrained=True)`."""

from pathlib import Path
from typing import Any

import torch

from thaw.inference.export.exported_model import TOLERANCE, Check
from thaw.inference.trained_model import TrainedModel
from thaw.models.backbones import family_of
from thaw.models.staged import PerChannel

READ_BY_TIMM = "timm.create_model('local-dir:FOLDER', pretrained=True)"


def timm_config(model: TrainedModel) -> dict[str, object]:
    """Return the content of `config.json`, in the format of timm's models on the Hugging Face Hub."""
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
            "crop_pct": crop / (model.preprocessing.resize + 0.5),  # timm resizes to floor(crop / crop_pct)
            "label_names": list(model.classes),
        },
    }


def probabilities_by_timm(model: TrainedModel, folder: Path, check: Check) -> torch.Tensor | None:
    """Load the exported folder with timm and return its probabilities, or None if timm fails or its results differ."""
    try:
        import timm

        net: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        mean, std = (torch.tensor(net.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
        with torch.inference_mode():
            logits = torch.cat([net((part / 255 - mean) / std) for part in check.images.split(32)])
    except Exception:  # timm raises errors of many types, such as for unknown networks
        return None
    found = model.probabilities(logits.float())
    return found if (found - check.expected).abs().max() <= TOLERANCE else None


def _normalisation(model: TrainedModel) -> list[list[float]]:
    """Return [mean, std] of the network's input normalisation, for pixels in 0..1."""
    black, white = torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), 255.0)
    for module in model.net.children():
        if isinstance(module, PerChannel):
            black, white = module(black), module(white)
    std = 1 / (white - black).flatten()
    return [[round(value, 6) for value in values.tolist()] for values in (-black.flatten() * std, std)]
