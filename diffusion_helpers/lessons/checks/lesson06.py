"""Notebook 06: faster sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from .engine import Check, Mistake, alike, between

FRESH = "Two calls differ: fresh noise is added. Hint: DDIM puts the estimated noise back, and no other."


def _levels() -> list[tuple[Tensor, Tensor, float, float]]:
    """x, another tensor, and alpha_bar from and to; the last goes all the way to clean data."""
    ends = (between(0.5, 0.7), between(0.75, 0.9), 1.0)
    return [(*torch.randn(2, 3), between(0.1, 0.4), to) for to in ends]


def _seen_twice(answer, x: Tensor, eps_hat: Tensor, bar_from: float, bar_to: float) -> dict[str, object]:
    found, again = (answer(x.clone(), eps_hat.clone(), bar_from, bar_to) for _ in range(2))
    if isinstance(found, Tensor) and found.isfinite().all() and not alike(found, again):
        raise Mistake(FRESH)
    return {"the image": found}


def _ddim(keep=lambda bar, to: to**0.5, add=lambda bar, to: (1 - to) ** 0.5, root=0.5, fresh=0.0):
    """A step with these factors of x0 and of the noise."""

    def step(x, eps_hat, bar_from, bar_to):
        x0 = (x - (1 - bar_from) ** root * eps_hat) / bar_from**root
        return keep(bar_from, bar_to) * x0 + add(bar_from, bar_to) * eps_hat + fresh * torch.randn_like(x)

    return step


ddim_step = Check(
    about="Check ``function(x, eps_hat, bar_from, bar_to)``: the image at the lower level, without fresh noise.",
    right=_ddim(),
    cases=_levels,
    mistakes=[
        FRESH,
        _ddim(fresh=0.1),
        "This is the estimate of x0 itself. Hint: only at ᾱ = 1 is that where you go; put noise back.",
        _ddim(keep=lambda bar, to: 1, add=lambda bar, to: 0),
        "The noise has the scale of the level you come from. Hint: √(1−ᾱ) of the level you go to.",
        _ddim(add=lambda bar, to: (1 - bar) ** 0.5),
        "x0 has the scale of the level you come from. Hint: √ᾱ of the level you go to.",
        _ddim(keep=lambda bar, to: bar**0.5),
        "ᾱ stands where its root belongs, in front of x0. Hint: √ᾱ.",
        _ddim(keep=lambda bar, to: to),
        "1−ᾱ is a variance. Hint: the factor of the noise is its root.",
        _ddim(add=lambda bar, to: 1 - to),
        "The noise was not put back. Hint: √ᾱ·x0 alone is too quiet.",
        _ddim(add=lambda bar, to: 0),
        "The estimate of x0 lacks its roots. Hint: its factors are √(1−ᾱ) and √ᾱ, as in lesson 03.",
        _ddim(root=1),
        "The two levels are swapped. Hint: you come from bar_from, where x is, and go to bar_to.",
        lambda x, eps_hat, bar_from, bar_to: _ddim()(x, eps_hat, bar_to, bar_from),
    ],
    says="x0 and ε are put together again at the lower level, and nothing random is added.",
    hint="first the estimate of x0 at bar_from, then both shares of the level bar_to.",
    see=_seen_twice,
)


def _mean(alpha=lambda bar, to: bar / to, front=lambda bar, to: to, left=lambda bar, to: 1 - to, variance=None):
    """A mean with these parts; it says nothing about the variance, unless that is given."""

    def step(x, x0, bar_from, bar_to):
        at, a = (bar_from, bar_to), alpha(bar_from, bar_to)
        mean = (front(*at) ** 0.5 * (1 - a) * x0 + a**0.5 * left(*at) * x) / (1 - bar_from)
        return mean, variance and variance(*at)

    return step


def _variance(bar: float, to: float) -> float:
    return (1 - bar / to) * (1 - to) / (1 - bar)


strided_posterior = Check(
    about="Check ``function(x, x0, bar_from, bar_to)``: mean and variance of q(x_to | x_from, x0), any distance apart.",
    right=_mean(variance=_variance),
    cases=_levels,
    mistakes=[
        "(1−ᾱ_t) stands where (1−ᾱ_t') belongs, in front of x. Hint: arriving at ᾱ = 1, nothing of x may be left.",
        _mean(left=lambda bar, to: 1 - bar),
        "√ᾱ_t stands where √ᾱ_t' belongs, in front of x0. Hint: x0 is scaled to the level you go to.",
        _mean(front=lambda bar, to: bar),
        "α is ᾱ_t here, as if you went all the way to clean data. Hint: α is what is left between two levels.",
        _mean(alpha=lambda bar, to: bar),
        "α is ᾱ_t' here. Hint: α is what is left of the signal between the two levels, a ratio.",
        _mean(alpha=lambda bar, to: to),
        "α is turned over: it is above 1. Hint: ᾱ_t is the smaller one, and stands on top.",
        _mean(alpha=lambda bar, to: to / bar),
        "This is the standard deviation. Hint: return the variance, without the root.",
        lambda x, x0, bar, to: (None, _variance(bar, to) ** 0.5),
        "This is β, the variance of the step up. Hint: the posterior is narrower.",
        lambda x, x0, bar, to: (None, 1 - bar / to),
    ],
    says="The mean and variance hold for two levels any distance apart.",
    hint="α is the ratio of bar_from and bar_to, and β = 1 − α.",
    what=("the mean", "the variance"),
)


def _errors(p: float) -> tuple[Tensor, Tensor]:
    """Errors of exactly this order, at steps that do not double."""
    steps = (10 * (1.2 + 0.6 * torch.rand(4, dtype=torch.float64)).cumprod(0)).round()
    return steps, between(0.3, 8) / steps**p


def _slope(x: Tensor, y: Tensor) -> Tensor:
    x = x - x.mean()
    return (x * y).sum() / x.square().sum()


order_of_convergence = Check(
    about="Check ``function(steps, errors)``: the p of errors = C / steps^p, on exact power laws.",
    right=lambda steps, errors: -_slope(steps.log(), errors.log()).item(),
    cases=lambda: [_errors(p) for p in (1.0, 2.0, between(1.2, 1.8), between(2.5, 4))],
    mistakes=[
        "The sign is turned. Hint: the error falls, its slope is −p, and the order is p.",
        lambda steps, errors: _slope(steps.log(), errors.log()),
        "This is the slope of the numbers themselves. Hint: take the logarithm of both.",
        lambda steps, errors: _slope(steps, errors),
        lambda steps, errors: -_slope(steps, errors),
        "This is how much the error fell. Hint: divide by how much the steps rose, both in logarithms.",
        lambda steps, errors: (errors[0] / errors[-1]).log(),
        lambda steps, errors: (errors[0] / errors[1]).log(),
        "This takes for granted that the steps double. Hint: divide by the logarithm of their ratio.",
        lambda steps, errors: (errors[0] / errors[1]).log2(),
        lambda steps, errors: (errors[0] / errors[-1]).log2(),
    ],
    says="The order is the slope of log error over log steps, turned positive.",
    hint="in logarithms the errors lie exactly on a line over the steps.",
    what="the order",
    tolerance={"the order": 1e-3},
)
