"""How images are resized for a net: as for its published weights, as in the tutorial, or small for the demo."""

from thaw.data.preprocessing import TUTORIAL, Preprocessing
from thaw.models.backbones import family_of, is_own
from thaw.models.families.timm import known_as

_DEMO_SIZE = 64  # little is drawn that would be lost at this size, and a CPU is done soon


def published_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return what the published weights of `name` were evaluated with; `builder` is the path of what builds the net.

    A net of one's own that has a name of its own, too, gets the tutorial's.

    Raises:
        UserError: for a name that is unknown.

    """
    name = known_as(name, builder)
    return family_of(name, is_own(builder)).published_preprocessing(name)


def tutorial_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return the tutorial's, 256 pixels to 224 and bilinear, for the size of images that `name` was published for."""
    return TUTORIAL.scaled(published_preprocessing(name, builder).crop)


def demo_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return the tutorial's for the drawn animals."""
    return TUTORIAL.scaled(demo_size(name, builder))


def demo_size(name: str, builder: str = "") -> int:
    """Return the side, in pixels, of the drawn animals: small, unless the net needs more."""
    name = known_as(name, builder)
    return family_of(name, is_own(builder)).smallest_image(name, _DEMO_SIZE)
