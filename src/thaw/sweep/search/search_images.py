"""The images on which a search compares trials, and the images that it holds back until the winner is decided."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from thaw.errors import UserError
from thaw.runs.components import instantiate
from thaw.runs.configuration import as_hydra_config
from thaw.sweep.search.search_setup import Plan


@dataclass(frozen=True)
class SearchImages:
    """Images of a search.

    Attributes:
        trial: overrides by which a trial neither reads nor validates on the unseen images.
        final: overrides by which a run of the last stage has them as test images.
        chosen_on: in words, the images that the search chooses by, and the unseen ones.
        fingerprint: changes with the images.

    """

    trial: list[str]
    final: list[str]
    chosen_on: tuple[str, str]
    fingerprint: dict


def search_images(compose: Callable[[Sequence[str]], DictConfig], plan: Plan) -> SearchImages:
    """Return what the search chooses by: without test images, a part of the training images.

    Raises:
        UserError: if the images cannot be divided.

    """
    cfg = compose([*plan.fixed, *next(iter(plan.space.backbones.values()))])
    with as_hydra_config(cfg):
        data = instantiate(cfg.data)
    if data.label_sets.several:
        raise UserError("sweep=search needs images with one class each; use sweep=shortlist, then sweep=strategies.")
    # Trials skip the test on corrupted images, which takes 13 times as many predictions.
    quick = ["robustness=false"] if cfg.robustness else []
    if data.test:
        return SearchImages(
            ["data.test=false", *quick], [], ("the validation images", "the images in test/"), data.fingerprint
        )
    held = ["data.val_as_test=true"]
    cfg = compose([*plan.fixed, *held, *next(iter(plan.space.backbones.values()))])
    with as_hydra_config(cfg):
        instantiate(cfg.data)  # there may be too few images for another division
    chosen_on = "a part of the training images", "the validation images"
    return SearchImages([*held, "data.test=false", *quick], held, chosen_on, data.fingerprint)
