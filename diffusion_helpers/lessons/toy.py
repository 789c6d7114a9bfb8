"""The toy that returns in the lessons: a density of a few lumps, whose exact denoiser and score are known.

Noise turns a mixture of Gaussians into another mixture of Gaussians, so that everything a network is trained for can
be written down: E[x0 | x], the density at every level, the chance of each label. Lump k is class k.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..denoise import Denoised, label_weights
from ..schedules import Level


class Mixture:
    """The density sum_k weights[k] N(means[k], stds[k]² I) of points of D numbers, and its exact denoiser.

    ``mixture(x, level)`` and ``mixture(x, level, y)`` answer as a ``Denoiser`` does, for points x (B, ...) of D numbers
    each; y holds labels (B,), where ``classes`` is the null label, or label weights (B, classes). It can be sampled
    and guided like a network.
    """

    def __init__(self, weights: Sequence[float], means: Sequence[Sequence[float]], stds: Sequence[float]):
        self.weights, self.means, self.stds = map(torch.tensor, (weights, means, stds))
        self.classes = len(self.weights)

    def along(self, axis: int) -> Mixture:
        """The density of one of the D numbers alone: the shadow of this one on an axis."""
        return Mixture(self.weights.tolist(), self.means[:, [axis]].tolist(), self.stds.tolist())

    def draw(self, count: int, y: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Points (count, D) of the density, or of that of the labels y (count,) or (count, classes)."""
        lump = torch.multinomial(self._prior(count, y), 1, generator=generator)[:, 0]
        noise = torch.randn(count, self.means.shape[1], generator=generator)
        return self.means[lump] + self.stds[lump, None] * noise

    def log_density(self, x: Tensor, level: Level, y: Tensor | None = None) -> Tensor:
        """log p(x), or log p(x | y), of noisy points x (B, ...) at the level, (B,)."""
        return self._parts(x, level, y)[0].logsumexp(1)

    def chances(self, x: Tensor, level: Level) -> Tensor:
        """p(y | x): the chance of each label for noisy points x (B, ...) at the level, (B, classes)."""
        return self._parts(x, level, None)[0].softmax(1)

    def __call__(self, x: Tensor, level: Level, y: Tensor | None = None) -> Denoised:
        log, off, variance = self._parts(x, level, y)
        alpha = level.like(off).alpha
        lump = self.means.to(off) + alpha * self.stds.to(off)[:, None] ** 2 / variance * off  # E[x0 | x, k], (B, K, D)
        return Denoised(x, (log.softmax(1)[..., None] * lump).sum(1).reshape(x.shape), level)

    def _prior(self, count: int, y: Tensor | None) -> Tensor:
        """The weight of each lump for each point, (count, K): those of the density where there is no label."""
        prior = self.weights.expand(count, self.classes)
        if y is None:
            return prior
        y = label_weights(y.cpu(), self.classes).to(prior)
        total = y.sum(1, keepdim=True)
        return torch.where(total > 0, y / total.clamp(min=1e-9), prior)

    def _parts(self, x: Tensor, level: Level, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """log of weight times density of each lump (B, K), x - alpha mean (B, K, D), and its variance (·, K, 1)."""
        points = x.flatten(1)[:, None]  # (B, 1, D)
        _, alpha, sigma = level.like(points)
        variance = alpha**2 * self.stds.to(x)[:, None] ** 2 + sigma**2
        off = points - alpha * self.means.to(x)
        log = (
            -off.square().sum(-1) / (2 * variance[..., 0])
            - points.shape[-1] / 2 * (2 * torch.pi * variance[..., 0]).log()
        )
        return log + self._prior(len(x), y).to(x).log(), off, variance


# Three lumps of different weight and width, whose shadows on the first axis touch, so that a label is not certain.
TOY = Mixture([0.5, 0.3, 0.2], [[-1.0, -0.5], [0.9, -0.7], [0.2, 1.0]], [0.3, 0.2, 0.25])
