"""Decode JPEG files on a GPU with nvJPEG, many at a time, and other files with Pillow."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image

from thaw.data.grey import GreyRange
from thaw.data.images import load_rgb, named_fault, reduced_size
from thaw.data.jpeg_header import plain_jpeg
from thaw.data.workers import in_threads_ahead
from thaw.storage.versions import library_version

_FILES_AT_ONCE = 256
_FILES_PER_TASK = 16  # files that a thread reads at a time
_READERS = 2  # threads; more of them would mostly wait for Python's lock
_SAMPLE = 64  # files that are read to find out whether a data set consists of JPEG files
_ENOUGH = 0.9  # share of the sampled files that must be JPEG files

Decode = Callable[[list[torch.Tensor]], list[torch.Tensor]]  # files, uint8 (bytes,) -> RGB images, uint8 (3, H, W)


@dataclass(frozen=True)
class JpegDecoder:
    """A JPEG decoder on `device`. Cache keys contain `name`, because decoders can differ by one grey level."""

    name: str
    decode: Decode
    device: torch.device

    def groups(
        self, paths: Iterable[str], short_side: int | None, grey_range: GreyRange = None
    ) -> Iterator[list[torch.Tensor]]:
        """Yield the images in groups. An image is upright, uint8 (3, H, W) on the device, and not above `short_side`.

        Raises:
            UnreadableImageError: if an image cannot be decoded; the message contains the image's path.

        """
        rest = iter(paths)
        parts = iter(lambda: list(islice(rest, _FILES_PER_TASK)), [])
        read = partial(_contents, short_side=short_side, grey_range=grey_range)
        ahead = 2 * _FILES_AT_ONCE // _FILES_PER_TASK
        contents = chain.from_iterable(in_threads_ahead(read, parts, ahead, _READERS))
        while group := list(islice(contents, _FILES_AT_ONCE)):
            yield self._decoded(group, short_side, grey_range)

    def _decoded(
        self, group: list[tuple[str, torch.Tensor]], short_side: int | None, grey_range: GreyRange
    ) -> list[torch.Tensor]:
        files = [content for _, content in group if content.ndim == 1]
        try:
            decoded = iter(self.decode(files) if files else [])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # a file is damaged: decode the group with Pillow, whose error names the file
            group = [(path, _pixels(path, short_side, grey_range)) for path, _ in group]
            decoded = iter([])
        return [
            _reduced(next(decoded), short_side) if content.ndim == 1 else content.to(self.device).permute(2, 0, 1)
            for _, content in group
        ]


def jpeg_decoder(device: torch.device) -> JpegDecoder | None:
    """Return the GPU decoder of torchcodec or, if that is missing, of torchvision < 0.29; None if there is neither."""
    return (_torchcodec(device) or _torchvision(device)) if device.type == "cuda" else None


def are_jpegs(paths: Sequence[str]) -> bool:
    """Return whether nearly all files in a sample of `paths` are JPEGs that a GPU can decode."""
    step = max(1, len(paths) // _SAMPLE)
    sample = paths[::step]
    return sum(plain_jpeg(Path(path).read_bytes()) is not None for path in sample) >= _ENOUGH * len(sample)


def _torchcodec(device: torch.device) -> JpegDecoder | None:
    try:
        from torchcodec.decoders import decode_jpeg  # pyright: ignore[reportMissingImports]  # an optional package
    except (ImportError, OSError, RuntimeError):  # OSError, RuntimeError: torchcodec was built for another torch
        return None
    decode = partial(decode_jpeg, mode="RGB", device=device)
    return JpegDecoder(f"torchcodec {library_version('torchcodec')}", decode, device)


def _torchvision(device: torch.device) -> JpegDecoder | None:
    if tuple(map(int, torchvision.__version__.split(".")[:2])) >= (0, 29):  # deprecated from 0.29 on
        return None
    from torchvision.io import ImageReadMode, decode_jpeg

    decode: Any = partial(decode_jpeg, mode=ImageReadMode.RGB, device=device)
    return JpegDecoder(f"torchvision {torchvision.__version__}", decode, device)


def _contents(paths: Sequence[str], short_side: int | None, grey_range: GreyRange) -> list[tuple[str, torch.Tensor]]:
    """Return (path, uint8 content): the file's bytes (bytes,) if a GPU can decode them, else pixels (H, W, 3)."""
    return [(path, _read(path, short_side, grey_range)) for path in paths]


def _read(path: str, short_side: int | None, grey_range: GreyRange) -> torch.Tensor:
    with named_fault(path), open(path, "rb", buffering=0) as file:  # not a pipe: `file_digests` refuses pipes
        content = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
        content = content[: file.readinto(content.data)]
    size, most = plain_jpeg(content.data), Image.MAX_IMAGE_PIXELS
    if size and (most is None or size.width * size.height <= most):
        return torch.from_numpy(content)
    return _pixels(path, short_side, grey_range)


def _pixels(path: str, short_side: int | None, grey_range: GreyRange) -> torch.Tensor:
    return torch.from_numpy(np.array(load_rgb(path, short_side, grey_range=grey_range)))


def _reduced(image: torch.Tensor, short_side: int | None) -> torch.Tensor:
    height, width = image.shape[1:]
    new_width, new_height = reduced_size((width, height), short_side)
    if (new_height, new_width) == (height, width):
        return image
    smaller = F.interpolate(image[None].float(), (new_height, new_width), mode="bilinear", antialias=True)
    return smaller[0].round().clamp(0, 255).to(torch.uint8)
