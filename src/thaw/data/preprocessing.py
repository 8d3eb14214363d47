"""Settings of the preprocessing that a network expects, as plain values that checkpoints can contain."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Preprocessing:
    """Resize the short side to `resize` pixels, then keep the centre of `crop` x `crop` pixels.

    `interpolation` is a value of torchvision's `InterpolationMode`; old checkpoints lack it and used "bilinear".
    `grey_range` says which values become black and white in grey images of more than 8 bits (`thaw.data.grey`). Mean
    and standard deviation are not part of the preprocessing, because the network normalises its own input.
    """

    resize: int
    crop: int
    interpolation: str = "bilinear"
    grey_range: tuple[float, float] | None = None

    def scaled(self, crop: int) -> "Preprocessing":
        """Return a copy for another crop size; `resize` changes in proportion."""
        return self if crop == self.crop else replace(self, resize=round(crop * self.resize / self.crop), crop=crop)


TUTORIAL = Preprocessing(resize=256, crop=224)
