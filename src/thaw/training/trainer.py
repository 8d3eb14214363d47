"""Build the Lightning Trainer, and train a strategy's phases with it."""

import atexit
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.exceptions import SIGTERMException

from thaw.data.datamodule import ImageFolderDataModule
from thaw.errors import UserError
from thaw.features.feature_data import FeatureDataModule
from thaw.runs import run_files
from thaw.runs.stopping import Stopped, stop_signals
from thaw.storage.checkpoints import read_checkpoint
from thaw.strategy.phases import Phase
from thaw.training.checkpoint_io import AtomicCheckpointIO
from thaw.training.classifier import ImageClassifier
from thaw.training.faults import FiniteNumbers, MuteWorkerDeaths
from thaw.training.hardware import best_precision, check_accelerator, keep_freed_memory
from thaw.training.head_fitting import scale_head, solve_head
from thaw.training.interruption import MidEpochResume, RunTimer, StepStop
from thaw.training.invariants import FrozenCheck, SeededSteps
from thaw.training.loggers import shield
from thaw.training.phase_data import FeatureCache
from thaw.training.quick_steps import with_quick_steps

log = logging.getLogger(__name__)

# Warnings of Lightning and PyTorch that do not apply here, each with the reason.
_EXPECTED_WARNINGS = (
    r".*does not have many workers.*",  # thaw.data.datamodule chooses the number of workers
    r".*module\(s\) in eval mode.*",  # frozen stages are in eval mode
    r".*Checkpoint directory .* exists and is not empty.*",  # an earlier phase has written to this folder
    r".*your dataloader is not resumable.*",  # Thaw's sampler is resumable (training.interruption)
    r".*LeafSpec.*is deprecated.*",  # Lightning 2.6 uses an older interface of PyTorch
    r".*GPU available but not used.*",  # trainer.accelerator can exclude the GPU
    r".*there was no current CUDA context.*",  # PyTorch's gradient thread then creates a context
    r".*callbacks used to create the checkpoint need to be provided.*",  # a resumed run can omit RunTimer
)


def build_trainer(
    accelerator: str = "auto",
    precision: str | int = "auto",
    callbacks: Sequence[Callback | None] = (),
    max_time: str | dict | None = None,
    bf16_suits: bool = True,
    **options,
) -> Trainer:
    """Return a Trainer with Thaw's callbacks; the precision `auto` means the device's fastest precision.

    `bf16_suits` says whether a CPU trains the network faster in bfloat16 (`thaw.training.precision`). `options` are
    further arguments of Lightning's Trainer.

    Raises:
        UserError: if this machine cannot run with `accelerator`.

    """
    check_accelerator(accelerator)
    keep_freed_memory()
    atexit.register(_leave_group)
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    for message in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    options["profiler"] = options.get("profiler") or _NoProfiler()
    if not options.get("logger"):  # LearningRateMonitor needs a logger
        callbacks = [one for one in callbacks if not isinstance(one, LearningRateMonitor)]
    used: Any = best_precision(accelerator, bf16_suits) if precision == "auto" else precision
    trainer = Trainer(
        accelerator=accelerator,
        precision=used,
        callbacks=[*filter(None, callbacks), *_own_callbacks(max_time)],
        enable_progress_bar=False,  # thaw.training.callbacks shows one bar for training and validation
        enable_model_summary=False,  # the run prints its own table of stages
        plugins=[AtomicCheckpointIO(), *_cluster()],
        use_distributed_sampler=False,  # thaw.data.order.SeededOrder divides the images among devices
        num_sanity_val_steps=0,  # Thaw checks the data earlier, and epochs are short
        **options,
    )
    return with_quick_steps(trainer)


class _NoProfiler(PassThroughProfiler):
    """Profiler that does nothing. Lightning's `PassThroughProfiler` enters a generator about 80 times per step."""

    def profile(self, action_name: str) -> Any:
        return nullcontext()


def _leave_group() -> None:
    """Close the connection to other processes before Python ends; otherwise its threads can abort Python.

    Lightning closes the connection only for NCCL. Repeated calls change nothing.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _own_callbacks(max_time: str | dict | None) -> list[Callback]:
    timer = [] if max_time is None else [RunTimer(max_time)]
    return [*timer, StepStop(), MidEpochResume(), SeededSteps(), FrozenCheck(), FiniteNumbers(), MuteWorkerDeaths()]


def _cluster() -> list[SLURMEnvironment]:
    """Return SLURM's environment without Lightning's requeueing, which does not know phases; see docs/clusters.md."""
    by_slurm = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()  # torchrun can run in SLURM
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
    """Train all phases, and count epochs and steps from the first phase on; continue from `checkpoint` if given.

    `features`, if given, computes the output of frozen stages only once where this saves time. `begin()` is called
    once, after all files have been read and before any file is written.

    Raises:
        FrozenTensorError: if a frozen tensor has changed.

    """
    data.attach(trainer)  # Lightning attaches data only after features are computed
    done = begun = 0
    if checkpoint:
        done, begun = epochs_done(checkpoint), classifier.restore(read_checkpoint(checkpoint))
    left = [phase for phase in phases if phase.last > done or phase is phases[-1]]
    for phase in left:
        classifier.start(phase)
        trainer.fit_loop.max_epochs = phase.last
        source = features.source(trainer, classifier, phase, data) if features else data
        if phase is left[0]:
            _read_all(source, data)
            begin()
            shield(trainer)
        if not begun:
            scale_head(trainer, classifier, source, data)
        if phase.solver and phase.number > begun:
            solve_head(trainer, classifier, source, data)
        begun = phase.number
        if not _fit_phase(trainer, classifier, source, checkpoint):
            log.info(f"training ends early, after epoch {trainer.current_epoch}")
            break
        checkpoint = None


def _read_all(source: LightningDataModule, data: ImageFolderDataModule) -> None:
    """Read every file and decode training images, so that a broken image stops the run before it writes files."""
    if not (isinstance(source, FeatureDataModule) and source.train_views):
        data.prepare_pixels()
    _ = data.fingerprint  # reads every file that has not been read yet


def _fit_phase(
    trainer: Trainer, classifier: ImageClassifier, source: LightningDataModule, checkpoint: Path | None
) -> bool:
    """Train one phase. Return False if early stopping or the time limit ended the whole run, else True.

    Raises:
        Stopped: if a signal ended the phase; the last checkpoint has been written.

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
    """Return `trainer` if it has one device, else a new Trainer for one device with the same precision."""
    if trainer.world_size == 1:
        return trainer
    accelerator = "cuda" if trainer.strategy.root_device.type == "cuda" else "cpu"
    return build_trainer(accelerator, trainer.precision, devices=1, logger=False, enable_checkpointing=False)


def last_checkpoint(folder: str) -> Path | None:
    path = Path(folder) / run_files.LAST
    return path if path.is_file() else None


def epochs_done(checkpoint: Path) -> int:
    return _progress(checkpoint)["epoch_progress"]["current"]["processed"]


def refuse_fewer_epochs(run: Path, checkpoint: Path, max_epochs: int) -> None:
    """Raise UserError if the run in the folder `run` has already trained for more than `max_epochs` epochs."""
    done = epochs_done(checkpoint)
    if max_epochs < done:
        raise UserError(
            f"resume={run} trainer.max_epochs={max_epochs}: {done} epochs are done already; choose at least {done}. "
            f"With {done} the run ends without further training."
        )


def describe_progress(checkpoint: Path) -> str:
    """Return the run's progress in `checkpoint`, such as `after epoch 1 and 2 batches`."""
    progress = _progress(checkpoint)
    epochs, batches = progress["epoch_progress"]["current"], progress["epoch_loop.batch_progress"]["current"]
    inside = epochs["processed"] < epochs["started"]
    return f"after epoch {epochs['processed']}" + (f" and {batches['completed']} batches" if inside else "")


def _progress(checkpoint: Path) -> dict:
    return read_checkpoint(checkpoint)["loops"]["fit_loop"]
