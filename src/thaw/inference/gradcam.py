"""Grad-CAM heatmaps (Selvaraju et al. 2017) for convolutional networks and transformers."""

import math
from operator import attrgetter

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from thaw.inference.trained_model import TrainedModel
from thaw.models.staged import StagedNet

_TRIED = 4  # try this many last layers: a transformer's head may ignore the patch tokens of the last two or three
_COLOURS = "inferno"
_STRENGTH = 0.6  # opacity of the heatmap's colours at a value of 1


def gradcam(model: TrainedModel, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return a heatmap for each image, float (N, S, S): how much each pixel supports the image's class in `classes`.

    `images` are uint8 (N, 3, S, S), `classes` int64 (N,). The values are in 0..1. Their maximum is 1, or 0 if no pixel
    supports the class. Heatmaps are computed in float32.
    """
    maps, logits = _maps(model.net, images.to(model.device))
    score = logits.gather(1, classes.to(logits.device)[:, None]).sum()
    for activation in maps[: -_TRIED - 1 : -1]:  # use the last activation that influences the score
        (gradient,) = torch.autograd.grad(score, activation, retain_graph=True, allow_unused=True)
        slopes, values = None if gradient is None else _as_map(gradient), _as_map(activation.detach())
        if slopes is not None and values is not None and slopes.abs().sum() > 0:
            return _scaled((slopes.mean((2, 3), keepdim=True) * values).sum(1), images.shape[-1]).cpu()
    return torch.zeros(len(images), *images.shape[-2:])


def overlaid(image: torch.Tensor, heat: torch.Tensor) -> Image.Image:
    """Return the image, uint8 (3, S, S), under the colours of its heatmap from `gradcam`, float (S, S)."""
    pixels, strength = image.permute(1, 2, 0).numpy(), _STRENGTH * heat.numpy()[..., None]
    colours = matplotlib.colormaps[_COLOURS](heat.numpy())[..., :3] * 255
    return Image.fromarray((pixels * (1 - strength) + colours * strength).round().astype(np.uint8))


def _maps(net: StagedNet, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the spatial outputs of the network's modules, in the order of the forward pass, and the logits."""
    found: list[torch.Tensor] = []

    def keep(module: nn.Module, given, output) -> None:
        if isinstance(output, torch.Tensor) and output.requires_grad and _as_map(output) is not None:
            found.append(output)

    parts = [attrgetter(path)(net) for paths in net.stages.values() for path in paths]
    hooks = [part.register_forward_hook(keep) for part in parts if isinstance(part, nn.Module)]
    try:
        with torch.enable_grad():
            logits = net(images).float()
    finally:
        for hook in hooks:
            hook.remove()
    return found, logits


def _as_map(x: torch.Tensor) -> torch.Tensor | None:
    """Return activations as (N, C, h, w) with h * w > 1; None if they are not spatial."""
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2) if x.shape[1] == x.shape[2] != x.shape[3] else x  # Swin Transformer is channels-last
        return x if x.shape[2] * x.shape[3] > 1 else None
    if x.ndim != 3:
        return None
    side = math.isqrt(x.shape[1])  # patch tokens come last, after class and register tokens
    if side < 2:
        return None
    return x[:, x.shape[1] - side**2 :].transpose(1, 2).unflatten(2, (side, side))


def _scaled(maps: torch.Tensor, size: int) -> torch.Tensor:
    maps = F.interpolate(maps.relu()[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
