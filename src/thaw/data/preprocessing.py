"""How an image is made to fit a net, as plain values."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Preprocessing:
    """The short side is resized to `resize` pixels, then `crop` x `crop` pixels are cut out of the middle.

    `interpolation` is a value of torchvision's `InterpolationMode`; checkpoints that name none are older than the
    choice, and mean bilinear. `grey_range` says what becomes black and white in grey of more than 8 bits
    (`thaw.data.grey`). Mean and standard deviation are no part of it: the net normalises its own input.
    """

    resize: int
    crop: int
    interpolation: str = "bilinear"
    grey_range: tuple[float, float] | None = None

    def scaled(self, crop: int) -> "Preprocessing":
        """Return the same for another crop, with `resize` in proportion."""
        return self if crop == self.crop else replace(self, resize=round(crop * self.resize / self.crop), crop=crop)


TUTORIAL = Preprocessing(resize=256, crop=224)
