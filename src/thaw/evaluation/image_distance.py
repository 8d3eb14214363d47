"""Distance of an image from a run's validation images, which tells whether the image belongs to none of the classes."""

import torch
import torch.nn.functional as F
from torch import nn

from thaw.evaluation.prediction_sets import threshold_covering
from thaw.features.head_inputs import evenly_spaced

PASSING = 0.95  # share of validation images with a distance of at most 1
FEWEST = 19  # number of images below which no threshold lets 95 % of new images pass
_NEIGHBOURS = 5
_MOST_REFERENCES, _MOST_NUMBERS = 2000, 2**21  # at most 2000 references, which take at most 4 MB as float16
# Shorter distances, as a share of a vector's norm, mean nothing, because bfloat16 changes features by up to 7 %.
# An image that is nearer is the same image.
_ROUNDING = 0.1
_AT_ONCE = 1024


class ImageDistance(nn.Module):
    """Distance of images from validation images: above 1, an image is farther away than 95 % of validation images.

    It is a weighted geometric mean of two distances between inputs of the head (features): the Euclidean distance to
    the nearest 5 of the validation images (Sun et al. 2022), with features to the power of 0.75, and the distance
    between the unit vector and the nearest class mean of unit vectors. The first one sees unusually strong features,
    the second one unusual mixtures of them. A validation image is not its own neighbour. `references`, float16 (R, D),
    are powers of features in units of `norm`, minus `centre` (D,); `means` are float32 (classes, D); `weights` (2,)
    multiply the logarithms of the distances; `threshold` is a logarithm.
    """

    references: torch.Tensor
    centre: torch.Tensor
    means: torch.Tensor
    norm: torch.Tensor
    weights: torch.Tensor
    threshold: torch.Tensor

    def __init__(self, **tensors: torch.Tensor):
        super().__init__()
        for name in ("references", "centre", "means", "norm", "weights", "threshold"):
            self.register_buffer(name, tensors[name])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the distances, float32 (N,), of features (N, D)."""
        features = features.float().flatten(1)
        nearest = _neighbour_distance(_damped(features) / self.norm, self.references.float(), self.centre)
        both = torch.stack([nearest, _mean_distances(F.normalize(features), self.means).amin(1)], 1)
        return (both.log() @ self.weights - self.threshold).exp()


def _damped(features: torch.Tensor) -> torch.Tensor:
    """Return features to the power of 0.75, with their sign, so that a few strong features do not decide alone."""
    return features.sign() * features.abs().pow(0.75)


def _distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return Euclidean distances (N, R); unlike torch.cdist, this is also fast as ONNX.

    Rounding errors are small only if the vectors have a mean near 0.
    """
    squares = x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T
    return squares.clamp(min=0).sqrt()


def _mean_distances(units: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
    centre = means.mean(0)
    return _above_rounding(_distances(units - centre, means - centre))


def _neighbour_distance(x: torch.Tensor, references: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Return the mean distance (N,) of `x` to the nearest of `references` + `centre`, without the image itself."""
    count = min(_NEIGHBOURS, len(references) - 1)
    nearest = _distances(x - centre, references).topk(count + 1, dim=1, largest=False).values
    itself = nearest[:, :1] < _ROUNDING * x.norm(dim=1, keepdim=True)
    return _above_rounding(torch.where(itself, nearest[:, 1:], nearest[:, :-1]).mean(1))


def _above_rounding(distances: torch.Tensor) -> torch.Tensor:
    """Return distances between vectors with a norm of about 1 that hardly depend on the precision of the features."""
    return (distances.square() + _ROUNDING**2).sqrt()


def fitted_distance(features: torch.Tensor, labels: torch.Tensor) -> ImageDistance | str:
    """Return the distance fitted on features, float (n, D), and labels, int64 (n,), of validation images.

    The threshold comes from distances that leave out the image itself. If no distance can be fitted, return the reason.
    """
    if len(features) < FEWEST:
        return f"the run has only {len(features)} validation images, and at least {FEWEST} are needed"
    features = features.float().flatten(1)
    if not features.isfinite().all():
        return "the features of its validation images are not finite"
    scaled = _damped(features)
    norm = scaled.norm(dim=1).mean().clamp(min=1e-30)
    scaled /= norm
    chosen = evenly_spaced(len(features), min(_MOST_REFERENCES, max(FEWEST, _MOST_NUMBERS // features.shape[1])))
    centre = scaled.mean(0)
    references = (scaled[chosen] - centre).half()
    nearest = torch.cat([_neighbour_distance(x, references.float(), centre) for x in scaled.split(_AT_ONCE)])
    to_means, means = _left_out_distances(F.normalize(features), labels)
    both = torch.stack([nearest, to_means], 1)
    logs = both.log()
    spread = logs.std(0)
    if not (both.median(0).values > 2**0.5 * _ROUNDING).all() or not spread.all():
        return "all its validation images look alike to the network"
    weights = (1 / spread) / (1 / spread).sum()
    threshold = torch.tensor(threshold_covering(logs @ weights, PASSING))
    return ImageDistance(
        references=references, centre=centre, means=means, norm=norm, weights=weights, threshold=threshold
    )


def _left_out_distances(units: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return distances (n,) to the nearest class mean, which leaves out the image itself, and means (classes, D)."""
    _, own, counts = labels.unique(return_inverse=True, return_counts=True)
    means = torch.zeros(len(counts), units.shape[1]).index_add_(0, own, units) / counts[:, None]
    centre = means.mean(0)
    without = counts / (counts - 1)  # how much farther away the mean is without this image; infinite for one image
    found = []
    for x, place in zip(units.split(_AT_ONCE), own.split(_AT_ONCE), strict=True):
        distances, rows = _distances(x - centre, means - centre), torch.arange(len(x))
        distances[rows, place] *= without[place]
        found.append(_above_rounding(distances.nan_to_num(nan=torch.inf).amin(1)))
    return torch.cat(found), means
