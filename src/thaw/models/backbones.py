"""Networks by name, each built by its family."""

from thaw.errors import UserError
from thaw.models.families.caffe import Caffe
from thaw.models.families.family import Family
from thaw.models.families.lite import Lite
from thaw.models.families.timm import Timm
from thaw.models.families.torchvision import Torchvision
from thaw.models.staged import StagedNet

FAMILIES: tuple[Family, ...] = (Torchvision(), Caffe(), Lite(), Timm())


def build_net(name: str, num_classes: int, image_size: int | None = None) -> StagedNet:
    """Build a randomly initialised network with a head of `num_classes` outputs, for images of `image_size` pixels.

    Most networks also accept larger images. For a network of one fixed size (see `StagedNet.check_sizes`), the default
    is 224 pixels, or the size that timm publishes.

    Raises:
        UserError: for an unknown name, or an image size that does not fit the network.

    """
    return family_of(name).build(name, num_classes, image_size)


def family_of(name: str, own: bool = False) -> Family:
    """Return the family of the network `name`; with `own`, an unknown name belongs to a custom network.

    Raises:
        UserError: if no family has the network; the message lists the choices.

    """
    family = next((family for family in FAMILIES if family.has(name)), Family() if own else None)
    if family is None:
        choices = ", ".join(choice for family in FAMILIES for choice in family.names())
        raise UserError(f"model.name={name!r} is unknown; the choices are {choices}.")
    return family


def is_own(builder: str | None) -> bool:
    """Return whether `builder`, the import path of the function that builds a network, is code outside Thaw."""
    return bool(builder) and not builder.startswith("thaw.")
