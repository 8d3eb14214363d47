"""Scale the input features of a network's head, and compute its optimal weights with a solver."""

import logging
from collections.abc import Iterator

import torch
from lightning import LightningDataModule, Trainer

from thaw.data.datamodule import ImageFolderDataModule
from thaw.features.feature_data import FeatureDataModule
from thaw.features.linear_objective import FeatureRows
from thaw.features.neighbours import NEIGHBOURS, neighbour_accuracy
from thaw.features.store import StoredFeatures
from thaw.models.head import StandardizedLinear, feature_scale, linear_head, standardized_layer
from thaw.training.classifier import ImageClassifier

log = logging.getLogger(__name__)

_ENOUGH = 512  # images that suffice for the mean and scale, if no features are stored
_CHUNK = 4096


def scale_head(
    trainer: Trainer, classifier: ImageClassifier, source: LightningDataModule, data: ImageFolderDataModule
) -> None:
    """Set the feature mean and scale of a `StandardizedLinear` head from stored features or training images."""
    layer = standardized_layer(classifier.net)
    if layer is None:
        return
    views = source.train_views if isinstance(source, FeatureDataModule) else []
    stage = classifier.train_input_stage if views else None
    if stage == classifier.net.head_name:
        features = (view[start : start + _CHUNK] for view in views for start in range(0, len(view), _CHUNK))
    else:
        inputs = _few_rows(views[0]) if views else _few_images(trainer, data)
        features = _inputs_of(layer, trainer, classifier, inputs, stage)
    mean, scale = feature_scale(features, 2 if data.label_sets.several else layer.out_features)
    layer.standardize(mean.to(layer.weight), scale)


def solve_head(
    trainer: Trainer, classifier: ImageClassifier, source: LightningDataModule, data: ImageFolderDataModule
) -> None:
    """Set the head to the optimum that the phase's solver finds on the training features."""
    layer, solver, device = linear_head(classifier.net), classifier.phase.solver, trainer.strategy.root_device
    assert layer is not None and solver is not None and isinstance(source, FeatureDataModule)
    sets = data.label_sets.members
    members = None if sets is None else torch.from_numpy(sets)
    rows = FeatureRows(source.train_views, data.train.targets, layer.out_features, device, members)
    weights = data.balancing_weights
    solution = solver.solve(rows, data.seed, None if weights is None else weights.to(device), layer.bias is not None)
    facts, voted = solution.facts(), ""
    if members is None:
        nearby, asked = neighbour_accuracy(rows)
        facts["neighbours"] = {"acc": nearby, "n": asked}
        voted = f"; acc {nearby:.4f} by a vote of {NEIGHBOURS} nearest neighbours"
    classifier.solution = facts
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
        f"loss {best.loss:.4f} and acc {best.acc:.4f} on held-out training images; {solution.iterations} L-BFGS steps, "
        f"gradient norm {solution.gradient:.1e} times its value at zero weights{voted}"
    )
    if solution.note:
        log.info(f"penalty {solution.note} (docs/strategies.md)")


def _few_rows(view: StoredFeatures) -> Iterator[torch.Tensor]:
    rows = torch.linspace(0, len(view) - 1, min(_ENOUGH, len(view))).round().long()
    yield from (view[part.tolist()] for part in rows.split(32))


def _few_images(trainer: Trainer, data: ImageFolderDataModule) -> Iterator[torch.Tensor]:
    data.prepare_pixels()
    device = trainer.strategy.root_device
    for batch in data.few_loader(_ENOUGH):
        yield data.on_device(batch, device)[0]


def _inputs_of(
    layer: StandardizedLinear,
    trainer: Trainer,
    classifier: ImageClassifier,
    batches: Iterator[torch.Tensor],
    stage: str | None,
) -> Iterator[torch.Tensor]:
    """Yield the inputs (n, D) of `layer` for `batches`, which enter the network at `stage` (None: as images)."""
    device, seen = trainer.strategy.root_device, []
    net = classifier.net.to(device).eval()
    with layer.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0])):
        for batch in batches:
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                net(batch.to(device), stage)
            yield seen.pop().flatten(0, -2)
    classifier.train()
