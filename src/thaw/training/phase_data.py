"""Choose a phase's training data: images, or features that the frozen stages compute once."""

import logging
import time
from collections.abc import Iterator
from functools import partial

import torch
from lightning import LightningDataModule, Trainer
from tqdm import tqdm

from thaw.data.datamodule import ImageFolderDataModule
from thaw.data.device_pixels import device_bytes
from thaw.data.folders import ClassFolders
from thaw.data.option_values import number, number_or_auto
from thaw.data.transfer import fetched
from thaw.errors import UserError
from thaw.features.cost import Cost, enough_views
from thaw.features.feature_data import FeatureDataModule
from thaw.features.prefix import FrozenPrefix, frozen_cut
from thaw.features.speed import images_per_second
from thaw.features.store import StoredFeatures, feature_key, in_memory, stored_features
from thaw.storage.cache import cache_dir
from thaw.strategy.phases import Phase
from thaw.training.classifier import ImageClassifier

log = logging.getLogger(__name__)

_FRESH = "features of training images are computed in every epoch"
# Precisions with which a network computes the same features inside and outside Lightning's training loop.
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


class FeatureCache:
    """Cache of features (the output of frozen stages), which replace images in training.

    It holds `views` differently augmented views of every training image; epoch e (from 0) uses view `e % views`. With
    `views="auto"`, the number of views follows from the number of epochs, and features are used only if this saves
    time. With `views=0`, only a phase with a solver uses features. The features of all runs take at most `max_gb`
    gigabytes (10^9 bytes). A phase's features are copied to a GPU if they take at most `device_gb` gigabytes; `auto` is
    a quarter of the GPU's memory. `seconds` is the time spent on features. In a phase with a solver,
    `images_per_second` is the measured speed of the frozen stages.

    Raises:
        UserError: from the constructor, if a value is invalid.

    """

    def __init__(self, views: int | str = "auto", max_gb: float = 10, device_gb: float | str = "auto"):
        if views != "auto" and (type(views) is not int or views < 0):
            raise UserError(f"features.views={views!r} must be auto or a whole number of at least 0.")
        self.views, self.device_gb = views, number_or_auto("features.device_gb", device_gb)
        self.max_size = number("features.max_gb", max_gb) * 1e9
        self.seconds = 0.0
        self.images_per_second: float | None = None
        self._val: tuple[str, StoredFeatures] | None = None  # key and features of the validation images

    def source(
        self, trainer: Trainer, classifier: ImageClassifier, phase: Phase, data: ImageFolderDataModule
    ) -> LightningDataModule:
        """Return a data module with features if they suit `phase`, else `data`; set the classifier's input stages."""
        start, cut = time.perf_counter(), frozen_cut(classifier.net, phase)
        partial_epochs = trainer.limit_train_batches != 1 or trainer.limit_val_batches != 1
        unwanted = not phase.solver and (self.views == 0 or partial_epochs)
        if unwanted or cut is None or trainer.precision not in _PRECISIONS:
            if phase.solver:
                raise UserError(
                    f"trainer.precision={trainer.precision} does not work with a phase that has a solver; the choices "
                    f"are auto, {', '.join(_PRECISIONS)}."
                )
            return data
        prefix, mixed = _prefix(trainer, classifier, cut), bool(classifier.recipe.mix and not phase.solver)
        if phase.solver:
            train, val = self._for_solver(prefix, phase.number, phase.solver.views, data)
            self.images_per_second = images_per_second(prefix, data.image_size)
        else:
            train, val = self._for_training(prefix, phase, data, mixed)
        self._val = (_key(prefix, data.val, None), val) if val else None
        classifier.set_input_stages(train=None if mixed else cut, val=cut if val else None)
        self.seconds += time.perf_counter() - start
        return FeatureDataModule(
            data, train, val, None if mixed else prefix, device_bytes(self.device_gb, prefix.device)
        )

    def _for_training(
        self, prefix: FrozenPrefix, phase: Phase, data: ImageFolderDataModule, mixed: bool
    ) -> tuple[list[StoredFeatures], StoredFeatures | None]:
        """Return the stored features of the training images per view, or [], and of the validation images, or None."""
        views, with_val = self._plan(prefix, phase, data, mixed)
        without = "they are computed in every epoch"
        val = self._features(prefix, data, data.val, None, without) if with_val else None
        train = []
        for view in range(views):
            features = self._features(prefix, data, data.train, view, without)
            if features is None:
                return [], val
            train.append(features)
        return train, val

    def _for_solver(
        self, prefix: FrozenPrefix, number: int, views: int, data: ImageFolderDataModule
    ) -> tuple[list[StoredFeatures], StoredFeatures]:
        """Return features of training images (unaugmented, then `views` augmented views) and of validation images.

        Features stay in memory if the cache cannot be written.
        """
        size = (len(data.train) * (1 + views) + len(data.val)) * _cost(prefix, data.image_size).size
        if size > self.max_size:
            raise UserError(
                f"features.max_gb={self.max_size / 1e9:g} is too little: a phase with a solver needs {size / 1e9:.1f} "
                "GB for the features of all images; raise features.max_gb, or choose strategy=feature_extractor."
            )
        augmented = f" and {views} augmented views of each" if views else ""
        log.info(
            f"phase {number}: cached features, the input of {prefix.cut}: {len(data.train)} training images{augmented}"
            f", {len(data.val)} validation images ({size / 1e6:.3g} MB)"
        )

        def features(images: ClassFolders, view: int | None = None) -> StoredFeatures:
            found = self._features(prefix, data, images, view, "they stay in memory")
            return found or in_memory(_batches(prefix, data, images, view))

        train = [
            features(data.train.with_transform_of(data.val)),
            *(features(data.train, view) for view in range(views)),
        ]
        return train, features(data.val)

    def evaluation_source(
        self, trainer: Trainer, classifier: ImageClassifier, data: ImageFolderDataModule
    ) -> LightningDataModule:
        """Return a data module with the stored validation features if they fit the present weights, else `data`."""
        cut = classifier.val_input_stage
        if cut and self._val and _key(_prefix(trainer, classifier, cut), data.val, None) == self._val[0]:
            return FeatureDataModule(data, [], self._val[1], device_bytes=device_bytes(self.device_gb, data.device))
        classifier.set_input_stages()
        return data

    def _plan(self, prefix: FrozenPrefix, phase: Phase, data: ImageFolderDataModule, mixed: bool) -> tuple[int, bool]:
        """Return how many augmented views to store, and whether to store validation features; log both."""
        train, val = _cost(prefix, data.train_size), _cost(prefix, data.image_size)
        epochs = phase.last - phase.first
        views, reason = self._affordable_views(train, epochs, data, mixed)
        size, val_size = len(data.train) * views * train.size, len(data.val) * val.size
        evaluated = phase.last == phase.total  # the network is evaluated once more at the end of the run
        with_val = val.saved(epochs + evaluated, 1) > 0 and size + val_size <= self.max_size
        kind = ("augmented " if data.augment else "") + ("view" if views == 1 else "views")
        kept = [f"{views} {kind} × {len(data.train)} training images"] * bool(views)
        kept += [f"{len(data.val)} validation images"] * with_val
        room = f" ({(size + with_val * val_size) / 1e6:.3g} MB)" if kept else ""
        cached = ", ".join(kept) or "none"
        log.info(f"phase {phase.number}: cached features, the input of {prefix.cut}: {cached}{room}{reason}")
        return views, with_val

    def _affordable_views(self, cost: Cost, epochs: int, data: ImageFolderDataModule, mixed: bool) -> tuple[int, str]:
        """Return how many augmented views to store, and, if the number is 0, the reason as text for the log."""
        wanted = self.views if isinstance(self.views, int) else enough_views(epochs)
        views = min(wanted, epochs if data.augment else 1)
        size = len(data.train) * views * cost.size
        if mixed:
            return 0, "; mix=… blends training images, so their features cannot be cached"
        if self.views == "auto" and cost.saved(epochs, views) <= 0:
            return 0, f"; {_FRESH}, because caching them would save no time"
        if size > self.max_size:
            return 0, f"; {_FRESH}, because caching them would take {size / 1e9:.1f} GB, more than features.max_gb"
        return views, ""

    def _features(
        self, prefix: FrozenPrefix, data: ImageFolderDataModule, images: ClassFolders, view: int | None, without: str
    ) -> StoredFeatures | None:
        """Return the features of `images`, or None if they cannot be stored. The warning then ends with `without`."""
        example, _ = prefix.probe(data.image_size if view is None else data.train_size)
        batches = partial(_batches, prefix, data, images, view)
        try:
            return stored_features(_key(prefix, images, view), example, len(images), self.max_size, batches)
        except OSError as error:
            log.warning(f"features cannot be written to {cache_dir()} ({error.strerror or error}): {without}")
            return None


def _batches(
    prefix: FrozenPrefix, data: ImageFolderDataModule, images: ClassFolders, view: int | None
) -> Iterator[torch.Tensor]:
    data.prepare_pixels()
    images.decode_on_device()
    name = "features" if view is None else f"features, view {view + 1}"
    with tqdm(total=len(images), desc=name, unit="image", leave=False, disable=None) as bar:
        loader = data.view_loader(images, view)
        for features in fetched(prefix(data.on_device(batch, prefix.device)[0]) for batch in loader):
            yield features
            bar.update(len(features))


def _prefix(trainer: Trainer, classifier: ImageClassifier, cut: str) -> FrozenPrefix:
    return FrozenPrefix(classifier.net, cut, trainer.strategy.root_device, trainer.precision_plugin.forward_context)


def _key(prefix: FrozenPrefix, images: ClassFolders, view: int | None) -> str:
    return feature_key(prefix.digest, images.digest, f"view {view}")


def _cost(prefix: FrozenPrefix, size: int) -> Cost:
    example, operations = prefix.probe(size)
    return Cost(operations, example.numel() * example.element_size(), prefix.device.type)
