"""Print a table with the highest speed of each part of training on one device: python -m thaw.benchmark.gpu."""

import argparse
import statistics
from collections.abc import Callable

import numpy as np
import torch
from hydra.utils import instantiate

from thaw.benchmark.ceiling import build_step, compose_config, step_seconds
from thaw.data.device_pixels import DevicePixels
from thaw.data.rotation import rotate
from thaw.data.transforms import TrainTransform
from thaw.features.prefix import FrozenPrefix

_PHOTOGRAPHS, _SHAPE = 64, (375, 500)


def main() -> None:
    options = _options()
    common = ["data.root=.", f"model={options.model}", "weights=none"]
    common += [f"data.{name}={options.size}" for name in ("image_size", "train_size")]
    for batch in options.batches:
        for graph in ("false", "auto"):
            chosen = [f"data.batch_size={batch}", f"graph={graph}", "strategy=fine_tune"]
            step, device = build_step(compose_config([*common, *chosen]), classes=2)
            _print(f"step, batch {batch}, graph={graph}", batch, step, device, options.seconds)
        _print(f"frozen pass, batch {batch}", batch, *_frozen_pass(common, options.size, batch), options.seconds)
        _print(f"crops on the device, batch {batch}", batch, *_crops(common, options.size, batch), options.seconds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m thaw.benchmark.gpu", description=__doc__)
    parser.add_argument("--model", default="resnet34", help="a name in conf/model (resnet34)")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels (224)")
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 32, 256], help="batch sizes (4 32 256)")
    parser.add_argument("--seconds", type=float, default=5, help="time for each row (5)")
    return parser.parse_args()


def _frozen_pass(common: list[str], size: int, batch: int) -> tuple[Callable[[], object], torch.device]:
    cfg = compose_config(common)
    trainer = instantiate(cfg.trainer)
    device = trainer.strategy.root_device
    net = instantiate(cfg.model, num_classes=2, image_size=size).to(memory_format=torch.channels_last).eval()
    prefix = FrozenPrefix(net, net.head_name, device, trainer.precision_plugin.forward_context)
    images = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8, device=device)
    return lambda: prefix(images), device


def _crops(common: list[str], size: int, batch: int) -> tuple[Callable[[], object], torch.device]:
    device = instantiate(compose_config(common).trainer).strategy.root_device
    random, shapes = np.random.default_rng(0), np.tile(_SHAPE, (_PHOTOGRAPHS, 1))
    pixels = DevicePixels(torch.randint(256, (3 * shapes.prod(1).sum(),), dtype=torch.uint8, device=device), shapes)
    transform = TrainTransform(size, (0.08, 1.0), 15)

    def crop() -> object:
        indices, seeds = random.integers(_PHOTOGRAPHS, size=batch).tolist(), random.integers(2**63, size=batch).tolist()
        crops = transform.of_batch(pixels.batch(indices), seeds)
        assert crops is not None, "bilinear crops are made on every device"
        return rotate(type(crops)(*(part.to(device) for part in crops)))

    return crop, device


def _print(name: str, images: int, step: Callable[[], object], device: torch.device, seconds: float) -> None:
    rate = images / statistics.median(step_seconds(step, device, seconds))
    print(f"{name:<32} {rate:>10,.0f} images/s  {1000 * images / rate:>8.2f} ms", flush=True)


if __name__ == "__main__":
    main()
