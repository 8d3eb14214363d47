"""Averages of the weights of several runs: one network at the price of one.

A greedy soup averages runs that started from the same pretrained weights (Wortsman et al. 2022, "Model soups"). WiSE-FT
interpolates between the probe and a fine-tuned network (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
models"). The images that the search chooses by decide what is averaged.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from thaw.data.datamodule import ImageFolderDataModule
from thaw.evaluation.calibration import fitted_temperature, held_out
from thaw.evaluation.judgement import one_class
from thaw.evaluation.measures import metrics
from thaw.evaluation.model_limits import fitted_limits
from thaw.evaluation.predictions import Predictions
from thaw.features.head_inputs import head_inputs
from thaw.inference.folder_predictions import predict_folder
from thaw.inference.trained_model import TrainedModel, load_model, load_weights
from thaw.runs import run_files
from thaw.runs.components import instantiate
from thaw.runs.configuration import as_hydra_config
from thaw.storage.checkpoints import read_checkpoint
from thaw.sweep.search.final_stage import FinalStage
from thaw.sweep.search.proposals import PROBE
from thaw.sweep.search.rungs import epoch_rank
from thaw.training.checkpoint_io import AtomicCheckpointIO

State = Mapping[str, torch.Tensor]
_SHARES = (0.2, 0.4, 0.6, 0.8)  # of the fine-tuned weights
_MEMBERS = 6
_STATISTICS = 512  # training images from which batch norm computes its statistics anew


@dataclass(frozen=True)
class Merged:
    """A network of averaged weights, in the checkpoint `path`; `right`: correct test predictions, bool (n,)."""

    name: str
    path: Path
    right: np.ndarray


def merged_runs(stage: FinalStage, left: Callable[[], float]) -> list[Merged]:
    """Return averages of the weights of runs that started like the winner's, if `left()` seconds are enough."""
    winner = stage.winner()
    if winner is None:
        return []
    alike = {run: stage.job(run) for run in stage.best_runs(winner)}
    alike = {run: job for run, job in alike.items() if job.summary["weights"] != "none"}
    if len(alike) < 2 or left() <= 0:
        return []
    first = next(iter(alike.values()))
    with as_hydra_config(first.configuration):
        merging = Merging(instantiate(first.configuration.data), left)
    probes = [job.folder for job in alike.values() if job.strategy == PROBE]
    tuned = [job.folder for run, job in alike.items() if run.trial.number == winner.number and job.strategy != PROBE]
    soup = merging.soup([job.folder for job in alike.values()])
    wise = merging.wise(probes[0], tuned[0]) if probes and tuned else None
    return [one for one in (soup, wise) if one]


class Merging:
    """Merges the weights of runs with the same network and pretrained weights.

    Args:
        data: training images, validation images to choose by, and test images.
        left: returns the seconds that are left.
        rank: returns a key that is larger for better models; by default their accuracy and loss on validation images.

    """

    def __init__(
        self,
        data: ImageFolderDataModule,
        left: Callable[[], float],
        rank: Callable[[TrainedModel], tuple[float, float]] | None = None,
    ):
        self._data, self._left, self._pass = data, left, 0.0
        self._rank_of = rank or self._validated

    def soup(self, runs: Sequence[Path]) -> Merged | None:
        """Return the greedy soup of runs, ordered from the best to the worst; None if it is one run alone.

        A run joins the soup if the validation images say that the soup does not get worse.
        """
        model = load_model(runs[0], exact=True)
        states = _alike([_state(run) for run in runs[:_MEMBERS]])
        chosen, best = states[:1], self._rank(model, _average(states[:1]))
        for state in states[1:]:
            if not self._has_time():
                break
            rank = self._rank(model, _average([*chosen, state]))
            if rank >= best:
                chosen, best = [*chosen, state], rank
        if len(chosen) < 2:
            return None
        return self._merged(f"the soup of {len(chosen)} runs", model, _average(chosen), runs[0], "soup.ckpt")

    def wise(self, probe: Path, tuned: Path) -> Merged | None:
        """Return the best interpolation between a probe and a fine-tuned network; None if an end is better."""
        model = load_model(tuned, exact=True)
        states = _alike([_state(tuned), _state(probe)])
        if len(states) < 2 or not self._has_time():
            return None
        best, chosen = max(self._rank(model, _average([state])) for state in states), None
        for share in _SHARES:
            if self._has_time():
                rank = self._rank(model, _average(states, (share, 1 - share)))
                best, chosen = (rank, share) if rank > best else (best, chosen)
        if chosen is None:
            return None
        name = f"weights interpolated between probe and fine-tuned network ({100 * chosen:.0f} % fine-tuned)"
        return self._merged(name, model, _average(states, (chosen, 1 - chosen)), tuned, "wise.ckpt")

    def _has_time(self) -> bool:
        return self._left() > 2 * self._pass + self._pass * len(self._data.test or ()) / max(1, len(self._data.val))

    def _rank(self, model: TrainedModel, average: "_Average") -> tuple[float, float]:
        start = time.monotonic()
        self._load(model, average)
        rank = self._rank_of(model)
        self._pass = max(self._pass, time.monotonic() - start)
        return rank

    def _validated(self, model: TrainedModel) -> tuple[float, float]:
        found = metrics(_predicted(model, self._data.val.samples))
        return epoch_rank((found["acc"], found["loss"]))

    def _load(self, model: TrainedModel, average: "_Average") -> None:
        load_weights(model.net, average.state, model.source)
        norms = [m for m in model.net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        if norms and average.statistics_differ:
            self._renew(model, norms)

    def _renew(self, model: TrainedModel, norms: Sequence[_BatchNorm]) -> None:
        """Compute the statistics of batch norms from training images, because averaged ones fit no network."""
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        _predicted(model, _spread(self._data.train.samples, _STATISTICS))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()

    def _merged(self, name: str, model: TrainedModel, average: "_Average", run: Path, file: str) -> Merged:
        assert self._data.test is not None, "a search measures its winner on test images"
        self._load(model, average)
        kept = read_checkpoint(run / run_files.BEST)
        weights = {f"net.{key}": tensor for key, tensor in model.net.state_dict().items()}
        described = {**kept["thaw"], "cut": None, **self._fitted(model)}
        path = run / run_files.CHECKPOINTS / file  # the run's configuration builds its network
        AtomicCheckpointIO().save_checkpoint({**kept, "thaw": described, "state_dict": weights}, path)
        found = _predicted(model, sorted(self._data.test.samples))
        return Merged(name, path, found.right)

    def _fitted(self, model: TrainedModel) -> dict[str, object]:
        """Return the temperature and the limits of the merged network, as entries of a checkpoint's description."""
        with head_inputs(model.net, len(self._data.val)) as inputs:
            found = _predicted(model, self._data.val.samples)
        limits = fitted_limits(held_out(found), inputs.vectors, inputs.shown)
        return {"temperature": fitted_temperature(found.logits, found.labels), **limits.described()}


def _predicted(model: TrainedModel, samples: Sequence[tuple[str, int]]) -> Predictions:
    return one_class(predict_folder(model, samples, []).clean)


def _spread(samples: Sequence[tuple[str, int]], most: int) -> list[tuple[str, int]]:
    return [samples[place] for place in np.linspace(0, len(samples) - 1, min(most, len(samples))).astype(int)]


def _state(run: Path) -> State:
    return read_checkpoint(run / run_files.BEST)["state_dict"]


def _alike(states: Sequence[State]) -> list[State]:
    """Return the states whose tensors have the same names and shapes as those of the first state."""
    shapes = {key: tensor.shape for key, tensor in states[0].items()}
    return [state for state in states if {key: tensor.shape for key, tensor in state.items()} == shapes]


@dataclass(frozen=True)
class _Average:
    """Averaged tensors; if `statistics_differ`, those of batch norms belong to none of the averaged networks."""

    state: State
    statistics_differ: bool


def _average(states: Sequence[State], shares: Sequence[float] | None = None) -> _Average:
    """Return the mean of each tensor, weighted by `shares`, which are equal by default."""
    shares = shares or [1 / len(states)] * len(states)
    first, mean = states[0], {}
    for key, tensor in first.items():
        parts = [share * state[key].double() for share, state in zip(shares, states, strict=True)]
        mean[key] = torch.stack(parts).sum(0).to(tensor.dtype) if tensor.is_floating_point() else tensor
    differ = any(not torch.equal(state[k], first[k]) for state in states for k in first if k.endswith("running_mean"))
    return _Average(mean, differ)
