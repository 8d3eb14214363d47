"""Build the parts of a run, such as data, network and Trainer, from its configuration."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from lightning import Trainer
from omegaconf import DictConfig

from thaw.data.datamodule import ImageFolderDataModule
from thaw.models.head import NewHead
from thaw.models.staged import StagedNet
from thaw.models.weights import weights_origin
from thaw.runs.components import instantiate
from thaw.strategy import Phase
from thaw.training.best import choose_monitors
from thaw.training.classifier import ImageClassifier, Recipe
from thaw.training.hardware import memory_format
from thaw.training.phase_data import FeatureCache
from thaw.training.precision import bf16_suits
from thaw.training.rehearsal import check_net, rehearse


@dataclass(frozen=True)
class Parts:
    """The parts of a run. `weights` is the source of the pretrained weights, or `none` for random weights."""

    data: ImageFolderDataModule
    net: StagedNet
    phases: Sequence[Phase]
    trainer: Trainer
    classifier: ImageClassifier
    features: FeatureCache
    head: NewHead
    weights: str

    @property
    def sources(self) -> dict[str, object]:
        """The entries of the summary about the weights with which the run begins."""
        origin = weights_origin(self.net, self.weights)
        return {"weights": self.weights, "pretrained": asdict(origin) if origin else None}


def assemble(cfg: DictConfig, data: ImageFolderDataModule) -> Parts:
    """Build all parts of a run, and try each phase on dummy data before the run writes a file.

    Raises:
        UserError: if the parts do not work together.

    """
    net = instantiate(cfg.model, num_classes=len(data.classes), image_size=min(data.image_size, data.train_size))
    check_net(net, data)
    strategy = instantiate(cfg.strategy)
    phases = strategy.schedule(net, cfg.trainer.max_epochs, cfg.lr_factor)
    trainer = instantiate(cfg.trainer, bf16_suits=bf16_suits(net, phases, data.image_size))
    weights = cfg.weights if strategy.pretrained else "none"
    recipe = build_recipe(
        cfg,
        class_weights=data.class_weights,
        mix=instantiate(cfg.mix, num_classes=len(data.classes)),
        keep_statistics=strategy.keep_statistics and weights != "none",
        graph=cfg.graph,
    )
    classifier = ImageClassifier(net, data.classes, recipe, asdict(data.preprocessing), data.label_sets)
    choose_monitors(trainer, classifier.objective.decisive)
    features, head = instantiate(cfg.features), instantiate(cfg.head)
    rehearse(trainer, classifier, phases, data)
    return Parts(data, net, phases, trainer, classifier, features, head, weights)


def build_recipe(cfg: DictConfig, **options: Any) -> Recipe:
    """Build a recipe with the configured optimizer, scheduler and loss; `options` are the recipe's other fields."""
    optimizer, scheduler, loss = (instantiate(part) for part in (cfg.optimizer, cfg.scheduler, cfg.loss))
    if isinstance(loss, partial):  # Hydra's partial makes a check at every call, which takes 0.3 ms
        loss = partial(loss.func, *loss.args, **loss.keywords)
    return Recipe(optimizer, scheduler, loss, **options)


def finish_net(parts: Parts, channels_last: str | bool, compiled: bool) -> None:
    """Install the new head, set the memory layout and compile the network. Call this after loading weights."""
    if parts.weights != "none" or all(len(phase.groups) == 1 for phase in parts.phases):
        parts.head.install(parts.net)
    parts.net.to(memory_format=memory_format(channels_last))  # type: ignore[call-overload]  # torch's stub lacks it
    if compiled:
        parts.net.compile()
