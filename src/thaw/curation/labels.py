"""Find labels that are probably wrong, with a classifier trained on other images.

The method is confident learning (Northcutt et al. 2021). The threshold of a class is its mean probability over the
images with this label. The suggested class is the most probable of the classes that reach their threshold. A label is
doubtful if it is not the suggested class.
"""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from thaw.curation.audit import Doubt, File
from thaw.data.digests import digest_of, reading_version
from thaw.data.grey import OWN
from thaw.data.images import load_rgb
from thaw.data.preprocessing import Preprocessing
from thaw.data.transforms import EvalTransform, read_size
from thaw.demo.pretraining import load_pretrained
from thaw.errors import UserError
from thaw.features.prefix import FrozenPrefix
from thaw.features.store import feature_key, stored_features
from thaw.models.backbones import build_net
from thaw.models.sizes import published_preprocessing
from thaw.models.staged import StagedNet
from thaw.storage.versions import TRANSFORMS
from thaw.training.hardware import best_precision

_FOLDS = 5
_DECAY = 1e-3  # weight decay of the classifier, for features of unit variance
_STEPS = 100
_BATCH = 64
_MOST = 2e9  # largest size of the features to cache, in bytes


Backbone = tuple[StagedNet, Preprocessing]


def load_backbone(model: str, weights: str) -> Backbone:
    """Load the network that the options `--model` and `--weights` choose; return the network and its preprocessing.

    Raises:
        UserError: if the model or the weights are not available.

    """
    try:
        preprocessing = published_preprocessing(model)
        net = build_net(model, 2, preprocessing.crop).eval().requires_grad_(False)
        load_pretrained(net, weights)
    except UserError as error:
        raise UserError(re.sub(r"\b(model|weights)(\.name)?=", r"--\1 ", str(error))) from error
    return net, preprocessing


def doubted_labels(files: Sequence[File], backbone: Backbone) -> list[Doubt]:
    """Return the doubtful labels of the readable images in `files`, the most doubtful first."""
    good = [file for file in files if not file.found.fault]
    classes = sorted({file.label for file in good})
    labels = np.array([classes.index(file.label) for file in good])
    digests = [file.found.sha256 for file in good]
    features = _features([file.found.path for file in good], digests, backbone)
    probabilities = out_of_fold(features, labels, _folds(digests, labels))

    def doubt(image: int, suggested: int) -> Doubt:
        own, other = (float(probabilities[image, label]) for label in (labels[image], suggested))
        return Doubt(good[image].path, classes[labels[image]], classes[suggested], own, other)

    return [doubt(image, suggested) for image, suggested in ranked(probabilities, labels)]


def out_of_fold(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return cross-validated probabilities (n, classes) of logistic regression on `features` (n, D)."""
    inputs, targets = torch.from_numpy(features).float(), torch.from_numpy(labels)
    classes = int(labels.max()) + 1
    probabilities = torch.zeros(len(labels), classes)
    for fold in np.unique(folds):
        held_out = torch.from_numpy(folds == fold)
        mean, deviation = inputs[~held_out].mean(0), inputs[~held_out].std(0).clamp(min=1e-6)
        scaled = (inputs - mean) / deviation / inputs.shape[1] ** 0.5
        weight, bias = _regression(scaled[~held_out], targets[~held_out], classes)
        probabilities[held_out] = (scaled[held_out] @ weight + bias).softmax(1)
    return probabilities.numpy()


def ranked(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[int, int]]:
    """Return (image, suggested class) for each doubtful label, sorted by P(suggested) - P(label), largest first."""
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    usual = np.array(
        [own[labels == label].mean() if (labels == label).any() else 2 for label in range(probabilities.shape[1])]
    )
    confident = np.where(probabilities >= usual, probabilities, -1.0)
    confident[rows, labels] = np.where(own >= usual[labels], own, -1.0)
    suggested = confident.argmax(1)
    doubted = np.flatnonzero((confident.max(1) > 0) & (suggested != labels))
    margins = probabilities[doubted, suggested[doubted]] - own[doubted]
    return [(int(i), int(suggested[i])) for i in doubted[np.argsort(-margins, kind="stable")]]


def _regression(inputs: torch.Tensor, targets: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    weight = torch.zeros(inputs.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(inputs @ weight + bias, targets) + _DECAY * weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach(), bias.detach()


def _folds(digests: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Return the fold of each image; folds are stratified by class, and identical files share a fold."""
    folds = np.zeros(len(labels), int)
    for label in np.unique(labels):
        members = [index for index, other in enumerate(labels) if other == label]
        different = sorted({digests[index] for index in members})
        fold_of = {digest: number % _FOLDS for number, digest in enumerate(different)}
        for index in members:
            folds[index] = fold_of[digests[index]]
    return folds


class _Photographs(Dataset):
    def __init__(self, paths: Sequence[Path], preprocessing: Preprocessing):
        self.paths, self.transform = paths, EvalTransform(preprocessing)
        self.short_side = read_size(preprocessing.resize)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(load_rgb(self.paths[index], self.short_side, grey_range=OWN))


def _features(paths: Sequence[Path], digests: Sequence[str], backbone: Backbone) -> np.ndarray:
    """Return the features before the network's head, float32 (n, D), from the cache if possible."""
    net, preprocessing = backbone
    photographs = _Photographs(paths, preprocessing)
    context = functools.partial(torch.autocast, "cpu", torch.bfloat16, best_precision("cpu") == "bf16-mixed")
    prefix = FrozenPrefix(net, net.head_name, torch.device("cpu"), context)
    images = digest_of(*digests, repr(photographs.transform), reading_version(TRANSFORMS))
    key = feature_key(prefix.digest, images, "of all images")
    example, _ = prefix.probe(preprocessing.crop)
    stored = stored_features(key, example, len(paths), _MOST, lambda: map(prefix, DataLoader(photographs, _BATCH)))
    return stored[list(range(len(paths)))].float().flatten(1).numpy()
