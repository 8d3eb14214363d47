"""Where a run keeps decoded images: on the device, in the cache, or nowhere."""

import logging
from functools import cached_property

import torch
from lightning import Trainer

from thaw.data.data_options import DataOptions
from thaw.data.device_pixels import device_bytes
from thaw.data.folders import ClassFolders
from thaw.data.gpu_jpegs import are_jpegs, jpeg_decoder

log = logging.getLogger(__name__)


class PreparedPixels:
    """Mixin that decodes a data module's images only once. The data module sets the attributes."""

    train: ClassFolders
    val: ClassFolders
    options: DataOptions
    trainer: Trainer | None
    _pixels_prepared = False

    @property
    def feeds_gpu(self) -> bool:
        """Whether batches go to a GPU; without a Trainer, whether this machine has a GPU."""
        return self.trainer.strategy.root_device.type == "cuda" if self.trainer else torch.cuda.is_available()

    def attach(self, trainer: Trainer) -> None:
        """Set the Trainer. If all decoded images fit on its GPU, and nearly all are JPEGs, let this GPU decode them."""
        self.trainer = trainer
        decoder = jpeg_decoder(self.device) if self.options.decoder == "auto" else None
        splits = self.train, self.val
        if decoder and sum(self._decoded_sizes) <= self._device_limit and all(are_jpegs(one.paths) for one in splits):
            for images in splits:
                images.use_decoder(decoder)
            log.info(f"JPEG files are decoded on the GPU by {decoder.name} (data.decoder)")

    def prepare_pixels(self) -> None:
        """Decode all images once, on the device or into the cache, if they fit."""
        if not self._pixels_prepared:
            for images in (self.train, self.val):
                images.decode_on_device()
            if not self.train.is_on_device and self._pixels_limit:
                self._store_pixels()
            self._pixels_prepared = True

    @cached_property
    def _decoded_sizes(self) -> list[int]:
        return [images.decoded_size() for images in (self.train, self.val)]

    def _store_pixels(self) -> None:
        limit, sizes = self._pixels_limit, self._decoded_sizes
        if sum(sizes) > limit:
            log.info(
                f"images are decoded for every epoch: decoded images would take {sum(sizes) / 1e9:.1f} GB, "
                f"more than data.pixels_gb={limit / 1e9:.3g}"
            )
            return
        for images, size in zip((self.train, self.val), sizes, strict=True):
            images.store_decoded(size, limit)
            if sum(sizes) <= self._device_limit:
                images.move_decoded(self.device)

    @property
    def device(self) -> torch.device:
        """The device that batches are moved to: the Trainer's device, or the CPU without a Trainer."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @property
    def _device_limit(self) -> float:
        return device_bytes(self.options.device_gb, self.device)

    @property
    def _pixels_limit(self) -> float:
        chosen = self.options.pixels_gb
        return max(4e9, self._device_limit) if isinstance(chosen, str) else chosen * 1e9
