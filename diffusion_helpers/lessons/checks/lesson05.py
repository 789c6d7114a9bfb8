"""Notebook 05: evaluation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .engine import Check, between


def _root_trace(cov1: Tensor, cov2: Tensor) -> Tensor:
    return torch.linalg.eigvals(cov1 @ cov2).real.clamp(min=0).sqrt().sum()


def _distance(means=lambda d: d.square().sum(), times: float = 2, root: Callable = _root_trace) -> Callable:
    return lambda mu1, cov1, mu2, cov2: means(mu1 - mu2) + cov1.trace() + cov2.trace() - times * root(cov1, cov2)


def _gaussian(D: int) -> tuple[Tensor, Tensor]:
    """A mean (D,) and a covariance (D, D) that is not diagonal."""
    mix = torch.randn(D, D, dtype=torch.float64) / 2
    return torch.randn(D, dtype=torch.float64), mix @ mix.T + torch.diag(0.5 + torch.rand(D, dtype=torch.float64))


def _one_gaussian() -> tuple[Tensor, ...]:
    mu, cov = _gaussian(3)
    return mu, cov, mu, cov


frechet = Check(
    about="Check ``function(mu1, cov1, mu2, cov2)``: the squared Frechet distance between two Gaussians.",
    right=lambda mu1, cov1, mu2, cov2: _distance()(mu1, cov1, mu2, cov2).item(),
    cases=lambda: [(*_gaussian(D), *_gaussian(D)) for D in (2, 3, 4)] + [_one_gaussian()],
    mistakes=[
        "The difference of the means is not squared. Hint: add up the squares of its components.",
        _distance(means=lambda d: d.norm()),
        "The means are averaged over the components. Hint: a squared length is a sum.",
        _distance(means=lambda d: d.square().mean()),
        "The last term is taken once. Hint: it is twice the trace of the root.",
        _distance(times=1),
        "The last term is added. Hint: what the two share is taken away.",
        _distance(times=-2),
        "The covariances are left out. Hint: two clouds around one point can still differ in width.",
        lambda mu1, cov1, mu2, cov2: (mu1 - mu2).square().sum(),
        "The root is missing. Hint: the trace of √(Σ₁Σ₂) is the sum of the roots of the product's eigenvalues.",
        _distance(root=lambda cov1, cov2: (cov1 @ cov2).trace()),
        "The root is taken of each entry of the matrix. Hint: the root of a matrix has the roots of its eigenvalues.",
        _distance(root=lambda cov1, cov2: (cov1 @ cov2).sqrt().trace()),
        "The matrices are multiplied entry by entry. Hint: a product of matrices is written with @.",
        _distance(root=lambda cov1, cov2: torch.linalg.eigvals(cov1 * cov2).real.sqrt().sum()),
        "This is the root of the distance. Hint: FID is the squared distance; do not take the root at the end.",
        lambda mu1, cov1, mu2, cov2: _distance()(mu1, cov1, mu2, cov2).clamp(min=0).sqrt(),
    ],
    says="The distance is 0 for equal Gaussians, and right for two that differ in place, width and direction.",
    hint="the squared length between the means, both traces, and twice the trace of the root taken away.",
    what="the distance",
)


def _line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Slope and height of the line through the points."""
    return tuple(np.polyfit(x.numpy(), y.numpy(), 1).tolist())


def _measured(K: int) -> tuple[Tensor, Tensor]:
    sizes = (100 * (1 + torch.rand(K, dtype=torch.float64)).cumprod(0)).round()
    return sizes, between(0.1, 3) + between(20, 80) / sizes


limit_of_many = Check(
    about="Check ``function(sizes, values)``: where values = a + b / N, measured at several N, end as N grows: a.",
    right=lambda sizes, values: _line(1 / sizes, values)[1],
    cases=lambda: [_measured(K) for K in (3, 5, 6)],
    mistakes=[
        "This is the slope of the line, the size of the bias. Hint: the limit is its height at 1/N = 0.",
        lambda sizes, values: _line(1 / sizes, values)[0],
        "The line is fitted over N. Hint: the bias falls as 1/N, so fit over 1 / sizes.",
        lambda sizes, values: _line(sizes, values)[1],
        "This is the value at the largest N, which still has bias in it. Hint: fit a line over 1/N.",
        lambda sizes, values: values[-1],
        "This is the mean of the values, bias and all. Hint: fit a line over 1/N, and read it at 0.",
        lambda sizes, values: values.mean(),
        "The line is read at 1/N = 1. Hint: infinitely many samples are 1/N = 0.",
        lambda sizes, values: sum(_line(1 / sizes, values)),
    ],
    says="What is exactly a + b / N is carried on to infinitely many samples, a.",
    hint="the values lie exactly on a line over 1/N; read it where N is infinite.",
    what="the limit",
)


def _apart(samples: Tensor, known: Tensor) -> Tensor:
    """The difference of each sample and each known image, (N, M, pixels)."""
    return (samples[:, None] - known).flatten(2)


def _images(N: int, M: int, side: int) -> tuple[Tensor, Tensor]:
    """N samples, the first a copy, and M known images."""
    known = torch.randn(M, 1, side, side)
    return torch.cat([known[M // 2 : M // 2 + 1], torch.randn(N - 1, 1, side, side)]), known


nearest_distances = Check(
    about="Check ``function(samples, known)``: the Euclidean distance of each sample to its nearest known image, (N,).",
    right=lambda samples, known: _apart(samples, known).norm(dim=2).min(1).values,
    cases=lambda: [_images(5, 7, 4), _images(6, 3, 5), _images(3, 8, 3)],
    mistakes=[
        "One number for each training image. Hint: take the minimum over the training images, dim=1.",
        lambda samples, known: _apart(samples, known).norm(dim=2).min(0).values,
        "These are squared distances. Hint: take the root, or use torch.cdist.",
        lambda samples, known: _apart(samples, known).square().sum(2).min(1).values,
        "These are distances to the farthest image. Hint: the minimum, not the maximum.",
        lambda samples, known: _apart(samples, known).norm(dim=2).max(1).values,
        "These are mean distances to all images. Hint: the minimum over the training images.",
        lambda samples, known: _apart(samples, known).norm(dim=2).mean(1),
        "These are indices of the nearest images. Hint: .min(1) returns values and indices; return .values.",
        lambda samples, known: _apart(samples, known).norm(dim=2).argmin(1),
        "These are mean squared differences per pixel. Hint: the length of the difference: add up, then the root.",
        lambda samples, known: _apart(samples, known).square().mean(2).min(1).values,
        "These are the largest differences in one pixel. Hint: the Euclidean length over all pixels.",
        lambda samples, known: _apart(samples, known).abs().amax(2).min(1).values,
        "These are sums of absolute differences. Hint: the Euclidean length: squares, sum, root.",
        lambda samples, known: _apart(samples, known).abs().sum(2).min(1).values,
    ],
    says="Each sample has its distance to the nearest training image, and a copy has 0.",
    hint="the length of the difference to each training image, then the smallest.",
    what="the list of distances",
    tolerance={"the list of distances": 5e-3},  # |a|² + |b|² − 2ab in float32 loses that much beside a copy
    shapes="compare each sample with each known image: (N, 1, ...) with (1, M, ...), or torch.cdist of flat images.",
)
