"""Solve L2-regularised logistic regression, and choose the penalty on held-out training images."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from thaw.data.option_values import whole_number
from thaw.errors import UserError
from thaw.features.linear_objective import FeatureRows, LinearLoss, PrincipalAxes, exact_dtype

_HISTORY = 20  # gradients that L-BFGS keeps
_ROUND = 5  # steps between two checks of the gradient
_MOST_STEPS = 500
_SEARCH_TOLERANCE = 1e-4  # tolerance of the gradient while penalties are compared
_SEARCH_STEPS = 100
_EQUAL = 0.003  # penalties are equally good if their held-out losses differ by at most this, times log2 C
_WORSE = 4  # the search ends after this many penalties in a row without improvement
_HALF_DECADES = tuple(10 ** (-exponent / 2) for exponent in range(2, 19))
_WEAKEST = 0.01  # smallest product of penalty and images, for two classes; smaller ones change little but take long
_SMALL = 2e7  # images * features * classes below which one thread is as fast as several
_LARGE = 1e8  # images * features * classes above which only one fold is held out, and `_QUICK` and `_QUICKER` apply


@dataclass(frozen=True)
class _Patience:
    """When the solver stops: after `rounds` in a row that lower neither loss nor gradient by these shares."""

    rounds: int
    loss: float
    gradient: float


_FULL = _Patience(3, 1e-9, 0.1)
_QUICK = _Patience(1, 1e-5, 1.0)  # with hundreds of classes, later steps change no prediction and take minutes
_QUICKER = _Patience(1, 1e-3, 1.0)  # while penalties are compared


@dataclass(frozen=True)
class PathPoint:
    """Mean cross-entropy and accuracy of held-out training images at one penalty."""

    penalty: float
    loss: float
    acc: float


@dataclass(frozen=True)
class Solution:
    """Optimal linear classifier: `weight` (C, D) and `bias` (C,) for unscaled features, and facts about the search.

    `path` has one point for each penalty tried. `gradient` is the gradient's norm at the solution divided by its norm
    at zero weights. `note` is advice for the user if a penalty beyond those tried may be better, else None.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    penalty: float
    path: list[PathPoint]
    folds: int
    iterations: int
    gradient: float
    loss: float
    seconds: float
    note: str | None = None

    def facts(self) -> dict:
        """Return all fields except `weight` and `bias` as plain values, for the entry `probe` in summary.json."""
        facts = {key: value for key, value in vars(self).items() if key not in ("weight", "bias", "path")}
        return {**facts, "path": [asdict(point) for point in self.path]}


class LogisticProbe:
    """Multinomial logistic regression with an L2 penalty, solved by L-BFGS.

    Cross-validation chooses one of `penalties`, which apply to features with a mean squared norm of 1. It takes the
    largest penalty whose mean cross-entropy on held-out training images is within 0.003 log2 C of the lowest, for C
    classes. If images can have several classes, each class is a problem of two classes with the same penalty. The
    default penalties are 0.1 to 1e-9, two per decade, without those too weak for the number of images.

    The solver trains on every image without augmentation and on `views` augmented views of each image. Images are
    divided into `folds`; all views of an image are in the same fold. The solver stops when the gradient's norm, divided
    by its norm at zero weights, is at most `tolerance`. It also stops after 500 steps, or after three rounds of 5 steps
    without progress. A round makes progress if it lowers the loss by 1e-9 of its value or the gradient by a tenth.

    If images times features times classes exceed 1e8, only one fold is held out. The solver then stops after the first
    round that lowers the loss by less than 1e-5 of its value, or 1e-3 while it compares penalties.

    Raises:
        UserError: from the constructor, if a value is invalid.

    """

    def __init__(
        self,
        penalties: Sequence[float] | None = None,
        folds: int = 5,
        views: int = 0,
        tolerance: float = 1e-7,
    ):
        self._least = _WEAKEST if penalties is None else 0.0
        penalties = _HALF_DECADES if penalties is None else penalties
        if not penalties or not all(type(p) in (int, float) and 0 < p < float("inf") for p in penalties):
            raise UserError(f"a solver has penalties={penalties!r}, which must be numbers above 0.")
        if type(tolerance) is not float or not 0 < tolerance < 1:
            raise UserError(f"a solver has tolerance={tolerance!r}, which must be a number between 0 and 1.")
        self.penalties = sorted(penalties, reverse=True)
        self.folds = whole_number("a solver's folds", folds, 2)
        self.views = whole_number("a solver's views", views, 0)
        self.tolerance = tolerance

    def solve(
        self, rows: FeatureRows, seed: int = 0, class_weights: torch.Tensor | None = None, bias: bool = True
    ) -> Solution:
        """Return the optimal classifier of `rows`; `class_weights` (C,) weight each class in the loss."""
        with _suitable_threads(rows):
            return self._solve(rows, seed, class_weights, bias)

    def _solve(self, rows: FeatureRows, seed: int, class_weights: torch.Tensor | None, bias: bool) -> Solution:
        start = time.perf_counter()
        weights = torch.ones(len(rows), device=rows.device) if class_weights is None else class_weights[rows.labels]
        axes = PrincipalAxes(rows, centred=bias)
        problem = partial(LinearLoss, rows, axes, bias=bias)
        path, parts, near = self._search(problem, weights, _folds(rows, self.folds, seed))
        lowest, dtype = min(point.loss for point in path), exact_dtype(rows.device)
        equal = _EQUAL * (math.log2(rows.classes) if rows.members is None else rows.classes)
        penalty = max(point.penalty for point in path if point.loss <= lowest + equal)
        loss = problem(weights=weights, penalty=penalty, dtype=dtype)
        patience = _QUICK if _is_large(rows) else _FULL
        learned, iterations, gradient = minimise(loss, near, self.tolerance, _MOST_STEPS, patience)
        weight, plain_bias = loss.plain(learned)
        value, _ = loss(learned)
        seconds = round(time.perf_counter() - start, 3)
        note = self._note(path, penalty, equal)
        return Solution(weight.T, plain_bias, penalty, path, parts, iterations, gradient, value, seconds, note)

    def _note(self, path: Sequence[PathPoint], penalty: float, equal: float) -> str | None:
        """Return advice if the held-out loss still falls by more than `equal` at the largest or smallest penalty."""
        ends = ((0, 1, "largest", "larger"), (-1, -2, "smallest", "smaller"))
        for end, beside, kind, beyond in ends:
            if len(path) > 1 and penalty == path[end].penalty and path[beside].loss > path[end].loss + equal:
                return (
                    f"{penalty:.2g} is the {kind} one tried, and the held-out loss still falls there: "
                    f"add {beyond} values to the solver's penalties"
                )
        return None

    def _search(
        self, problem: partial[LinearLoss], weights: torch.Tensor, fold: torch.Tensor
    ) -> tuple[list[PathPoint], int, torch.Tensor]:
        """Return the held-out loss of each penalty, the number of held-out folds, and the best penalty's solution.

        Larger penalties are tried first. Each solution starts from the solution of the penalty before.
        """
        parts, rows = fold.unique().tolist(), problem.args[0]
        patience = _FULL
        if _is_large(rows):
            parts, patience = parts[:1], _QUICKER
        path, solutions, near, best = [], dict.fromkeys(parts), None, 0
        weakest = self._least / len(rows) / math.sqrt(_outcomes(rows) / 2)
        worthwhile = [p for p in self.penalties if p >= weakest] or self.penalties[-1:]
        for penalty in tqdm(worthwhile, "penalties", leave=False, disable=None):
            measured, counted = np.zeros(2), 0
            for part in parts:
                held = fold == part
                loss = problem(weights * ~held, penalty, torch.float32)
                learned, *_ = minimise(loss, solutions[part], _SEARCH_TOLERANCE, _SEARCH_STEPS, patience)
                solutions[part] = _scaled(learned, 1 / loss.roots)
                measured += np.array(loss.held_out(learned, weights * held)) * held.sum().item()
                counted += held.sum().item()
            path.append(PathPoint(penalty, *(measured / counted).tolist()))
            if len(path) == 1 or path[-1].loss < path[best].loss:
                best, near = len(path) - 1, solutions[parts[0]]
            if len(path) - 1 - best >= _WORSE:
                break
        assert near is not None
        return path, len(parts), near


def minimise(
    loss: LinearLoss, start: torch.Tensor | None, tolerance: float, most_steps: int, patience: _Patience = _FULL
) -> tuple[torch.Tensor, int, float]:
    """Return the optimal parameters, the number of steps, and the gradient's norm divided by its norm at zero weights.

    `start` (r + 1, C) is W in the principal axes, with the biases in the last row. The search ends when the divided
    norm is at most `tolerance`, after `most_steps`, or when `patience` is over.
    """
    _, at_zero = loss.value_and_norm(loss.zero)
    parameters = loss.zero if start is None else _scaled(start.to(loss.dtype), loss.roots)
    optimizer = torch.optim.LBFGS(
        [parameters],
        max_iter=_ROUND,
        history_size=_HISTORY,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        value, parameters.grad = loss(parameters)
        return value

    best, steps, idle = parameters.clone(), 0, 0
    lowest, norm = loss.value_and_norm(best)
    share = norm / at_zero if at_zero else 0.0
    while share > tolerance and steps < most_steps and idle < patience.rounds:
        with torch.no_grad():
            optimizer.step(closure)
        value, norm = loss.value_and_norm(parameters)
        now = norm / at_zero
        steps, before = optimizer.state[parameters]["n_iter"], steps
        lower = value < lowest * (1 - patience.loss) or now < share * (1 - patience.gradient)
        idle = 0 if steps > before and lower else idle + 1
        lowest = min(lowest, value)
        if now < share:
            best, share = parameters.clone(), now
    return best, steps, share


def _outcomes(rows: FeatureRows) -> int:
    """Return the number of classes that exclude each other."""
    return rows.classes if rows.members is None else 2


def _is_large(rows: FeatureRows) -> bool:
    return len(rows) * rows.width * rows.classes > _LARGE


@contextmanager
def _suitable_threads(rows: FeatureRows) -> Iterator[None]:
    """Use one thread for small problems, in which several threads would mostly wait for each other."""
    before = torch.get_num_threads()
    if len(rows) * rows.width * rows.classes < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _scaled(parameters: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Return `parameters` (r + 1, C) times `factors` (r, 1); the biases, in the last row, stay unscaled."""
    return torch.cat([parameters[:-1] * factors, parameters[-1:]])


def _folds(rows: FeatureRows, folds: int, seed: int) -> torch.Tensor:
    """Return each row's fold, int64 (N,). Folds share each class evenly; all views of an image are in one fold."""
    random, labels = np.random.default_rng(seed), rows.labels[: rows.images].cpu().numpy()
    own = np.empty(rows.images, np.int64)
    next_fold = 0
    for label in np.unique(labels):
        (places,) = np.nonzero(labels == label)
        own[random.permutation(places)] = (next_fold + np.arange(len(places))) % folds
        next_fold += len(places)  # starting each class at fold 0 would put all rare classes into the first folds
    return torch.from_numpy(np.tile(own, len(rows) // rows.images)).to(rows.device)
