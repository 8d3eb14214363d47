"""The options below `data` in conf/train.yaml. That file explains each option, and docs/data.md gives details."""

from dataclasses import dataclass
from typing import Any

from thaw.data.option_values import boolean, number, number_or_auto, one_of, share, whole_number
from thaw.data.preprocessing import TUTORIAL, Preprocessing
from thaw.data.splits import check_division

_MOST_WORKERS = 1024  # each worker is a process with its own memory


@dataclass(frozen=True)
class DataOptions:
    """Options of `thaw.data.datamodule.ImageFolderDataModule`.

    `num_workers="auto"` starts one loader process per usable core if batches go to a GPU, and no process otherwise.
    `device_gb="auto"` copies decoded images to a GPU if they fill at most a quarter of its memory. `pixels_gb="auto"`
    caches up to 4 GB of decoded images, or up to `device_gb` if that is more. `decoder="auto"` lets a GPU decode JPEG
    files if the decoded images fit into `device_gb`.

    Raises:
        UserError: if a value is out of range.

    """

    # How image files become inputs.
    image_size: int | None = None
    train_size: int | None = None
    crop_scale: tuple[float, float] = (0.08, 1.0)
    rotation: float = 15
    augment: bool = True
    preprocessing: Preprocessing = TUTORIAL
    grey_range: Any = "auto"  # resolve_grey_range checks this value
    # How images become splits.
    table: str | None = None
    val_fraction: float = 0.2
    folds: int | None = None
    fold: int = 0
    val_as_test: bool = False
    test: bool = True
    train_share: float = 1.0
    on_bad_image: str = "error"
    decoder: str = "auto"
    # How batches are made.
    batch_size: int = 32
    balance: str | None = None
    num_workers: int | str = "auto"
    pixels_gb: float | str = "auto"
    device_gb: float | str = "auto"

    def __post_init__(self):
        for name in ("image_size", "train_size"):
            if getattr(self, name) is not None:
                whole_number(f"data.{name}", getattr(self, name))
        whole_number("data.batch_size", self.batch_size)
        if self.num_workers != "auto":
            whole_number("data.num_workers", self.num_workers, 0, _MOST_WORKERS)
        share("data.train_share", self.train_share)
        number("data.rotation", self.rotation)
        for name in ("pixels_gb", "device_gb"):
            number_or_auto(f"data.{name}", getattr(self, name))
        for name in ("augment", "val_as_test", "test"):
            boolean(f"data.{name}", getattr(self, name))
        one_of("data.decoder", self.decoder, ("auto", "pillow"))
        one_of("data.balance", self.balance, (None, "weights", "sampler"))
        check_division(self.val_fraction, self.folds, self.fold)
        one_of("data.on_bad_image", self.on_bad_image, ("error", "skip"))

    @property
    def val_side(self) -> int:
        """The side of a validation image in pixels."""
        return self.preprocessing.crop if self.image_size is None else self.image_size

    @property
    def train_side(self) -> int:
        """The side of a training crop in pixels."""
        return self.val_side if self.train_size is None else self.train_size
