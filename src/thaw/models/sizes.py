"""Preprocessing for a network: as published with its weights, as in the tutorial, or small for the demo."""

from thaw.data.preprocessing import TUTORIAL, Preprocessing
from thaw.models.backbones import family_of, is_own
from thaw.models.families.timm import full_name

_DEMO_SIZE = 64  # pixels; the drawings have no finer details, and a CPU is fast at this size


def published_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return the preprocessing with which the published weights of `name` were evaluated.

    `builder` is the import path of the function that builds the network. A custom network with a name that no family
    knows gets the tutorial's preprocessing.

    Raises:
        UserError: for an unknown name.

    """
    name = full_name(name, builder)
    return family_of(name, is_own(builder)).published_preprocessing(name)


def tutorial_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return the tutorial's preprocessing, 256 to 224 pixels and bilinear, scaled to the published size of `name`."""
    return TUTORIAL.scaled(published_preprocessing(name, builder).crop)


def demo_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return the tutorial's preprocessing, scaled to the size of the drawn animals."""
    return TUTORIAL.scaled(demo_size(name, builder))


def demo_size(name: str, builder: str = "") -> int:
    """Return the side, in pixels, of the drawn animals: small, unless the network needs larger images."""
    name = full_name(name, builder)
    return family_of(name, is_own(builder)).smallest_image(name, _DEMO_SIZE)
