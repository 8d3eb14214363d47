"""The side, in pixels, of the images that a net should see."""

import torchvision

from thaw.models import timm_nets
from thaw.models.backbones import check_name, smallest_image
from thaw.models.caffe import CAFFE_RESNETS

_DEMO_SIZE = 64  # little is drawn that would be lost at this size, and a CPU is done soon


def published_size(name: str, builder: str = "") -> int:
    """Of the images that the net's published weights are meant for; `builder` is the path of what builds the net.

    Raises:
        UserError: for a name that is unknown.

    """
    name = _full_name(name, builder)
    if name.startswith(timm_nets.PREFIX):
        return timm_nets.published_size(name)
    check_name(name)
    if name in CAFFE_RESNETS:
        return 224
    return torchvision.models.get_model_weights(name).DEFAULT.transforms.keywords["crop_size"]


def demo_size(name: str, builder: str = "") -> int:
    """Of the drawn animals: small, unless the net needs more."""
    name = _full_name(name, builder)
    if not name.startswith(timm_nets.PREFIX):
        check_name(name)
    return smallest_image(name, _DEMO_SIZE)


def _full_name(name: str, builder: str) -> str:
    is_timms = builder.endswith(timm_nets.build_timm_net.__name__)
    return timm_nets.PREFIX + name.removeprefix(timm_nets.PREFIX) if is_timms else name
