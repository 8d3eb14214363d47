"""timm's classification networks, divided into stages by timm's own groups of layers."""

import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from thaw.models.families.timm_stages import timm_stages
from thaw.models.staged import Normalize, StagedNet

# timm's classes that apply their layers in the order of definition, with functional dropout before the classifier.
# `staged` checks the logits of each network that it builds.
_CHAINS = ("EfficientNet", "MobileNetV3", "ResNet")


class TimmNet(StagedNet):
    """Normalisation, then a timm network. Stages only group its layers; timm's own `forward` computes the logits.

    `mean` and `std` normalise pixels in 0..1.
    """

    prefix = "model."
    normalize: Normalize
    model: Any  # no base class declares timm's methods

    def __init__(self, model: nn.Module, config: dict, mean: Sequence[float], std: Sequence[float]):
        parts = {"normalize": Normalize(mean, std), "model": model}
        super().__init__(parts, {"normalize": ["normalize"], **timm_stages(model, self.prefix)}, config)

    def forward(self, x: torch.Tensor, start: str | None = None) -> torch.Tensor:
        return self.model.get_classifier()(x) if start else self.model(self.normalize(x))

    def run_stage(self, name: str, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{self.config['name']} cannot run a single stage")

    def can_be_cut(self, stage: str) -> bool:
        """Return whether `stage` is the head, and the head is one linear layer whose output is the logits."""
        return stage == self.head_name and self._ends_in_a_layer

    @functools.cached_property
    def _ends_in_a_layer(self) -> bool:
        if not isinstance(self.model.get_classifier(), nn.Linear):
            return False
        seen = []
        hook = self.model.get_classifier().register_forward_hook(lambda layer, args, output: seen.append(output))
        size = self.config.get("image_size", self.model.pretrained_cfg["input_size"][-1])
        modes = [(module, module.training) for module in self.modules()]
        with hook, torch.no_grad():
            logits = self.eval()(torch.zeros(1, 3, size, size, dtype=torch.uint8))
        for module, mode in modes:
            module.training = mode
        return len(seen) == 1 and seen[0] is logits

    def until(self, stage: str) -> StagedNet:
        """Return a copy without the head, because timm can remove a head only in place."""
        net = copy.deepcopy(self)
        net.model.reset_classifier(0)
        return net


class TimmChain(TimmNet):
    """A timm network that applies its stages one after another, so that `forward` can start at any stage."""

    forward = StagedNet.forward
    run_stage = StagedNet.run_stage
    can_be_cut = StagedNet.can_be_cut
    until = StagedNet.until

    def __init__(self, model: nn.Module, config: dict, mean: Sequence[float], std: Sequence[float]):
        super().__init__(model, config, mean, std)
        if self.model.drop_rate > 0:
            self.dropout = nn.Dropout(self.model.drop_rate)
            self.stages[self.head_name] = ("dropout", *self.stages[self.head_name])


def staged(model: nn.Module, config: dict, mean: Sequence[float], std: Sequence[float], size: int) -> TimmNet:
    """Return a `TimmChain` if it computes exactly timm's logits for an image of `size` pixels, else a `TimmNet`."""
    net = TimmNet(model, config, mean, std).eval()
    images = (37 * torch.arange(3 * size * size) % 256).to(torch.uint8).view(1, 3, size, size)
    with torch.no_grad():
        logits = net(images)
        if type(model).__name__ in _CHAINS:
            chain = TimmChain(model, config, mean, std).eval()
            net = chain if logits.is_meta or chain(images).equal(logits) else net
    return net.train()
