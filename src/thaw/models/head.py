"""The new classifier at the end of a network: its initial weights, and the scale of its input features."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from thaw.data.option_values import boolean, one_of
from thaw.models.staged import StagedNet, within

_SCALE = ".feature_scale"  # end of a state-dict key that only a `StandardizedLinear` has

# The mean squared norm of standardised features for two classes. With it, a learning rate of 0.01 brings a head to its
# optimum in 10 epochs of 100 to 1,000 images, and the loss of the first epoch stays below ln 2 (docs/strategies.md).
_SQUARED_NORM = 100.0


class StandardizedLinear(nn.Linear):
    """Linear layer whose weights apply to standardised features, (x - mean) * scale.

    x (..., D) -> logits (..., C). The mean is 0 and the scale 1 until `standardize` sets them. The state dict contains
    both, as `feature_mean` (D,) and `feature_scale` (). `fold_head` converts it to the state dict of an `nn.Linear`.
    """

    feature_mean: torch.Tensor
    feature_scale: torch.Tensor

    def __init__(self, layer: nn.Linear):
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None)
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("feature_mean", torch.zeros_like(layer.weight[0]))
        self.register_buffer("feature_scale", torch.ones_like(layer.weight[0, 0]))

    @property
    def plain(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the weight and bias of an `nn.Linear` that computes the same logits."""
        return folded(self.weight, self.bias, self.feature_mean, self.feature_scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, *self.plain)  # rounds exactly as an nn.Linear with the folded weights

    @torch.no_grad()
    def standardize(self, mean: torch.Tensor, scale: float) -> None:
        """Set the features' `mean` (D,) and `scale`, and convert the weights so that the logits stay the same."""
        self.assign(*self.plain, mean=mean, scale=scale)

    @torch.no_grad()
    def assign(
        self, weight: torch.Tensor, bias: torch.Tensor | None, mean: torch.Tensor | None = None, scale: float = 1.0
    ) -> None:
        """Set the weights so that this layer computes the logits of an `nn.Linear` with `weight` (C, D), `bias` (C,).

        If `mean` (D,) is given, also set the features' scale, and their mean if the layer has a bias.
        """
        if mean is not None:
            self.feature_mean.copy_(mean if bias is not None else torch.zeros_like(self.feature_mean))
            self.feature_scale.fill_(scale)
        if bias is not None:
            self.bias.copy_(bias + weight.to(bias.dtype) @ self.feature_mean.to(bias.dtype))
        self.weight.copy_(weight / self.feature_scale)

    def _load_from_state_dict(self, state_dict, prefix, metadata, *rest) -> None:
        """Also accept the state dict of an `nn.Linear`; the features' mean is then 0 and their scale 1."""
        if f"{prefix}feature_mean" not in state_dict:
            self.feature_mean.zero_()
            self.feature_scale.fill_(1)
            own = {f"{prefix}{name}": getattr(self, name) for name in ("feature_mean", "feature_scale")}
            state_dict = {**state_dict, **own}
        super()._load_from_state_dict(state_dict, prefix, metadata, *rest)


class NewHead:
    """Settings for a new head: its initial weights, and whether its input features are standardised.

    `start="zero"` sets the weights to 0, so that all classes are equally likely before the first step. `start="drawn"`
    keeps the network's own random weights. With `standardize`, a `StandardizedLinear` replaces the linear layer, so
    that features have the same scale for every backbone.

    Raises:
        UserError: from the constructor, if `start` or `standardize` has an invalid value.

    """

    def __init__(self, start: str = "zero", standardize: bool = True):
        self.start = one_of("head.start", start, ("zero", "drawn"))
        self.standardize = boolean("head.standardize", standardize)

    def install(self, net: StagedNet) -> None:
        """Initialise the head of `net` if it is linear; leave other heads, such as SqueezeNet's, unchanged.

        The backbone must be pretrained or frozen. Random trainable layers can change the scale of their features a
        thousandfold, which the head's fixed scale cannot follow.
        """
        layers = head_layers(net)
        if self.start == "zero":
            for layer in layers.values():
                nn.init.zeros_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if self.standardize and len(layers) == 1:
            ((path, layer),) = layers.items()
            parent, _, name = path.rpartition(".")
            setattr(net.get_submodule(parent), name, StandardizedLinear(layer))


def head_layers(net: StagedNet) -> dict[str, nn.Linear]:
    """Return linear layers by path, or {} if the head has other layers besides dropout. Distilled heads have two."""
    parts, paths = net.stage_modules(net.head_name), {module: path for path, module in net.named_modules()}
    if not isinstance(parts[-1], nn.Linear) or not all(isinstance(part, nn.Linear | nn.Dropout) for part in parts):
        return {}
    return {paths[part]: part for part in parts if isinstance(part, nn.Linear)}


def linear_head(net: StagedNet) -> nn.Linear | None:
    """Return the head's linear layer if the head has no other layer besides dropout, else None."""
    layers = list(head_layers(net).values())
    return layers[0] if len(layers) == 1 and net.can_be_cut(net.head_name) else None


@contextmanager
def observed_head(net: StagedNet, see: Callable[[torch.Tensor], object]) -> Iterator[None]:
    """Call `see` with the input of the head, float (N, D), for every batch that `net` computes in this block.

    Maps (N, D, H, W) and tokens (N, T, D) are averaged.
    """

    def hook(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        batch = args[0].detach()
        see(batch.mean([2, 3]) if batch.ndim == 4 else batch.mean(1) if batch.ndim == 3 else batch)

    # Hook the first layer with weights. A dropout layer in front is inactive here, and some networks skip it.
    first = next(part for part in net.stage_modules(net.head_name) if next(part.parameters(), None) is not None)
    with first.register_forward_pre_hook(hook):
        yield


def feature_scale(features: Iterable[torch.Tensor], classes: int) -> tuple[torch.Tensor, float]:
    """Return the mean (D,), float64, of batches (N, D), and the scale for `StandardizedLinear.standardize`.

    The scale gives (x - mean) * scale a mean squared norm of 100 for two classes. For more classes this squared norm
    grows with the square root of their number, since more classes share the gradient of a feature. `classes` is the
    number of classes that exclude each other: 2 if images can have several classes.
    """
    count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for batch in features:
        batch = batch.cpu().double()  # not every device has float64
        count, total, squares = count + len(batch), total + batch.sum(0), squares + batch.square().sum()
    mean = total / count
    spread = float(squares / count - mean.square().sum())
    usable = math.isfinite(spread) and spread > 1e-12 * float(squares / count)
    norm = _SQUARED_NORM * math.sqrt(classes / 2)
    return (mean, math.sqrt(norm / spread)) if usable else (torch.zeros_like(mean), 1.0)


def folded(
    weight: torch.Tensor, bias: torch.Tensor | None, mean: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the weight and bias for x that give the logits of `weight` (C, D), `bias` (C,) for (x - mean) * scale."""
    weight = weight * scale
    return weight, bias if bias is None else bias - weight @ mean


def standardized_keys(state: dict[str, torch.Tensor]) -> list[str]:
    """Return the state-dict keys of a `StandardizedLinear`, or [] if there is none."""
    paths = _standardized_paths(state)
    return [key for key in state if within(key, paths)]


def _standardized_paths(state: dict[str, torch.Tensor]) -> list[str]:
    return [key.removesuffix(_SCALE) for key in state if key.endswith(_SCALE)]


def standardized_layer(net: nn.Module) -> StandardizedLinear | None:
    return next((module for module in net.modules() if isinstance(module, StandardizedLinear)), None)


def fold_head(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict in which an equivalent `nn.Linear` replaces a `StandardizedLinear`."""
    state = dict(state)
    for path in _standardized_paths(state):
        mean, scale = state.pop(f"{path}.feature_mean"), state.pop(f"{path}{_SCALE}")
        names = f"{path}.weight", f"{path}.bias"
        weight, bias = folded(state[names[0]], state.get(names[1]), mean, scale)
        state[names[0]] = weight
        if bias is not None:
            state[names[1]] = bias
    return state
