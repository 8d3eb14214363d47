"""Builds the Lightning Trainer and runs it over the phases of a strategy."""

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException

from thaw.data.datamodule import ImageFolderDataModule
from thaw.errors import UserError
from thaw.runs.stopping import Stopped, stop_signals
from thaw.storage.checkpoints import read_checkpoint
from thaw.strategy.phases import Phase
from thaw.training.checkpoint_io import AtomicCheckpointIO
from thaw.training.classifier import ImageClassifier
from thaw.training.faults import FiniteNumbers, OneFault
from thaw.training.hardware import best_precision, check_accelerator, keep_freed_memory
from thaw.training.head_fitting import scale_head, solve_head
from thaw.training.interruption import Continuation, RunTimer, StepStop
from thaw.training.invariants import FrozenProof, SeededSteps
from thaw.training.loggers import shield
from thaw.training.phase_data import FeatureCache

log = logging.getLogger(__name__)

# What Lightning says of every run of ours, and why it is meant to be so.
_EXPECTED_WARNINGS = (
    r".*does not have many workers.*",  # there are as many as help (thaw.data.datamodule)
    r".*module\(s\) in eval mode.*",  # frozen stages are
    r".*Checkpoint directory .* exists and is not empty.*",  # from the second phase on it does
    r".*your dataloader is not resumable.*",  # its sampler is (thaw.training.interruption)
    r".*LeafSpec.*is deprecated.*",  # Lightning 2.6 asks newer PyTorch in an older way
    r".*GPU available but not used.*",  # where trainer.accelerator says so
    r".*callbacks used to create the checkpoint need to be provided.*",  # a limit of time may be lifted
)


def build_trainer(
    accelerator: str = "auto",
    precision: str | int = "auto",
    callbacks: Sequence[Callback | None] = (),
    max_time: str | dict | None = None,
    bf16_suits: bool = True,
    **options,
) -> Trainer:
    """A Trainer whose precision, if `auto`, is the fastest that the hardware has; `options` are Lightning's own.

    `bf16_suits` says whether a CPU should use bfloat16 for the net (`thaw.training.precision`).

    Raises:
        UserError: if a GPU is asked for and there is none.

    """
    check_accelerator(accelerator)
    keep_freed_memory()
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    for message in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    if not options.get("logger"):
        callbacks = [one for one in callbacks if not isinstance(one, LearningRateMonitor)]  # it refuses to go without
    return Trainer(
        accelerator=accelerator,
        precision=best_precision(accelerator, bf16_suits) if precision == "auto" else precision,
        callbacks=[*filter(None, callbacks), *_own_callbacks(max_time)],
        enable_progress_bar=False,  # thaw.training.callbacks has one bar for training and validation
        enable_model_summary=False,  # the table of stages says more
        plugins=[AtomicCheckpointIO(), *_cluster()],
        use_distributed_sampler=False,  # thaw.data.folders.SeededOrder divides the images
        num_sanity_val_steps=0,  # folders are checked before, and epochs are short
        **options,
    )


def _own_callbacks(max_time: str | dict | None) -> list[Callback]:
    timer = [RunTimer(max_time)] if max_time else []
    return [*timer, StepStop(), Continuation(), SeededSteps(), FrozenProof(), FiniteNumbers(), OneFault()]


def _cluster() -> list[SLURMEnvironment]:
    """SLURM without Lightning's own way of running a job again, which knows of no phases; docs/clusters.md has ours."""
    by_slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()  # torchrun may be what SLURM starts
    return [SLURMEnvironment(auto_requeue=False)] if by_slurm else []


def fit(
    trainer: Trainer,
    classifier: ImageClassifier,
    phases: Sequence[Phase],
    data: ImageFolderDataModule,
    checkpoint: Path | None = None,
    features: FeatureCache | None = None,
    begin: Callable[[], None] = lambda: None,
) -> None:
    """Train phase after phase; epochs and steps count on. With a `checkpoint` the run goes on from where it was saved.

    With `features`, what is frozen is computed once where that is quicker. `begin()` is called once, when everything
    has been read that can be read beforehand, and nothing has been written.

    Raises:
        FrozenTensorError: if something frozen is not what it was before.

    """
    data.trainer = trainer  # which Lightning sets later, and features are computed before
    done = begun = 0
    all_read = False
    if checkpoint:
        done, begun = epochs_done(checkpoint), classifier.restore(read_checkpoint(checkpoint))
    for phase in phases:
        if phase.last <= done and phase is not phases[-1]:
            continue
        classifier.start(phase)
        trainer.fit_loop.max_epochs = phase.last
        source = features.source(trainer, classifier, phase, data) if features else data
        if not all_read:
            if source is data:
                data.prepare_pixels()
            _ = data.fingerprint  # which reads every file that has not been read yet
            begin()
            shield(trainer)
            all_read = True
        if not begun:
            scale_head(trainer, classifier, source, data)
        if phase.solver and phase.number > begun:
            solve_head(trainer, classifier, source, data.seed)
        begun = phase.number
        in_full = _fit_phase(trainer, classifier, source, checkpoint)
        checkpoint = None
        if not in_full:
            log.info(f"training ends early, after epoch {trainer.current_epoch}")
            break


def _fit_phase(
    trainer: Trainer, classifier: ImageClassifier, source: LightningDataModule, checkpoint: Path | None
) -> bool:
    """Whether the run goes on: early stopping and the limit of time hold for all of it.

    Raises:
        Stopped: if a signal has ended it, when its last checkpoint is written.

    """
    try:
        with stop_signals.awaited():
            trainer.fit(classifier, datamodule=source, ckpt_path=checkpoint, weights_only=True)
    except SIGTERMException as stop:
        if stop_signals.received:
            raise Stopped(stop_signals.received) from stop
        return False
    return not trainer.should_stop


def one_device(trainer: Trainer) -> Trainer:
    """`trainer`, or in its place one that computes the same in this process alone."""
    if trainer.world_size == 1:
        return trainer
    accelerator = "cuda" if trainer.strategy.root_device.type == "cuda" else "cpu"
    return build_trainer(accelerator, trainer.precision, devices=1, logger=False, enable_checkpointing=False)


def last_checkpoint(folder: str) -> Path | None:
    """What the run in `folder` saved last, if it did."""
    path = Path(folder) / "checkpoints" / "last.ckpt"
    return path if path.is_file() else None


def epochs_done(checkpoint: Path) -> int:
    """How many epochs were trained when `checkpoint` was saved."""
    return _progress(checkpoint)["epoch_progress"]["current"]["processed"]


def refuse_fewer_epochs(run: Path, checkpoint: Path, max_epochs: int) -> None:
    """Raises: UserError: if the run in `run` has trained for more epochs than it is to have in all."""
    done = epochs_done(checkpoint)
    if max_epochs < done:
        raise UserError(
            f"resume={run} trainer.max_epochs={max_epochs}: {done} epochs are done, which cannot be undone; name at "
            f"least {done}, which ends the run with what it has."
        )


def describe_progress(checkpoint: Path) -> str:
    """Of the run, when `checkpoint` was saved."""
    progress = _progress(checkpoint)
    epochs, batches = progress["epoch_progress"]["current"], progress["epoch_loop.batch_progress"]["current"]
    inside = epochs["processed"] < epochs["started"]
    return f"after epoch {epochs['processed']}" + (f" and {batches['completed']} batches" if inside else "")


def _progress(checkpoint: Path) -> dict:
    return read_checkpoint(checkpoint)["loops"]["fit_loop"]
