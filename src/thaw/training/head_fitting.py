"""Use the features before a net's head to put them on one scale, or to solve the head."""

import logging
from collections.abc import Iterator

import torch
from lightning import LightningDataModule, Trainer

from thaw.data.datamodule import ImageFolderDataModule
from thaw.features.feature_data import FeatureDataModule
from thaw.features.linear_objective import FeatureRows
from thaw.models.head import StandardizedLinear, feature_scale, linear_head, standardized_layer
from thaw.training.classifier import ImageClassifier

log = logging.getLogger(__name__)

_ENOUGH = 512  # images whose features have to be computed for their mean and deviation alone
_CHUNK = 4096


def scale_head(
    trainer: Trainer, classifier: ImageClassifier, source: LightningDataModule, data: ImageFolderDataModule
) -> None:
    """Set the mean and scale of a standardised head from training features, those in the cache if there are any."""
    layer = standardized_layer(classifier.net)
    if layer is None:
        return
    entry = classifier.entries["train"]
    if entry == classifier.net.head_name:
        features = (
            view[start : start + _CHUNK] for view in source.train_views for start in range(0, len(view), _CHUNK)
        )
    else:
        features = _passed(trainer, classifier, layer, _few_inputs(trainer, source, data, bool(entry)), entry)
    mean, scale = feature_scale(features, layer.out_features)
    layer.standardize(mean.to(layer.weight), scale)


def solve_head(trainer: Trainer, classifier: ImageClassifier, source: FeatureDataModule, seed: int) -> None:
    """Put the head at the optimum that the phase's solver finds on the training features."""
    layer, device = linear_head(classifier.net), trainer.strategy.root_device
    rows = FeatureRows(source.train_views, source.train_labels, layer.out_features, device)
    weights = source.class_weights
    solution = classifier.phase.solver.solve(
        rows, seed, None if weights is None else weights.to(device), layer.bias is not None
    )
    classifier.solution = solution.facts()
    weight, bias = solution.weight, solution.bias if layer.bias is not None else None
    if isinstance(layer, StandardizedLinear):
        layer.assign(weight, bias)
    else:
        with torch.no_grad():
            layer.weight.copy_(weight)
            if bias is not None:
                layer.bias.copy_(bias)
    best = next(point for point in solution.path if point.penalty == solution.penalty)
    log.info(
        f"phase {classifier.phase.number}: head solved in {solution.seconds:.1f} s: penalty {solution.penalty:.2g}, "
        f"with which held-out training images have loss {best.loss:.4f} acc {best.acc:.4f}; "
        f"{solution.iterations} L-BFGS steps, gradient {solution.gradient:.1e} of that at zero"
    )
    if solution.note:
        log.info(f"penalty {solution.note} (docs/strategies.md)")


def _few_inputs(
    trainer: Trainer, source: LightningDataModule, data: ImageFolderDataModule, stored: bool
) -> Iterator[torch.Tensor]:
    """Some of what goes into the net, evenly spread over the training images: stored features, or images."""
    if stored:
        view = source.train_views[0]
        rows = torch.linspace(0, len(view) - 1, min(_ENOUGH, len(view))).round().long()
        yield from (view[part.tolist()] for part in rows.split(32))
        return
    data.prepare_pixels()
    device = trainer.strategy.root_device
    # In this process: loader processes would be started for a second's work, and outside of what Lightning watches.
    for batch in data.once(data.train.some(_ENOUGH), 0, num_workers=0):
        yield data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device, 0), 0)[0]


def _passed(
    trainer: Trainer,
    classifier: ImageClassifier,
    layer: StandardizedLinear,
    inputs: Iterator[torch.Tensor],
    entry: str | None,
) -> Iterator[torch.Tensor]:
    """What goes into `layer`, (n, D), when `inputs` go through the net from the stage `entry` on."""
    device, seen = trainer.strategy.root_device, []
    net = classifier.net.to(device).eval()
    with layer.register_forward_pre_hook(lambda module, given: seen.append(given[0])):
        for batch in inputs:
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                net(batch.to(device), entry)
            yield seen.pop().flatten(0, -2)
    classifier.train()
