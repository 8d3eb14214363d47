"""timm's classification networks and their published weights."""

import difflib
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from thaw.data.preprocessing import Preprocessing
from thaw.errors import UserError
from thaw.models.families.family import TAKE_LITE, Family, Tensors
from thaw.models.families.timm_chain import TimmNet, staged
from thaw.models.origin import Origin, spdx
from thaw.models.staged import StagedNet

_PREFIX = "timm/"  # needed because timm and torchvision share many names
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def build_timm_net(name: str, num_classes: int, image_size: int | None = None) -> TimmNet:
    """Build timm's network `name`, with or without the prefix `timm/`; see `thaw.models.backbones.build_net`."""
    return Timm().build(full_name(name, build_timm_net.__name__), num_classes, image_size)


def full_name(name: str, builder: str) -> str:
    """Return `name`, with the prefix `timm/` if `builder` is the import path of `build_timm_net`."""
    return _PREFIX + name.removeprefix(_PREFIX) if builder.endswith(build_timm_net.__name__) else name


class Timm(Family):
    """timm's classification networks, named `timm/` plus timm's own name. timm is imported at first use."""

    install = "pip install -e '.[timm]'"
    alternative = TAKE_LITE  # advice if the weights cannot be downloaded

    def has(self, name: str) -> bool:
        return name.startswith(_PREFIX)

    def build(self, name: str, num_classes: int, image_size: int | None = None) -> TimmNet:
        published, preprocessing = self._published(name), self.published_preprocessing(name)
        size = image_size or preprocessing.crop
        config = {"name": name, "num_classes": num_classes}
        if published.fixed_input_size:
            config["image_size"] = size
        try:
            return staged(self._create(config), config, *self.statistics(name), size)
        except UserError:
            raise
        except (AssertionError, TypeError, ValueError, RuntimeError) as error:
            if size == preprocessing.crop:
                raise
            raise UserError(
                f"data.image_size={size} does not fit {self.timm_name(name)} ({_reason(error)}); set data.image_size="
                f"{preprocessing.crop}."
            ) from error

    def published_preprocessing(self, name: str) -> Preprocessing:
        """Return timm's evaluation preprocessing, but always with a centre crop."""
        published = self._published(name)
        crop = published.input_size[-1]
        return Preprocessing(int(crop / published.crop_pct), crop, published.interpolation)

    def smallest_image(self, name: str, least: int) -> int:
        """Return `least`, or the published size if the network rejects images of `least` pixels."""
        try:
            with torch.device("meta"):
                self.build(name, 2, least)
        except UserError:
            return self.published_preprocessing(name).crop
        return least

    def published_tensors(self, net: StagedNet) -> Tensors:
        """Return the weights that timm downloads, caches and adapts to the network's image size."""
        name = net.config["name"]
        try:
            return self._create(net.config, pretrained=True).state_dict()
        except Exception as error:  # timm downloads in several ways, each with its own exceptions
            hub = self._published(name).hf_hub_id
            raise UserError(
                f"weights=imagenet: timm cannot load its weights for {self.timm_name(name)}"
                f"{f' from {hub}' * bool(hub)} ({_reason(error)}); {self.alternative}, or choose weights=demo, "
                "weights=none or weights=PATH."
            ) from error

    def weights_file(self, name: str) -> Path | None:
        return _in_hub_cache(self._published(name).hf_hub_id)

    def at_hand(self) -> list[str]:
        try:
            timm = self._timm(_PREFIX)
        except UserError:
            return []
        published = ((name, timm.get_pretrained_cfg(name)) for name in timm.list_pretrained())
        return [_PREFIX + name for name, one in published if _in_hub_cache(one.hf_hub_id)]

    def origin(self, name: str) -> Origin:
        """Return timm's record of the weights."""
        published = self._published(name)
        licence = spdx(published.license)
        place = f"huggingface.co/{published.hf_hub_id}" if published.hf_hub_id else published.url
        source = f"timm, {place or 'without an address'}"
        return Origin(source, licence, f"timm's record of the weights states {'it' if licence else 'no licence'}")

    def adapted(self, net: StagedNet, tensors: Tensors) -> Tensors:
        """Return `tensors` with the names in `net`; timm's own code adapts them to the image size of `net`."""
        given = {key.removeprefix(net.prefix): tensor for key, tensor in tensors.items()}
        fit = getattr(sys.modules[type(net.model).__module__], "checkpoint_filter_fn", None)
        if fit:
            with suppress(KeyError, AttributeError, ValueError, RuntimeError):  # load_backbone reports bad tensors
                given = fit(dict(given), net.model)
        return {net.prefix + key: tensor for key, tensor in given.items()}

    def timm_name(self, name: str) -> str:
        return name.removeprefix(_PREFIX)

    def statistics(self, name: str) -> tuple[Sequence[float], Sequence[float]]:
        """Return the mean and standard deviation per channel that normalise pixels in 0..1."""
        return self._published(name).mean, self._published(name).std

    def _published(self, name: str) -> Any:
        """Return timm's `PretrainedCfg` of a network."""
        timm, name = self._timm(name), self.timm_name(name)
        known = timm.list_pretrained() if "." in name else timm.list_models()
        if name not in known:
            close = difflib.get_close_matches(name, known, n=12, cutoff=0.4) or timm.list_models("resnet*")[:12]
            raise UserError(f"model.name={name!r} is unknown to timm; the nearest choices are {', '.join(close)}.")
        return timm.get_pretrained_cfg(name)

    def _create(self, config: dict, pretrained: bool = False) -> nn.Module:
        name, classes = config["name"], config["num_classes"]
        published = self._published(name).input_size[-1]
        other = config.get("image_size", published) != published  # not every network has the argument img_size
        size = {"img_size": config["image_size"]} if other else {}
        return self._timm(name).create_model(self.timm_name(name), pretrained=pretrained, num_classes=classes, **size)

    def _timm(self, name: str) -> ModuleType:
        try:
            import timm
        except ImportError as error:
            model = name.partition("/")[0]
            raise UserError(f"model={model} needs the package timm: {self.install}.") from error
        return timm


def _in_hub_cache(repository: str | None) -> Path | None:
    """Return a Hugging Face repository's weight file in the local cache, which timm uses; None if it is missing."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = [try_to_load_from_cache(repository, file) for file in _HUB_FILES] if repository else []
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
