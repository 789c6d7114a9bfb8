"""Notebook 05: evaluation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...bench import metrics
from .engine import Check, between, tensor


def _paired(x: Tensor, y: Tensor) -> Tensor:
    """The squared differences of the numbers in order, (n,)."""
    return (x.sort().values - y.sort().values).square()


def _two_heaps() -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, int(between(4, 40)), dtype=torch.float64)
    return x, between(-1, 1) + between(0.5, 2) * y


pairing = Check(
    about="Check ``function(x, y)``: the smallest mean of (x - y)² over all pairings of x (n,) with y (n,).",
    right=lambda x, y: _paired(x, y).mean().item(),
    cases=lambda: [_two_heaps() for _ in range(3)],
    mistakes=[
        "The numbers are paired as they come. Hint: which order of both makes all the ways short?",
        lambda x, y: (x - y).square().mean(),
        "Only one set is sorted. Hint: the smallest of one belongs to the smallest of the other.",
        lambda x, y: (x.sort().values - y).square().mean(),
        lambda x, y: (x - y.sort().values).square().mean(),
        "The smallest is paired with the largest: this is the dearest plan. Hint: sort both the same way.",
        lambda x, y: (x.sort().values - y.sort(descending=True).values).square().mean(),
        "Each goes to its nearest, so that some are taken twice. Hint: one to one.",
        lambda x, y: (x[:, None] - y).square().min(1).values.mean(),
        lambda x, y: (x[:, None] - y).square().min(0).values.mean(),
        "This is the mean over all pairs, a plan that spreads each grain evenly. Hint: choose who goes to whom.",
        lambda x, y: (x[:, None] - y).square().mean(),
        "This compares the means only. Hint: two heaps in one place may differ in width.",
        lambda x, y: (x.mean() - y.mean()).square(),
        "This is the sum over the pairs. Hint: the mean.",
        lambda x, y: _paired(x, y).sum(),
        "The differences are not squared. Hint: the cost of a move is the square of its length.",
        lambda x, y: _paired(x, y).sqrt().mean(),
        "This is the root of the cost. Hint: the squared distance; do not take the root at the end.",
        lambda x, y: _paired(x, y).mean().sqrt(),
    ],
    says="No pairing is cheaper than that of the sorted numbers.",
    hint="swap the partners of two pairs whose ways cross, and see what that saves.",
    what="the cost",
)


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
    about="Check ``function(mu1, cov1, mu2, cov2)``: the squared Fréchet distance between two Gaussians.",
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


def _ends(answer: Callable, real: Tensor) -> dict[str, object]:
    found = metrics.neighbourhoods(tensor(answer(real), real.shape, "the answer"), real)
    return {
        "the precision": found["precision"],
        "the number of tenths of the real images that are reached": int(10 * found["recall"]),
    }


one_sided = Check(
    about="Check ``function(real)``: samples (M, D) of precision 1 and recall below 0.1, against real (M, D).",
    right=lambda real: real[:1].repeat(len(real), 1),
    cases=lambda: [(torch.randn(int(between(60, 120)), D),) for D in (2, 4, 8)],
    mistakes=[
        "These are the real images: they reach everything. Hint: be good at one thing.",
        lambda real: real,
        "These reach more than a tenth. Hint: how few different images do you need?",
        lambda real: real[: len(real) // 2 + 1].repeat(2, 1)[: len(real)],
        lambda real: real[: len(real) // 4 + 1].repeat(4, 1)[: len(real)],
        "This is the other end, poor precision and high recall. Hint: stay where a real image is.",
        lambda real: 5 * real,
        lambda real: 10 * real,
        "No sample is near anything real. Hint: where is a point that is surely in a real ball?",
        lambda real: real + 100,
        lambda real: torch.full_like(real, 100.0),
    ],
    says="Every sample is in a real ball, and they reach less than a tenth of the real images.",
    hint="each sample must lie in a real ball, and the samples' own balls must be small.",
    see=_ends,
)


def _shares(estimate: Callable = lambda p, q: (p - q) / (1 - q), below: Callable = torch.lt) -> Callable:
    def answer(distances: Tensor, control: Tensor, q: float) -> float:
        return estimate(below(distances, control.quantile(q)).double().mean().item(), q)

    return answer


def _some_copied() -> tuple[Tensor, Tensor, float]:
    """Distances of samples of which some are copies, and of unseen images."""
    distances, control = 9 + 2 * torch.randn(2, 400, dtype=torch.float64)
    copies = int(between(80, 240))
    return torch.cat([torch.rand(copies, dtype=torch.float64), distances[copies:]]), control, between(0.05, 0.3)


copied_share = Check(
    about="Check ``function(distances, control, q)``: the share of copies, if a share q of the rest is below the limit.",
    right=_shares(),
    cases=lambda: [_some_copied() for _ in range(3)],
    mistakes=[
        "This is the share of all samples that lie below. Hint: some that are no copies lie there as well.",
        _shares(lambda p, q: p),
        "The q of all samples is taken away. Hint: only those that are no copies, 1 − c, have a share q below.",
        _shares(lambda p, q: p - q),
        "The difference is divided by q. Hint: solve p = c + (1 − c) q for c.",
        _shares(lambda p, q: (p - q) / q),
        "This is a ratio of shares. Hint: solve p = c + (1 − c) q for c.",
        _shares(lambda p, q: p / q),
        _shares(lambda p, q: p / (1 - q)),
        "Those above the limit are counted. Hint: a copy lies nearer than unseen images do.",
        _shares(below=torch.gt),
        _shares(lambda p, q: p, below=torch.gt),
        "q is used as a distance. Hint: the limit is the quantile of the control, control.quantile(q).",
        lambda distances, control, q: ((distances < q).double().mean() - q) / (1 - q),
        "The limit is a quantile of the samples themselves, so a share q lies below it always. Hint: of the control.",
        lambda distances, control, q: ((distances < distances.quantile(q)).double().mean() - q) / (1 - q),
    ],
    says="What lies below the limit by chance is taken out, and the copies are left.",
    hint="p = c + (1 − c) q, where p is the share of the samples below control.quantile(q).",
    what="the share of copies",
)
