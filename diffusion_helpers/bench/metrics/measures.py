"""From features to numbers: distances between sets, the shape of a set, copies."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

CHUNK = 1000  # rows of a distance matrix at a time: what bounds the memory


def gaussian(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of features (N, D), float64. Raises ValueError for N < 2 and for NaN."""
    _check(values)
    return values.double().mean(0), torch.cov(values.double().T).reshape(values.shape[1], -1)


def frechet(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> float:
    """The Fréchet distance between two Gaussians, squared: |mu1 - mu2|² + tr(cov1 + cov2 - 2 sqrt(cov1 cov2)).

    Means (D,), covariances (D, D), computed in float64. sqrt(cov1 cov2) has the trace of the root of
    S cov2 S with S = sqrt(cov1), which is symmetric: its root is that of its eigenvalues.
    Raises ValueError for shapes that do not match and for NaN.
    Source: Dowson and Landau 1982; Heusel et al. 2017 (arXiv:1706.08500), equation 6.
    """
    shapes = [tuple(part.shape) for part in (mu1, cov1, mu2, cov2)]
    D = mu1.numel()
    if shapes != [(D,), (D, D)] * 2:
        raise ValueError(f"means and covariances of shapes {shapes}: expected (D,), (D, D), (D,), (D, D)")
    mu1, cov1, mu2, cov2 = (part.double() for part in (mu1, cov1, mu2, cov2))
    if not all(bool(part.isfinite().all()) for part in (mu1, cov1, mu2, cov2)):
        raise ValueError("means or covariances with NaN or infinity: expected finite numbers")
    eigenvalues, vectors = torch.linalg.eigh(cov1)
    root = vectors * eigenvalues.clamp(min=0).sqrt() @ vectors.T  # rounding leaves eigenvalues a little below 0
    shared = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    return ((mu1 - mu2).square().sum() + cov1.trace() + cov2.trace() - 2 * shared).item()


def fid(values: Tensor, reference: Tensor) -> float:
    """Fréchet distance between Gaussians fitted to features (N, D) and (M, D): 0 if alike, biased upwards at small N.

    Raises ValueError for shapes that do not match, NaN, or fewer than 2 images; warns if N or M is not above D,
    where a covariance is singular and most of the distance is bias.
    Source: Heusel et al. 2017; the bias: Binkowski et al. 2018 (arXiv:1801.01401), section 4.
    """
    _check(values, reference)
    n, D = min(len(values), len(reference)), values.shape[1]
    if n <= D:
        warnings.warn(
            f"FID of {n} images in {D} features: a covariance is singular, the value mostly bias", stacklevel=2
        )
    return frechet(*gaussian(values), *gaussian(reference))


def kid(values: Tensor, reference: Tensor, subsets: int = 20, size: int = 500) -> float:
    """Kernel distance (squared MMD, cubic kernel) between features (N, D) and (M, D): unbiased, so about 0 if alike.

    The mean over ``subsets`` pairs of ``size`` images (at most N and M), always the same ones.
    Raises ValueError for shapes that do not match, NaN, or fewer than 2 images.
    Source: Binkowski et al. 2018, section 4.
    """
    _check(values, reference)
    n, generator = min(size, len(values), len(reference)), torch.Generator().manual_seed(0)

    def pick(from_: Tensor) -> Tensor:
        return from_[torch.randperm(len(from_), generator=generator)[:n]].double()

    found = []
    for _ in range(subsets):
        y, x = pick(reference), pick(values)  # (n, D)
        within = sum(kernel.sum() - kernel.trace() for kernel in (_cubic(x, x), _cubic(y, y)))
        found.append(within / (n * (n - 1)) - 2 * _cubic(x, y).mean())
    return torch.stack(found).mean().item()


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    """The kernel (x . y / D + 1)³ of every pair of rows (N, D) and (M, D): (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def inception_score(logits: Tensor) -> float:
    """exp of the mean KL divergence of p(y | x) from p(y): 1 (one class, or no idea) to the number of classes.

    logits (N, classes) of the samples, in one split. Raises ValueError for NaN or fewer than 2 images.
    Source: Salimans et al. 2016 (arXiv:1606.03498), section 4.
    """
    _check(logits)
    log_p = logits.double().log_softmax(1)
    log_mean = log_p.logsumexp(0) - math.log(len(log_p))  # of p(y)
    return (log_p.exp() * (log_p - log_mean)).sum(1).mean().exp().item()


def neighbourhoods(values: Tensor, reference: Tensor, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage of features (N, D) against (M, D), as a dictionary.

    Around each image lies a ball that reaches to its k-th nearest neighbour in its own set. precision: share of the
    samples in a real ball; recall: share of the real images in a sample's ball; density: how many real balls a sample
    is in, over k (may exceed 1); coverage: share of the real balls that hold a sample. All depend on N and M.
    Raises ValueError for shapes that do not match, NaN, or a set of k images or fewer.
    Sources: Kynkaanniemi et al. 2019 (arXiv:1904.06991), equations 1 and 2; Naeem et al. 2020 (arXiv:2002.09797),
    equations 3 and 5, whose k = 5 serves all four here.
    """
    _check(values, reference, least=k + 1)
    values, reference = values.double(), reference.double()
    radii, real_radii = _radii(values, k), _radii(reference, k)
    inside = 0  # how many samples are in a real ball
    balls = 0  # how many pairs of a sample and a real ball around it there are
    recalled, covered = torch.zeros(2, len(reference), dtype=torch.bool, device=values.device)
    for part, reach in zip(values.split(CHUNK), radii.split(CHUNK), strict=True):
        distance = torch.cdist(part, reference)  # (CHUNK, M)
        in_real = distance <= real_radii
        inside += int(in_real.any(1).sum())
        balls += int(in_real.sum())
        covered |= in_real.any(0)
        recalled |= (distance <= reach[:, None]).any(0)
    return {
        "precision": inside / len(values),
        "recall": recalled.double().mean().item(),
        "density": balls / (k * len(values)),
        "coverage": covered.double().mean().item(),
    }


def label_agreement(logits: Tensor, labels: Tensor) -> float:
    """Share of the images in which the classifier, logits (N, classes), sees what they should show, labels (N,)."""
    if labels.shape != (len(logits),):
        raise ValueError(f"labels of shape {tuple(labels.shape)}: expected ({len(logits)},), one per image")
    return (logits.argmax(1) == labels).double().mean().item()


def nearest(images: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest of ``among`` (M, ...) to each of ``images`` (N, ...): Euclidean distances (N,) and indices (N,).

    Pixels or features. A copy has distance 0; compare with what unseen real images have.
    Raises ValueError when the shapes of the items differ, for NaN, and for an empty set.
    """
    x, y = images.flatten(1), among.flatten(1)
    _check(x, y, least=1)
    distances, indices = [], []
    for part in x.split(CHUNK):
        best, index = x.new_full((len(part),), torch.inf), x.new_zeros(len(part), dtype=torch.long)
        for start in range(0, len(y), 10 * CHUNK):
            d, i = torch.cdist(part, y[start : start + 10 * CHUNK]).min(1)
            closer = d < best
            best, index = torch.where(closer, d, best), torch.where(closer, start + i, index)
        distances.append((part - y[index]).norm(dim=1))  # anew, since cdist rounds a distance of 0
        indices.append(index)
    return torch.cat(distances), torch.cat(indices)


def _check(values: Tensor, reference: Tensor | None = None, least: int = 2) -> None:
    for part in (values,) if reference is None else (values, reference):
        if part.ndim != 2 or len(part) < least:
            raise ValueError(f"features of shape {tuple(part.shape)}: expected (N, D), N at least {least}")
        if not bool(part.isfinite().all()):
            bad = int((~part.isfinite()).any(1).sum())
            raise ValueError(f"{bad} of {len(part)} rows hold NaN or infinity: expected finite numbers")
    if reference is not None and values.shape[1] != reference.shape[1]:
        raise ValueError(f"{values.shape[1]} features against {reference.shape[1]}: expected the same number")


def _radii(values: Tensor, k: int) -> Tensor:
    """The distance of each row (N, D) to its k-th nearest other row: (N,)."""
    found = []
    for start in range(0, len(values), CHUNK):
        distance = torch.cdist(values[start : start + CHUNK], values)  # (CHUNK, N)
        distance.diagonal(start).fill_(torch.inf)  # itself is no neighbour
        found.append(distance.topk(k, largest=False).values[:, -1])
    return torch.cat(found)
