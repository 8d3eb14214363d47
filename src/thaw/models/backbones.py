"""Build a network from its name, such as resnet34 or timm/vit_tiny_patch16_224."""

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

    Networks with position embeddings or fixed windows accept only images of `image_size` pixels. The default is 224 or,
    for timm's networks, timm's published size. Other networks also accept larger images.

    Raises:
        UserError: if `name` is unknown, or `image_size` does not fit the network.

    """
    return family_of(name).build(name, num_classes, image_size)


def family_of(name: str, own: bool = False) -> Family:
    """Return the `Family` that builds and loads the network `name`.

    With `own`, an unknown name belongs to a custom network; the result is then a plain `Family()`.

    Raises:
        UserError: if the name is unknown and `own` is false; the message lists the choices.

    """
    family = next((family for family in FAMILIES if family.has(name)), Family() if own else None)
    if family is None:
        choices = ", ".join(choice for family in FAMILIES for choice in family.names())
        raise UserError(f"model.name={name!r} is unknown; the choices are {choices}.")
    return family


def is_own(builder: str | None) -> bool:
    """Return whether a network's builder function, given by its import path, is code outside Thaw."""
    return bool(builder) and not builder.startswith("thaw.")
