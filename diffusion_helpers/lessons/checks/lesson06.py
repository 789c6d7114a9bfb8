"""Notebook 06: faster sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from ...denoise import Denoised
from ...schedules import Level
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


def _level(t: float, alpha: tuple[float, float], sigma: tuple[float, float]) -> Level:
    """A level of no schedule in particular."""
    return Level(*torch.tensor([t, between(*alpha), between(*sigma)], dtype=torch.float64))


def _steps() -> list[tuple]:
    """A denoiser that leans on the place and on the level, points, and two levels of a path of random shape."""

    def one(count: int) -> tuple:
        A, b = torch.randn(2, 2, dtype=torch.float64), torch.randn(2, dtype=torch.float64)

        def denoise(x: Tensor, level: Level) -> Denoised:
            _, alpha, sigma = level.like(x)
            return Denoised(x, (x @ A).tanh() * alpha + b * sigma, level)

        at = _level(between(0.6, 0.9), (0.2, 0.5), (0.8, 1.1))
        to = _level(between(0.2, 0.5), (0.6, 0.9), (0.3, 0.6))
        return denoise, torch.randn(count, 2, dtype=torch.float64), at, to

    return [one(count) for count in (1, 3, 5)]


def _heun(
    slope=lambda first, second: (first + second) / 2,
    ask=lambda z, x, to: to.alpha * z,
    level=lambda at, to: to,
    begin=lambda z, guess: z,
    run=lambda at, to: to.sigma / to.alpha - at.sigma / at.alpha,
    enter=lambda x, at: x / at.alpha,
    leave=lambda z, to: to.alpha * z,
):
    """Heun's step over sigma / alpha, with these parts."""

    def step(denoise, x, at, to):
        z, first = enter(x, at), denoise(x, at).eps
        guess = z + run(at, to) * first
        second = denoise(ask(guess, x, to), level(at, to)).eps
        return leave(begin(z, guess) + run(at, to) * slope(first, second), to)

    return step


def _over_time(denoise, x, at, to):
    """Heun's step over t, with the velocity of the flow."""
    d = denoise(x, at)
    guess = x + (to.t - at.t) * (d.eps - d.x0)
    other = denoise(guess, to)
    return x + (to.t - at.t) * (d.eps - d.x0 + other.eps - other.x0) / 2


def _mean_x0(denoise, x, at, to):
    """Heun's step over alpha / sigma, whose slope is x0."""
    d = denoise(x, at)
    other = denoise(to.alpha * d.x0 + to.sigma * d.eps, to)
    return to.sigma * (x / at.sigma + (to.alpha / to.sigma - at.alpha / at.sigma) * (d.x0 + other.x0) / 2)


heun_step = Check(
    about="Check ``function(denoise, x, at, to)``: Heun's step over ν = σ/α, with the slope ε̂, on levels of any path.",
    right=_heun(),
    cases=_steps,
    mistakes=[
        "The second slope was asked at the place you came from. Hint: ask where the guess is.",
        _heun(ask=lambda z, x, to: x),
        "The second slope was asked at the level you came from. Hint: the guess is at the lower level.",
        _heun(level=lambda at, to: at),
        "The denoiser was handed z. Hint: it knows noisy points x; turn the guess back into one first.",
        _heun(ask=lambda z, x, to: z),
        "The second step begins at the guess, so the way is gone twice. Hint: the guess only lends its slope.",
        _heun(begin=lambda z, guess: guess),
        "This is the DDIM step. Hint: the second slope has no part in it. (The means of both x̂₀ and both ε̂, put "
        "together without x, give the guess again: both of the second pair fit it already.)",
        _heun(slope=lambda first, second: first),
        "Only the slope at the guess is used. Hint: the slope changes on the way; neither end speaks for all of it.",
        _heun(slope=lambda first, second: second),
        "The slopes are added, or a second step follows the guess: either way it is twice as far. Hint: one step, with "
        "the mean.",
        _heun(slope=lambda first, second: first + second),
        "The step goes the wrong way. Hint: ν falls, so ν' − ν is negative.",
        _heun(run=lambda at, to: at.sigma / at.alpha - to.sigma / to.alpha),
        "The result is still z. Hint: what is returned is an x of the lower level.",
        _heun(leave=lambda z, to: z),
        "x was not turned into z. Hint: z = x/α, with α of the level x is at.",
        _heun(enter=lambda x, at: x),
        "The step runs over σ. Hint: ε̂ is the slope of z over ν = σ/α, and ν is not σ unless α = 1.",
        _heun(run=lambda at, to: to.sigma - at.sigma),
        "The step runs over t, with the velocity of the flow. Hint: that holds on the flow alone; here z runs over ν.",
        _over_time,
        "The mean is of the two x̂₀. Hint: over ν the slope is ε̂.",
        _mean_x0,
    ],
    says="The step begins at x, and takes the mean of the slopes at x and at the guess.",
    hint="z = x/α and ν = σ/α; a DDIM step is z' = z + (ν' − ν) ε̂. Which slope is better than that at the start?",
    what="the points",
)
