"""What a phase is trained on: images, or the features of its frozen stages, computed once."""

import logging
import sys
import time
from collections.abc import Iterator

import torch
from lightning import LightningDataModule, Trainer
from tqdm import tqdm

from thaw.data.datamodule import ImageFolderDataModule
from thaw.data.folders import ClassFolders
from thaw.errors import UserError
from thaw.features.cost import Cost, enough_views
from thaw.features.feature_data import FeatureDataModule
from thaw.features.prefix import FrozenPrefix, frozen_cut
from thaw.features.store import StoredFeatures, feature_key, in_memory, stored_features
from thaw.storage.cache import cache_dir
from thaw.strategy.phases import Phase
from thaw.training.classifier import ImageClassifier

log = logging.getLogger(__name__)

# In which a net can be computed outside of Lightning's loop just as within.
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

_VAL = "of validation images"  # in progress bars


class FeatureCache:
    """Stores the output of the stages that are frozen at a net's beginning, and hands it to training in their place.

    Of every training image `views` are kept, each augmented in its own way; epoch e (from 0) sees view `e % views`.
    With `auto` their number follows from the number of epochs, and features are used where they save time; with 0
    they never are, but by a phase that has a solver. What is kept takes at most `max_gb` gigabytes (10^9 bytes), of all
    runs together. `seconds` adds up what was spent on it.

    Raises:
        UserError: from the constructor, for values that make no sense.

    """

    def __init__(self, views: int | str = "auto", max_gb: float = 10):
        if views != "auto" and (type(views) is not int or views < 0):
            raise UserError(f"features.views={views!r} must be auto or a whole number of at least 0.")
        if type(max_gb) not in (int, float) or not 0 <= max_gb < float("inf"):
            raise UserError(f"features.max_gb={max_gb!r} must be a number of at least 0.")
        self.views = views
        self.max_size = max_gb * 1e9
        self.seconds = 0.0
        self._val: tuple[str, StoredFeatures] | None = None  # of the validation images, and their key

    def source(
        self, trainer: Trainer, classifier: ImageClassifier, phase: Phase, data: ImageFolderDataModule
    ) -> LightningDataModule:
        """What `phase` is trained on, `data` or features of it; `classifier` is told where they enter its net."""
        start, cut = time.perf_counter(), frozen_cut(classifier.net, phase)
        partly = trainer.limit_train_batches != 1 or trainer.limit_val_batches != 1
        unwanted = not phase.solver and (self.views == 0 or partly)
        if unwanted or cut is None or trainer.precision not in _PRECISIONS:
            _refuse_unsolvable(trainer, phase)
            return data
        prefix = _prefix(trainer, classifier, cut)
        train, val = (self._solved if phase.solver else self._trained)(prefix, phase, data, bool(classifier.mix))
        self._val = (_key(prefix, data.val, None), val) if val else None
        classifier.entries = {"train": cut if train else None, "val": cut if val else None}
        self.seconds += time.perf_counter() - start
        return FeatureDataModule(data, train, val)

    def _trained(
        self, prefix: FrozenPrefix, phase: Phase, data: ImageFolderDataModule, mixed: bool
    ) -> tuple[list[StoredFeatures], StoredFeatures | None]:
        """The views of training images, and the validation images, as far as features of them save time."""
        views, with_val = self._plan(prefix, phase, data, mixed)
        val = self._features(prefix, data, data.val, None, _VAL) if with_val else None
        return self._train_views(prefix, data, views), val

    def _solved(
        self, prefix: FrozenPrefix, phase: Phase, data: ImageFolderDataModule, mixed: bool
    ) -> tuple[list[StoredFeatures], StoredFeatures]:
        """Training images as validation sees them, then augmented views as the solver wants them; validation images."""
        views, cost = phase.solver.views, _cost(prefix, data.image_size)
        size = (len(data.train) * (1 + views) + len(data.val)) * cost.size
        if size > self.max_size:
            raise UserError(
                f"features.max_gb={self.max_size / 1e9:g} is too little for a phase with a solver, which needs the "
                f"features of all images at once: {size / 1e9:.1f} GB; raise it, or choose strategy=feature_extractor."
            )
        augmented = f" and {views} augmented views of each" if views else ""
        log.info(
            f"phase {phase.number}: features before {prefix.cut} are computed once: {len(data.train)} training images"
            f"{augmented}, {len(data.val)} validation images ({size / 1e6:.3g} MB)"
        )
        plain = self._features(prefix, data, data.train.seen_as(data.val), None, "of training images", needed=True)
        more = [
            self._features(prefix, data, data.train, v, f"view {v + 1} of {views}", needed=True) for v in range(views)
        ]
        return [plain, *more], self._features(prefix, data, data.val, None, _VAL, needed=True)

    def evaluation_source(
        self, trainer: Trainer, classifier: ImageClassifier, data: ImageFolderDataModule
    ) -> LightningDataModule:
        """What `classifier` predicts from: the validation features, if they are those of its present weights."""
        cut = classifier.entries["val"]
        if cut and self._val and _key(_prefix(trainer, classifier, cut), data.val, None) == self._val[0]:
            return FeatureDataModule(data, [], self._val[1])
        classifier.entries = dict.fromkeys(classifier.entries)
        return data

    def _plan(self, prefix: FrozenPrefix, phase: Phase, data: ImageFolderDataModule, mixed: bool) -> tuple[int, bool]:
        """The number of views, 0 for images, and whether validation features are used; the log says so."""
        train, val = _cost(prefix, data.train_size), _cost(prefix, data.image_size)
        epochs = phase.last - phase.first
        views, reason = self._affordable_views(train, epochs, data, mixed)
        size, val_size = len(data.train) * views * train.size, len(data.val) * val.size
        evaluated = phase.last == phase.total  # once more, at the run's end
        with_val = val.saved(epochs + evaluated, 1) > 0 and size + val_size <= self.max_size
        kept = [f"{views} view{'s' if views > 1 else ''} of {len(data.train)} training images"] if views else []
        kept += [f"{len(data.val)} validation images"] if with_val else []
        room = f"{(size + with_val * val_size) / 1e6:.3g} MB"
        told = f"its features are computed once for {' and '.join(kept)} ({room})" if kept else "no features are kept"
        log.info(f"phase {phase.number}: what comes before {prefix.cut} is frozen, {told}{reason}")
        return views, with_val

    def _affordable_views(self, cost: Cost, epochs: int, data: ImageFolderDataModule, mixed: bool) -> tuple[int, str]:
        """How many views are kept of training images; why none."""
        wanted = enough_views(epochs) if self.views == "auto" else self.views
        views = min(wanted, epochs if data.augment else 1)
        size = len(data.train) * views * cost.size
        if mixed:
            return 0, "; training images are mixed, which their features cannot be"
        if self.views == "auto" and cost.saved(epochs, views) <= 0:
            return 0, "; to keep those of training images would save no time"
        if size > self.max_size:
            return 0, f"; those of training images would take {size / 1e9:.1f} GB, and features.max_gb is less"
        return views, ""

    def _train_views(self, prefix: FrozenPrefix, data: ImageFolderDataModule, views: int) -> list[StoredFeatures]:
        kept = []
        for view in range(views):
            features = self._features(prefix, data, data.train, view, f"view {view + 1} of {views}")
            if features is None:
                return []
            kept.append(features)
        return kept

    def _features(
        self,
        prefix: FrozenPrefix,
        data: ImageFolderDataModule,
        images: ClassFolders,
        view: int | None,
        name: str,
        needed: bool = False,
    ) -> StoredFeatures | None:
        """None if they cannot be written; those that are `needed` are kept in memory then."""
        example, _ = prefix.probe(data.image_size if view is None else data.train_size)

        def batches() -> Iterator[torch.Tensor]:
            data.prepare_pixels()
            hidden = not sys.stderr.isatty()
            with tqdm(total=len(images), desc=f"features, {name}", unit="image", leave=False, disable=hidden) as bar:
                for batch in data.once(images, view):
                    batch = data.transfer_batch_to_device(batch, prefix.device, 0)
                    pixels, _ = data.on_after_batch_transfer(batch, 0)
                    yield prefix(pixels)
                    bar.update(len(pixels))

        try:
            return stored_features(_key(prefix, images, view), example, len(images), self.max_size, batches)
        except OSError as error:
            instead = "they stay in memory" if needed else "images are used instead"
            log.warning(f"features cannot be kept in {cache_dir()} ({error.strerror or error}): {instead}")
            return in_memory(batches()) if needed else None


def _refuse_unsolvable(trainer: Trainer, phase: Phase) -> None:
    if phase.solver:
        raise UserError(
            f"trainer.precision={trainer.precision} does not go with a phase that has a solver; the choices are auto, "
            f"{', '.join(_PRECISIONS)}."
        )


def _prefix(trainer: Trainer, classifier: ImageClassifier, cut: str) -> FrozenPrefix:
    return FrozenPrefix(classifier.net, cut, trainer.strategy.root_device, trainer.precision_plugin.forward_context)


def _key(prefix: FrozenPrefix, images: ClassFolders, view: int | None) -> str:
    return feature_key(prefix.digest, images.digest, f"view {view}")


def _cost(prefix: FrozenPrefix, size: int) -> Cost:
    example, operations = prefix.probe(size)
    return Cost(operations, example.numel() * example.element_size(), prefix.device.type)
