"""torchvision's classification networks and their published weights."""

import os
import re
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

import torch
import torchvision

from thaw.data.preprocessing import Preprocessing
from thaw.errors import UserError
from thaw.models.families.family import TAKE_LITE, Family, Tensors
from thaw.models.families.torchvision_chain import chain_of, default_weights, staged_net
from thaw.models.origin import Origin
from thaw.models.staged import StagedNet

# Build these two networks without auxiliary heads. torchvision warns if init_weights is not given.
_OPTIONS = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}


class Torchvision(Family):
    """torchvision's classification networks, under torchvision's names."""

    def names(self) -> list[str]:
        return [name for name in torchvision.models.list_models(torchvision.models) if chain_of(name)]

    def build(self, name: str, num_classes: int, image_size: int | None = None) -> StagedNet:
        config, unit = {"name": name, "num_classes": num_classes}, _size_unit(name)
        if unit:
            config["image_size"] = image_size = image_size or 224
        check_size(name, image_size, self.smallest_image(name, 1), unit)
        options = build_options(name, config.get("image_size"))
        source = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
        return staged_net(source, name, config)

    def published_preprocessing(self, name: str) -> Preprocessing:
        published = default_weights(name).transforms()
        return Preprocessing(published.resize_size[0], published.crop_size[0], published.interpolation.value)

    def smallest_image(self, name: str, least: int) -> int:
        if unit := _size_unit(name):
            return -(-least // unit) * unit
        if name.startswith("swin"):  # torchvision's min_size for Swin is the training size, not the smallest size
            return max(least, 32)  # Swin's patches and halvings reduce 32 pixels to one position
        return max(least, *default_weights(name).meta.get("min_size", (1, 1)))

    def published_tensors(self, net: StagedNet) -> Tensors:
        """Load the weights from torchvision's cache, or download them into it."""
        published = default_weights(net.config["name"])
        cached = _cached(published.url)
        try:
            return published.get_state_dict(progress=True, check_hash=True, weights_only=True)
        except (URLError, OSError) as error:
            raise UserError(
                f"weights=imagenet: {published.url} could not be downloaded ({getattr(error, 'reason', None) or error})"
                f"; put the file at {cached}, {TAKE_LITE}, or choose weights=demo, weights=none or weights=PATH."
            ) from error
        except Exception as error:  # damaged files raise anything; torchvision deletes downloads with a wrong checksum
            fault = f"{cached} is damaged; delete it" if cached.exists() else "the download was damaged; run again"
            raise UserError(f"weights=imagenet: {fault} to download the file again from {published.url}.") from error

    def weights_file(self, name: str) -> Path | None:
        path = _cached(default_weights(name).url)
        return path if path.is_file() else None

    def origin(self, name: str) -> Origin:
        """Return torchvision's address of the weights.

        torchvision states a licence only for SWAG weights. Its own licence, BSD-3-Clause, is that of its code: its
        README says that pretrained models may have other terms.
        """
        published = default_weights(name)
        source = f"torchvision, {published.url}"
        if "SWAG" in published.meta.get("license", ""):
            return Origin(source, "CC-BY-NC-4.0", "torchvision's record of the weights states it")
        return Origin(
            source, None, "torchvision states no licence for them and says that they may have their own terms"
        )


def build_options(name: str, image_size: int | None) -> dict[str, object]:
    """Return further arguments with which torchvision's `get_model` builds the same network as Thaw.

    `image_size` is None for a network that accepts images of any size.
    """
    if image_size is None:
        return dict(_OPTIONS.get(name, {}))
    return {"input_size": (image_size,) * 2} if name.startswith("maxvit") else {"image_size": image_size}


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(urlparse(url).path)


def check_size(name: str, size: int | None, least: int, unit: int | None = None) -> None:
    """Raise a UserError if `size` is smaller than `least` pixels or not a multiple of `unit`."""
    if not size:
        return
    if size < least:
        raise UserError(f"data.image_size={size} is too small for {name}, which needs at least {least} pixels.")
    if unit and size % unit:
        below = size - size % unit
        raise UserError(
            f"data.image_size={size} does not fit {name}, which needs a multiple of {unit} pixels, such as {below} or "
            f"{below + unit}."
        )


def _size_unit(name: str) -> int | None:
    """Return the number that must divide the image side, or None if the network accepts any size.

    For ViT it is the patch size. For MaxViT it is a window of 7 pixels times 2**5, since the network halves the image
    five times. Swin pads its windows and accepts any size.
    """
    patch = re.fullmatch(r"vit_._(\d+)", name)
    return int(patch[1]) if patch else 7 * 2**5 if name.startswith("maxvit") else None
