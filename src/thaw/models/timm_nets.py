"""timm's classification nets as staged nets: timm computes, and its groups of layers are the stages."""

import copy
import difflib
import functools
import sys
from contextlib import suppress
from types import ModuleType

import torch
from torch import nn

from thaw.errors import UserError
from thaw.models.staged import Normalize, StagedNet
from thaw.models.timm_stages import timm_stages

PREFIX = "timm/"  # tells timm's nets from torchvision's, which often bear the same names


class TimmNet(StagedNet):
    """A net of timm's behind its own normalisation; its stages say what belongs together, not how it is applied."""

    prefix = "model."

    def __init__(self, model: nn.Module, config: dict):
        parts = {"normalize": Normalize(model.pretrained_cfg["mean"], model.pretrained_cfg["std"]), "model": model}
        super().__init__(parts, {"normalize": ["normalize"], **timm_stages(model, self.prefix)}, config)

    def forward(self, x: torch.Tensor, start: str | None = None) -> torch.Tensor:
        return self.model.get_classifier()(x) if start else self.model(self.normalize(x))

    def run_stage(self, name: str, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("timm's nets are no chains of stages")

    def can_be_cut(self, stage: str) -> bool:
        """At a head that is one layer, and the last that is applied; of dropout before it there is none."""
        return stage == self.head_name and self._ends_in_a_layer

    @functools.cached_property
    def _ends_in_a_layer(self) -> bool:
        if not isinstance(self.model.get_classifier(), nn.Linear):
            return False
        seen = []
        hook = self.model.get_classifier().register_forward_hook(lambda layer, given, output: seen.append(output))
        size = self.config.get("image_size", self.model.pretrained_cfg["input_size"][-1])
        modes = [(module, module.training) for module in self.modules()]
        with hook, torch.no_grad():
            logits = self.eval()(torch.zeros(1, 3, size, size, dtype=torch.uint8))
        for module, mode in modes:
            module.training = mode
        return len(seen) == 1 and seen[0] is logits

    def until(self, stage: str) -> StagedNet:
        """A copy, for timm takes the head out of the net itself."""
        net = copy.deepcopy(self)
        net.model.reset_classifier(0)
        return net


def build_timm_net(name: str, num_classes: int, image_size: int | None = None) -> TimmNet:
    """A randomly initialised net with a head of `num_classes` outputs, for images of `image_size` pixels.

    Raises:
        UserError: without timm, for a name that it does not know, or images that do not fit the net.

    """
    name = name.removeprefix(PREFIX)
    timm = _timm()
    _check_name(timm, name)
    published = timm.get_pretrained_cfg(name)
    size = image_size or published_size(name)
    config = {"name": PREFIX + name, "num_classes": num_classes}
    if published.fixed_input_size:
        config["image_size"] = size
    try:
        net = TimmNet(_create(config), config)
        with torch.no_grad():
            net.eval()(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    except UserError:
        raise
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        if size == published.input_size[-1]:
            raise
        raise UserError(
            f"data.image_size={size} does not fit {name} ({_reason(error)}); set data.image_size="
            f"{published.input_size[-1]}."
        ) from error
    return net.train()


def published_size(name: str) -> int:
    """The side, in pixels, of the images that the net was learned on.

    Raises:
        UserError: without timm, or for a name that it does not know.

    """
    timm = _timm()
    _check_name(timm, name.removeprefix(PREFIX))
    return timm.get_pretrained_cfg(name.removeprefix(PREFIX)).input_size[-1]


def smallest_image(name: str, least: int) -> int:
    """`least`, or the size that the net was published for if it takes no images of `least` pixels."""
    try:
        with torch.device("meta"):
            build_timm_net(name, 2, least)
    except UserError:
        return published_size(name)
    return least


def pretrained_tensors(net: TimmNet) -> dict[str, torch.Tensor]:
    """The published weights, which timm's own code downloads, caches and adapts to the net's size of images.

    Raises:
        UserError: if there are none, or they cannot be loaded.

    """
    name = net.config["name"].removeprefix(PREFIX)
    try:
        return _create(net.config, pretrained=True).state_dict()
    except Exception as error:  # each of the ways that it downloads by fails in its own
        raise UserError(
            f"weights=imagenet: timm cannot load its weights of {name} ({_reason(error)}); choose weights=demo, "
            "weights=none or weights=PATH."
        ) from error


def own_names(net: TimmNet, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`tensors`, under timm's names or the net's, under the net's and fitted to its size as timm fits them."""
    given = {key.removeprefix(net.prefix): tensor for key, tensor in tensors.items()}
    fit = getattr(sys.modules[type(net.model).__module__], "checkpoint_filter_fn", None)
    if fit:
        with suppress(KeyError, AttributeError, ValueError, RuntimeError):  # another net's weights, as will be told
            given = fit(dict(given), net.model)
    return {net.prefix + key: tensor for key, tensor in given.items()}


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise UserError("model=timm needs the package timm: pip install -e '.[timm]'.") from error
    return timm


def _create(config: dict, pretrained: bool = False) -> nn.Module:
    timm, name = _timm(), config["name"].removeprefix(PREFIX)
    published = timm.get_pretrained_cfg(name).input_size[-1]
    other = config.get("image_size", published) != published  # not every net can be told its size
    size = {"img_size": config["image_size"]} if other else {}
    return timm.create_model(name, pretrained=pretrained, num_classes=config["num_classes"], **size)


def _check_name(timm: ModuleType, name: str) -> None:
    known = timm.list_pretrained() if "." in name else timm.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=12, cutoff=0.4) or timm.list_models("resnet*")[:12]
        raise UserError(f"model.name={name!r} is unknown to timm; the nearest choices are {', '.join(close)}.")


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
