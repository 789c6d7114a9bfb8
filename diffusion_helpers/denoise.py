"""One contract for every network: a denoiser answers a noisy image with an estimate of x0.

A network may predict the noise, the clean image, or a mixture of both. All say the same thing,
because x, x0 and eps are tied by ``x = alpha * x0 + sigma * eps``: two of them give the third.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .schedules import Level, Schedule, noise, per_image

# What a network predicts: target = c0 * x0 + c1 * eps, as a function of the level.
KINDS: dict[str, Callable[[Level], tuple]] = {
    "eps": lambda level: (0.0, 1.0),
    "x0": lambda level: (1.0, 0.0),
    "v": lambda level: (-level.sigma, level.alpha),
    "flow": lambda level: (-1.0, 1.0),
}


@dataclass(frozen=True)
class Denoised:
    """A noisy image ``x`` at a ``level`` with the estimate ``x0`` of the clean image, (B, ...)."""

    x: Tensor
    x0: Tensor
    level: Level

    @property
    def eps(self) -> Tensor:
        """The noise estimate that goes with x0: ``x = alpha * x0 + sigma * eps``; 0 at sigma = 0."""
        noisy = self.level.sigma > 0
        inverse = noisy / torch.where(noisy, self.level.sigma, 1.0)  # never 1 / 0, whose gradient would be NaN
        return (self.x - per_image(self.level.alpha, self.x) * self.x0) * per_image(inverse, self.x)


def _known(kind: str) -> str:
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind = {kind!r}: expected one of {', '.join(KINDS)}")
    return kind


def target(kind: str, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
    """What a network of this kind should predict: c0 * x0 + c1 * eps, shape of ``x0`` (B, ...).

    Raises ValueError for an unknown kind. Source: v from Salimans and Ho 2022 (arXiv:2202.00512),
    appendix D; flow, eps - x0, from Liu et al. 2023 (arXiv:2209.03003).
    """
    c0, c1 = KINDS[_known(kind)](level.like(x0))
    return c0 * x0 + c1 * eps


def to_x0(kind: str, prediction: Tensor, x: Tensor, level: Level) -> Tensor:
    """The estimate of x0 that a prediction of this kind stands for, shape of ``x`` (B, ...).

    Solves target = c0 * x0 + c1 * eps and x = alpha * x0 + sigma * eps for x0.
    Raises ValueError for an unknown kind, and for eps at alpha = 0, where x holds no signal.
    """
    if _known(kind) == "eps" and bool((level.alpha == 0).any()):
        raise ValueError("an eps prediction at alpha = 0: expected a level with some signal")
    level = level.like(x)
    c0, c1 = KINDS[kind](level)
    if kind == "x0":
        return prediction
    return (c1 * x - level.sigma * prediction) / (level.alpha * c1 - level.sigma * c0)


def label_weights(y: Tensor, classes: int) -> Tensor:
    """Labels as rows of weights, (B, classes): one-hot, and all zeros for the null label.

    y is (B,) integers in 0 ... classes, where ``classes`` is the null label, or already (B, classes)
    floats, a mixture of labels. Raises ValueError for any other shape, dtype or value. Values on a GPU are not waited
    for: there it is torch that stops at a wrong one.
    """
    if y.is_floating_point():
        if y.ndim != 2 or y.shape[1] != classes:
            raise ValueError(f"label weights of shape {tuple(y.shape)}: expected (B, {classes})")
        return y
    if y.ndim != 1:
        raise ValueError(f"labels of shape {tuple(y.shape)}: expected (B,)")
    try:
        return F.embedding(y.long(), torch.eye(classes + 1, classes, device=y.device))
    except IndexError:
        raise ValueError(
            f"labels from {int(y.min())} to {int(y.max())}: expected 0 to {classes - 1}, or {classes} for no label"
        ) from None


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Within the block ``net`` is in eval mode, so that BatchNorm does not mix the images of a batch."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Denoiser(nn.Module):
    """A network with the schedule it was trained on and the kind of prediction it makes.

    Call it as ``denoiser(x, level)`` or ``denoiser(x, level, y)``: x (B, C, H, W) in [-1, 1] plus
    noise, y (B,) int64 with ``classes`` as the null label, or (B, classes) label weights.
    It answers with a ``Denoised``, always in eval mode; only ``loss`` trains.
    """

    def __init__(self, net: nn.Module, kind: str, schedule: Schedule):
        super().__init__()
        self.net, self.kind, self.schedule = net, _known(kind), schedule

    @property
    def classes(self) -> int:
        """How many classes the network knows, as its attribute ``classes`` says: 0 if it takes no label."""
        return getattr(self.net, "classes", 0)

    @property
    def words(self) -> int:
        """How many words the captions that the network reads have, as its attribute ``length`` says: 0 if it reads none."""
        return getattr(self.net, "length", 0)

    def _predict(self, x: Tensor, level: Level, y: Tensor | None) -> Tensor:
        t = per_image(level.t, x).to(x.device, non_blocking=True).reshape(-1).expand(len(x))  # (B,)
        return self.net(x, t) if y is None else self.net(x, t, y)

    def forward(self, x: Tensor, level: Level, y: Tensor | None = None) -> Denoised:
        with evaluating(self.net):
            prediction = self._predict(x, level, y)
        return Denoised(x, to_x0(self.kind, prediction, x, level), level)

    def loss(
        self,
        x0: Tensor,
        y: Tensor | None = None,
        t: Tensor | None = None,
        drop: float = 0.1,
        distance: Callable[[Tensor, Tensor], Tensor] = F.mse_loss,
    ) -> Tensor:
        """Mean squared error of the prediction at random levels, or another ``distance`` to its target: a scalar.

        x0 (B, C, H, W) in [-1, 1]; t (B,) training times, drawn from the schedule if not given; y (B,) labels, or
        captions (B, words) as tokens. Each is replaced by the null label, or by no words, with probability ``drop``.
        F.l1_loss and F.huber_loss are distances too. Of these the squared error alone is least at the mean of the target, which the samplers
        take the prediction for; the absolute error is least at its median.
        Sources: Ho et al. 2020, equation 14; label dropping from Ho and Salimans 2022
        (arXiv:2207.12598), algorithm 1.
        """
        level = self.schedule(self.schedule.draw(len(x0)) if t is None else t).like(x0)
        if y is not None:
            expected = (len(x0), self.words) if self.words else (len(x0),)
            if y.shape != expected:
                raise ValueError(f"labels of shape {tuple(y.shape)}: expected {expected}, one per image")
            gone = (torch.rand(len(y), device=y.device) < drop).reshape(-1, *[1] * (y.ndim - 1))
            y = torch.where(gone, self.classes, y)  # 0 for captions: no word
        eps = torch.randn_like(x0)
        prediction = self._predict(noise(x0, level, eps), level, y)
        return distance(prediction, target(self.kind, x0, eps, level))
