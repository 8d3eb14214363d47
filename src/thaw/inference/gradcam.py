"""Where a net looks: Grad-CAM (Selvaraju et al. 2017), for convolutions and for tokens."""

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

_TRIED = 4  # a transformer's head sees one token of the last two or three
_COLOURS = "inferno"
_STRENGTH = 0.6  # of the colours over the image, where the map is highest


def gradcam(model: TrainedModel, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """How much each place of images, uint8 (N, 3, S, S), speaks for a class of each, int64 (N,): float (N, S, S).

    Each map lies within 0..1 and reaches 1, unless nothing speaks for the class. It is computed in float32.
    """
    maps, logits = _maps(model.net, images.to(model.device))
    score = logits.gather(1, classes.to(logits.device)[:, None]).sum()
    for activation in maps[: -_TRIED - 1 : -1]:  # the last that the score depends on in more than one place
        (gradient,) = torch.autograd.grad(score, activation, retain_graph=True, allow_unused=True)
        spatial = None if gradient is None else _as_map(gradient)
        if spatial is not None and spatial.abs().sum() > 0:
            weights = spatial.mean((2, 3), keepdim=True)
            return _scaled((weights * _as_map(activation.detach())).sum(1), images.shape[-1]).cpu()
    return torch.zeros(len(images), *images.shape[-2:])


def overlaid(image: torch.Tensor, heat: torch.Tensor) -> Image.Image:
    """A map of `gradcam`, (S, S), in colours over its image, uint8 (3, S, S)."""
    pixels, strength = image.permute(1, 2, 0).numpy(), _STRENGTH * heat.numpy()[..., None]
    colours = matplotlib.colormaps[_COLOURS](heat.numpy())[..., :3] * 255
    return Image.fromarray((pixels * (1 - strength) + colours * strength).round().astype(np.uint8))


def _maps(net: StagedNet, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What the net's modules give, in the order of computing, as far as it has places; the logits."""
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
    """Activations as (N, C, h, w) with more than one place; None if they have no places."""
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2) if x.shape[1] == x.shape[2] != x.shape[3] else x  # Swin's have their channels last
        return x if x.shape[2] * x.shape[3] > 1 else None
    if x.ndim != 3:
        return None
    side = math.isqrt(x.shape[1])  # tokens, with or without others before those of the patches
    if side < 2:
        return None
    return x[:, x.shape[1] - side**2 :].transpose(1, 2).unflatten(2, (side, side))


def _scaled(maps: torch.Tensor, size: int) -> torch.Tensor:
    """(N, h, w) -> (N, size, size), what is negative cut off, each divided by its highest value."""
    maps = F.interpolate(maps.relu()[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
