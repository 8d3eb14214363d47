"""Loss and gradient of a linear classifier on stored features, computed in chunks that fit in memory."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F

from thaw.features.store import StoredFeatures

_CHUNK = 2**24  # numbers in one chunk of features or logits
_SHARE = 0.25  # share of the free memory that features may fill
_ALIKE = 1e-10  # principal axes with less than this share of the largest variance are only rounding errors


class FeatureRows:
    """Features (N, D) of several augmented views of the same images, read in chunks.

    Row `v * images + i` is view v of image i. The attribute `labels` (N,) holds the class of each row. With `members`,
    bool (sets, classes), an image can have several classes, and a label is a row of `members`. The chunks stay on
    `device` if they take less than a quarter of its free memory.
    """

    def __init__(
        self,
        views: Sequence[StoredFeatures],
        labels: Sequence[int],
        classes: int,
        device: torch.device,
        members: torch.Tensor | None = None,
    ):
        self._views = views
        self.images = len(labels)
        self.classes = classes
        self.device = device
        self.members = None if members is None else members.to(device)
        self.labels = torch.tensor(labels, device=device).repeat(len(views))
        example = views[0][0:1]
        self.width = example.shape[1]
        self._step = max(1, _CHUNK // max(self.width, classes))
        size = len(self) * self.width * example.element_size()
        self._kept = list(self._read()) if size < _SHARE * _free_memory(device) else None

    def __len__(self) -> int:
        return len(self.labels)

    def chunks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield each chunk as a slice of row numbers and the features (n, D) of these rows in the stored dtype."""
        return iter(self._kept if self._kept is not None else self._read())

    def _read(self) -> Iterator[tuple[slice, torch.Tensor]]:
        for number, view in enumerate(self._views):
            for start in range(0, self.images, self._step):
                end = min(start + self._step, self.images)
                rows = slice(number * self.images + start, number * self.images + end)
                yield rows, view[start:end].to(self.device)


class PrincipalAxes:
    """Principal axes `basis` (D, r) of features, and the `variances` (r,) along these axes.

    The axes are those of `(features - shift) * scale`, which has a mean squared norm of 1. `shift` (D,) is the mean, or
    0 if `centred` is false.
    """

    def __init__(self, rows: FeatureRows, centred: bool = True):
        dtype = exact_dtype(rows.device)
        zero = torch.zeros((), dtype=dtype, device=rows.device)
        self.shift = sum((x.to(dtype).sum(0) for _, x in rows.chunks()), zero) / len(rows) * centred
        if len(rows) < rows.width:
            x = torch.cat([x.to(dtype) - self.shift for _, x in rows.chunks()])
            variances, basis = _spread(x @ x.T / len(rows))
            basis = x.T @ basis / (variances * len(rows)).sqrt()
        else:
            squares = sum((x.T @ x for x in (x.to(dtype) - self.shift for _, x in rows.chunks())), zero)
            variances, basis = _spread(squares / len(rows))
        self.scale = variances.sum().item() ** -0.5 if len(variances) else 0.0
        self.basis, self.variances = basis, variances * self.scale**2


@dataclass
class LinearLoss:
    """Mean cross-entropy of `rows`, weighted by `weights` (N,), plus `penalty / 2` times |W|².

    If images can have several classes, it is the binary cross-entropy, summed over the classes.

    W applies to features that `axes.scale` scales to a mean squared norm of 1. A penalty therefore has the same effect
    for every backbone. Biases are not penalised; if `bias` is false, they stay 0.

    The parameters (r + 1, C) are W in the principal axes, times `roots`; the last row holds the biases. `roots` (r, 1)
    are the square roots of the loss's curvature at zero weights. This scaling reduces the L-BFGS steps from hundreds to
    a few dozen.
    """

    rows: FeatureRows
    axes: PrincipalAxes
    weights: torch.Tensor
    penalty: float
    dtype: torch.dtype
    bias: bool = True

    @property
    def zero(self) -> torch.Tensor:
        return torch.zeros(len(self.axes.variances) + 1, self.rows.classes, dtype=self.dtype, device=self.rows.device)

    @cached_property
    def roots(self) -> torch.Tensor:
        """Return divisors of shape (r, 1): the parameters divided by them are W, expressed in the principal axes."""
        count = self.rows.classes if self.rows.members is None else 2  # each class is a problem with two outcomes
        return (self.axes.variances * (count - 1) / count**2 + self.penalty).sqrt()[:, None].to(self.dtype)

    @cached_property
    def _directions(self) -> torch.Tensor:
        return (self.axes.basis * self.axes.scale).to(self.dtype)

    @cached_property
    def _shares(self) -> torch.Tensor:
        weights = self.weights.to(self.dtype)
        return weights / weights.sum()

    def plain(self, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weight (D, C) and bias (C,) for unscaled features."""
        weight = self._directions @ (parameters[:-1] / self.roots)
        return weight, parameters[-1] - self.axes.shift.to(self.dtype) @ weight

    def __call__(self, parameters: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Return the loss and its gradient at `parameters`."""
        weight, bias = self.plain(parameters)
        value, by_weight, by_bias = 0.0, torch.zeros_like(weight), torch.zeros_like(bias)
        for rows, x in self.rows.chunks():
            x, labels, share = x.to(self.dtype), self.rows.labels[rows], self._shares[rows]
            losses, residual = _losses_and_residual(torch.addmm(bias, x, weight), labels, self.rows.members)
            value += (losses @ share).item()
            residual *= share[:, None]
            by_weight.addmm_(x.T, residual)
            by_bias += residual.sum(0)
        by_weight -= torch.outer(self.axes.shift.to(self.dtype), by_bias)
        learned = parameters[:-1] / self.roots
        gradient = (self._directions.T @ by_weight + self.penalty * learned) / self.roots
        value += self.penalty / 2 * learned.square().sum().item()
        return value, torch.cat([gradient, by_bias[None] * self.bias])

    def value_and_norm(self, parameters: torch.Tensor) -> tuple[float, float]:
        """Return the loss at `parameters` and the norm of its gradient with respect to W and the biases."""
        value, gradient = self(parameters)
        return value, torch.cat([gradient[:-1] * self.roots, gradient[-1:]]).norm().item()

    def held_out(self, parameters: torch.Tensor, weights: torch.Tensor) -> tuple[float, float]:
        """Return the mean cross-entropy and accuracy of the rows at `parameters`; `weights` (N,) weight the rows."""
        weight, bias = self.plain(parameters)
        loss = right = 0.0
        for rows, x in self.rows.chunks():
            chosen = weights[rows] > 0
            labels, share = self.rows.labels[rows][chosen], weights[rows][chosen]
            logits = torch.addmm(bias, x[chosen].to(self.dtype), weight)
            losses, _ = _losses_and_residual(logits, labels, self.rows.members)
            loss += (losses @ share.to(self.dtype)).item()
            right += (share @ _right(logits, labels, self.rows.members).to(share.dtype)).item()
        total = weights.sum().item()
        return loss / total, right / total


def _losses_and_residual(
    logits: torch.Tensor, labels: torch.Tensor, members: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of each row, (n,), and its gradient by the logits, (n, C)."""
    if members is not None:
        targets = members[labels].to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1), logits.sigmoid() - targets
    log = logits.log_softmax(1)
    losses = -log.gather(1, labels[:, None])[:, 0]
    residual = log.exp_()
    residual[torch.arange(len(labels), device=labels.device), labels] -= 1
    return losses, residual


def _right(logits: torch.Tensor, labels: torch.Tensor, members: torch.Tensor | None) -> torch.Tensor:
    """Return whether each row is classified correctly, or the share of its classes that are."""
    if members is not None:
        return ((logits > 0) == members[labels]).to(logits.dtype).mean(1)
    return logits.argmax(1) == labels


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return float64 if `device` supports it, else float32."""
    return torch.float32 if device.type == "mps" else torch.float64


def _spread(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the eigenvalues (r,) of `covariance` (n, n) that exceed rounding errors, and their eigenvectors (n, r)."""
    variances, directions = torch.linalg.eigh(covariance)
    kept = variances > _ALIKE * max(variances[-1].item(), covariance.diagonal().abs().max().item())
    return variances[kept], directions[:, kept]


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # macOS has no SC_AVPHYS_PAGES
        return 4 * 2**30
