"""How images are resized for a net: as for its published weights, as in the tutorial, or small for the demo."""

import torchvision

from thaw.data.preprocessing import TUTORIAL, Preprocessing
from thaw.models.backbones import check_name, names, smallest_image
from thaw.models.families import timm_nets
from thaw.models.families.caffe import CAFFE_RESNETS

_DEMO_SIZE = 64  # little is drawn that would be lost at this size, and a CPU is done soon


def published_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return what the published weights of `name` were evaluated with; `builder` is the path of what builds the net.

    A net of one's own that has a name of its own, too, gets the tutorial's.

    Raises:
        UserError: for a name that is unknown.

    """
    name = _full_name(name, builder)
    if timm_nets.is_timms(name):
        return timm_nets.published_preprocessing(name)
    if _is_foreign(name, builder) or name in CAFFE_RESNETS:
        return TUTORIAL
    check_name(name)
    published = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    return Preprocessing(published.resize_size[0], published.crop_size[0], published.interpolation.value)


def tutorial_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return the tutorial's, 256 pixels to 224 and bilinear, for the size of images that `name` was published for."""
    return TUTORIAL.scaled(published_preprocessing(name, builder).crop)


def demo_preprocessing(name: str, builder: str = "") -> Preprocessing:
    """Return the tutorial's for the drawn animals."""
    return TUTORIAL.scaled(demo_size(name, builder))


def demo_size(name: str, builder: str = "") -> int:
    """The side, in pixels, of the drawn animals: small, unless the net needs more."""
    name = _full_name(name, builder)
    if _is_foreign(name, builder):
        return _DEMO_SIZE
    if not timm_nets.is_timms(name):
        check_name(name)
    return smallest_image(name, _DEMO_SIZE)


def _full_name(name: str, builder: str) -> str:
    is_timms = builder.endswith(timm_nets.build_timm_net.__name__)
    return timm_nets.PREFIX + name.removeprefix(timm_nets.PREFIX) if is_timms else name


def _is_foreign(name: str, builder: str) -> bool:
    return bool(builder) and not builder.startswith("thaw.") and name not in names()
