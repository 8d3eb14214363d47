"""A network as an ordered list of named stages, with the head last."""

import itertools
from collections.abc import Mapping, Sequence
from operator import attrgetter

import torch
from torch import nn

from thaw.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Part = nn.Module | nn.Parameter

# PyTorch's normalisation layers, from which custom normalisation layers derive.
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class PerChannel(nn.Module):
    """Images (N, 3, H, W) -> images * scale + shift, with one scale and one shift per channel.

    The state dict leaves out both constants, so that its keys match the published weights.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, scale: Sequence[float], shift: Sequence[float]):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.scale + self.shift


class Normalize(PerChannel):
    """uint8 images x in 0..255 -> float (x / 255 - mean) / std."""

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD):
        super().__init__([1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)])


class StagedNet(nn.Module):
    """A chain of modules, grouped into named stages: uint8 images (N, 3, H, W) -> logits (N, classes).

    `parts` become child modules; their names determine the state-dict keys. `stages` lists the paths of the modules
    that each stage applies, in order. A parameter's path adds the parameter to the arguments of the next module.
    `config` holds the arguments with which `thaw.models.backbones.build_net` builds the same architecture. It has an
    `image_size` only if the network accepts no other size.
    """

    prefix = ""  # prefix of state-dict keys; published weights lack this prefix

    def __init__(
        self, parts: Mapping[str, nn.Module | nn.Parameter], stages: Mapping[str, Sequence[str]], config: dict
    ):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.stages = {name: tuple(paths) for name, paths in stages.items()}
        self.config = config
        self.head_name = next(reversed(self.stages))
        names = [key for key, _ in self.named_parameters()]
        self._learned = {name: [key for key in names if within(key, paths)] for name, paths in self.stages.items()}

    def forward(self, x: torch.Tensor, start: str | None = None) -> torch.Tensor:
        """Return the logits of images or, with `start`, of features that enter the stage `start`."""
        names = list(self.stages)
        for name in names[names.index(start) if start else 0 :]:
            x = self.run_stage(name, x)
        return x

    def run_stage(self, name: str, x: torch.Tensor) -> torch.Tensor:
        extra: list[torch.Tensor] = []  # further arguments of the next module
        for path in self.stages[name]:
            part = attrgetter(path)(self)
            if isinstance(part, nn.Parameter):
                extra.append(part)
            else:
                x, extra = part(x, *extra), []
        return x

    def can_be_cut(self, stage: str) -> bool:
        """Return whether `forward` can start at `stage`."""
        return True

    def until(self, stage: str) -> "StagedNet":
        """Return a network of the stages before `stage`: images -> input of `stage`. Both networks share modules."""
        paths = self.paths_before(stage)
        parts = {name: getattr(self, name) for name in dict.fromkeys(path.partition(".")[0] for path in paths)}
        return StagedNet(
            parts, dict(itertools.takewhile(lambda item: item[0] != stage, self.stages.items())), self.config
        )

    def paths_before(self, stage: str) -> list[str]:
        """Return the paths of all modules and parameters before `stage`, in order."""
        names = list(self.stages)
        return [path for name in names[: names.index(stage)] for path in self.stages[name]]

    def stage_modules(self, name: str) -> list[nn.Module]:
        parts = [attrgetter(path)(self) for path in self.stages[name]]
        return [part for part in parts if isinstance(part, nn.Module)]

    def stage_parameters(self, name: str) -> list[str]:
        """Return the names of the parameters of a stage, as in `named_parameters`."""
        return self._learned[name]

    @property
    def learned_stages(self) -> list[str]:
        """Return the names of the stages that hold parameters, from the input to the head."""
        return [name for name, parameters in self._learned.items() if parameters]

    def is_head(self, key: str) -> bool:
        return within(key, self.stages[self.head_name])

    def check_sizes(self, image_size: int, train_size: int) -> None:
        """Raise UserError if the network accepts only one image size and the two sizes (pixels) differ."""
        if "image_size" in self.config and image_size != train_size:
            raise UserError(
                f"data.train_size={train_size} must equal data.image_size={image_size} for {self.config['name']}, "
                "whose position embeddings or windows are made for one size; set data.train_size=null."
            )


def within(key: str, paths: Sequence[str]) -> bool:
    """Return whether a state-dict key equals or lies below one of `paths`, as layer4.0.conv1 lies below layer4."""
    return any(key == path or key.startswith(f"{path}.") for path in paths)
