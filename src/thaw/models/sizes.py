"""A network's preprocessing: as published with its weights, as in the cats-and-dogs tutorial, or small for the demo."""

from thaw.data.preprocessing import TUTORIAL, Preprocessing
from thaw.models.backbones import family_of, is_own
from thaw.models.families.timm import full_name

_DEMO_SIZE = 64  # pixels; the demo's drawings have no finer details, and a CPU trains fast at this size


def published_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return the preprocessing with which the published weights of `name` were evaluated.

    `builder` is the import path of the function that builds the network. A custom network with an unknown name
    gets `TUTORIAL`: resize 256, crop 224, bilinear.

    Raises:
        UserError: if `name` is unknown and the network is not a custom one.

    """
    name = full_name(name, builder)
    return family_of(name, is_own(builder)).published_preprocessing(name)


def tutorial_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return `TUTORIAL` (resize 256, crop 224), scaled to the published image size of `name`."""
    return TUTORIAL.scaled(published_preprocessing(name, builder).crop)


def demo_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return `TUTORIAL` (resize 256, crop 224), scaled to the image size of the demo."""
    return TUTORIAL.scaled(demo_size(name, builder))


def demo_size(name: str, builder: str = "") -> int:
    """Return the side of the demo's images in pixels: 64, or more if the network needs larger images."""
    name = full_name(name, builder)
    return family_of(name, is_own(builder)).smallest_image(name, _DEMO_SIZE)
