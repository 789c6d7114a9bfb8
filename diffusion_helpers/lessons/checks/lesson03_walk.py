"""Notebook 03, the way back: the posterior, the bound, the sampler."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ...denoise import Denoised
from ...schedules import Level
from .engine import Check, Mistake, alike, between, number, tensor
from .lesson03 import SCALE, level_of, tables
from .noise import factors


def _pair(clean: bool = False) -> tuple[Level, Level]:
    """A level and a lower one, with any scales: only the noise over the signal must fall."""
    at = level_of(0.7, between(0.3, 0.6), between(0.8, 1.1))
    return at, level_of(0.0, 1.0, 0.0) if clean else level_of(0.4, between(0.7, 0.9), between(0.3, 0.6))


def _added(at: Level, to: Level) -> Tensor:
    return at.sigma**2 - (at.alpha / to.alpha * to.sigma) ** 2


def _posterior(at: Level, to: Level) -> tuple[Tensor, Tensor, Tensor]:
    beta = _added(at, to)
    return (
        to.alpha * beta / at.sigma**2,
        at.alpha / to.alpha * to.sigma**2 / at.sigma**2,
        to.sigma**2 * beta / at.sigma**2,
    )


def _seen_in_posterior(answer, at: Level, to: Level) -> dict[str, object]:
    found = answer(at, to)
    if not isinstance(found, (tuple, list)) or len(found) != 3:
        raise Mistake("Return three numbers: the weight of x0, the weight of x_t, and the variance.")
    names = ("the weight of x0", "the weight of x_t", "the variance")
    return {name: number(value, name) for name, value in zip(names, found, strict=True)}


def _wrong_posterior(change: Callable[..., tuple]) -> Callable[..., tuple]:
    return lambda at, to: change(at, to, *_posterior(at, to))


posterior = Check(
    about="Check ``function(at, to)``: the weights of x0 and x_t in the mean of q(x_to | x_at, x0), and its variance.",
    right=_posterior,
    cases=lambda: [_pair(), _pair(), _pair(clean=True)],
    mistakes=[
        "The weights are those of precisions, not of a mean. Hint: divide by the sum of the two precisions.",
        lambda at, to: (
            to.alpha / to.sigma**2,
            at.alpha / to.alpha / _added(at, to),
            to.sigma**2 * _added(at, to) / at.sigma**2,
        ),
        "This is the standard deviation. Hint: return the variance; whoever draws takes the root.",
        _wrong_posterior(lambda at, to, k0, k1, v: (k0, k1, v**0.5)),
        "This variance is β, that of the step up. Hint: x0 says something too, so less is left: σ_s²·β / σ_t².",
        _wrong_posterior(lambda at, to, k0, k1, v: (k0, k1, _added(at, to))),
        "The two weights are swapped. Hint: the weight of x0 comes first.",
        _wrong_posterior(lambda at, to, k0, k1, v: (k1, k0, v)),
        "The factor of the step is forgotten: x_t is about r·x_s, r = α_t / α_s. Hint: r stands in the weight of x_t.",
        _wrong_posterior(lambda at, to, k0, k1, v: (k0, k1 * to.alpha / at.alpha, v)),
        "σ_t² stands where σ_s² belongs, in the weight of x_t. Hint: at σ_s = 0 that weight must be 0.",
        _wrong_posterior(lambda at, to, k0, k1, v: (k0, at.alpha / to.alpha, v)),
        "α_t stands where α_s belongs, in the weight of x0. Hint: the first factor says that x_s is about α_s·x0.",
        _wrong_posterior(lambda at, to, k0, k1, v: (k0 * at.alpha / to.alpha, k1, v)),
    ],
    says="Two parabolas added up: the weights and the variance of the reverse step, for any two levels.",
    hint="with r = α_t / α_s and β = σ_t² − r²·σ_s², precision 1/σ_s² + r²/β; multiply out, as σ_s may be 0.",
    see=_seen_in_posterior,
)


bound_weight = Check(
    about="Check ``function(at, to)``: the weight of ‖x0 - x̂0‖² in the bound, for the step from ``at`` to ``to``.",
    right=lambda at, to: (to.snr - at.snr).item() / 2,
    cases=lambda: [_pair() for _ in range(3)],
    mistakes=[
        "The half is missing. Hint: the distance of the means is divided by twice the variance.",
        lambda at, to: to.snr - at.snr,
        "This is the weight of the error of the noise. Hint: leave the error as one of x0; the weight of x0 is enough.",
        lambda at, to: (to.snr / at.snr - 1) / 2,
        "The weight of x0 must be squared, since the distance of the means is.",
        lambda at, to: _posterior(at, to)[0] / (2 * _posterior(at, to)[2]),
        "It is divided by a standard deviation. Hint: twice the variance, 2·β̃.",
        lambda at, to: _posterior(at, to)[0] ** 2 / (2 * _posterior(at, to)[2] ** 0.5),
        "It is divided by β. Hint: both Gaussians have the variance β̃ of the posterior.",
        lambda at, to: _posterior(at, to)[0] ** 2 / (2 * _added(at, to)),
    ],
    says="Half of what the signal-to-noise ratio gains in the step: nothing else of the schedule matters.",
    hint="the means differ by the weight of x0 times the error; square that, divide by 2·β̃, and simplify.",
    what="the weight",
)


ONE_NOISE = "All samples get the same fresh noise. Hint: randn_like(x) draws for each of them."


class _Gaussian:
    """The exact denoiser of data N(mean, std²), which remembers what it is asked."""

    def __init__(self):
        self.mean, self.std, self.asked = between(0.5, 1.0), between(0.3, 0.6), []

    def __call__(self, x: Tensor, level: Level) -> Denoised:
        self.asked.append(level.t.item())
        _, alpha, sigma = level.like(x)
        gain = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)
        self.last = self.mean + gain * (x - alpha * self.mean)
        return Denoised(x, self.last, level)


def _levels(steps: int) -> list[Level]:
    times = [1.0, *sorted((torch.rand(steps - 1) * 0.15 + torch.arange(1, steps) / steps).tolist(), reverse=True), 0.0]
    return [level_of(t, max(0.05, (1 - t**2)) ** 0.5 if t else 1.0, min(0.95, t**2) ** 0.5) for t in times]


def _seen_in_walk(answer, denoise: _Gaussian, x: Tensor, levels: list[Level]) -> dict[str, object]:
    found = tensor(answer(denoise, x.clone(), levels), x.shape, "what is returned")
    if not denoise.asked:
        raise Mistake("The denoiser was never asked. Hint: denoise(x, at).x0 at each level but the last.")
    (of_start, constant), rest = factors(found, x, torch.ones_like(x))
    seen = {
        "the list of times at which the denoiser is asked,": torch.tensor(denoise.asked),
        "the noise of the last step": (found - denoise.last).std().item(),
        "the part of the start that is left": of_start,
        "the mean": constant,
        "the spread": rest.std().item(),
    }
    if rest.std() < 1e-3 and not alike(found, answer(denoise, x.clone(), levels)):
        raise Mistake(ONE_NOISE)
    return seen


def _walk(
    where=lambda at, to: at,
    noise=lambda x, to, beta, small: small**0.5 * torch.randn_like(x),
    pairs=lambda levels: list(pairwise(levels)),
    keeps=True,
):
    """A sampler that is right but for what is given."""

    def walk(denoise, x, levels):
        start = x
        for at, to in pairs(levels):
            k0, k1, small = _posterior(at, to)
            x0 = denoise(x, where(at, to)).x0
            x = k0 * x0 + k1 * (x if keeps else start) + noise(x, to, _added(at, to), small)
        return x.to(start.dtype)

    return walk


ancestral = Check(
    about="Check ``function(denoise, x, levels)``: the whole ancestral walk with the posterior's variance, to x_0.",
    right=_walk(),
    cases=lambda: [(_Gaussian(), torch.randn(40_000, 1), _levels(steps)) for steps in (3, 5)],
    mistakes=[
        "No fresh noise is added, and the samples crowd together. Hint: the root of the variance times randn_like(x).",
        _walk(noise=lambda x, to, beta, small: 0),
        "The noise is scaled by the variance. Hint: by its root.",
        _walk(noise=lambda x, to, beta, small: small * torch.randn_like(x)),
        "The fresh noise is uniform. Hint: randn_like, with an n for normal.",
        _walk(noise=lambda x, to, beta, small: small**0.5 * torch.rand_like(x)),
        ONE_NOISE,
        _walk(noise=lambda x, to, beta, small: small**0.5 * torch.randn(x.shape[1:])),
        "The fresh noise has the variance β, the other choice of Ho et al. Hint: take the posterior's here.",
        _walk(noise=lambda x, to, beta, small: beta**0.5 * torch.randn_like(x) * (to.sigma > 0)),
        "Noise is added on the last step, and nothing takes it out again. Hint: at σ = 0 the variance is 0.",
        _walk(noise=lambda x, to, beta, small: beta**0.5 * torch.randn_like(x)),
        "The denoiser is asked at the level you go to. Hint: x is still at the level you come from.",
        _walk(where=lambda at, to: to),
        "Each step begins with the noise of the start. Hint: x must become the result of the step.",
        _walk(keeps=False),
        "The walk stops one level early. Hint: pairwise(levels) ends with the step to the last level.",
        _walk(pairs=lambda levels: list(pairwise(levels))[:-1]),
    ],
    says="On data whose every walk can be calculated, the walk ends with the right mean and the right spread.",
    hint="for each pair (at, to): x0 = denoise(x, at).x0, then the mean and the variance of posterior(at, to).",
    see=_seen_in_walk,
    slack=0.03,
    tolerance={
        "the noise of the last step": 1e-3,
        "the part of the start that is left": 0.015,
        "the mean": 0.015,
        "the spread": 0.01,
    },
)


class _Predictor:
    """The exact noise predictor of data N(mean, std²) on tables: net(x, t / T)."""

    def __init__(self, alpha: Tensor, sigma: Tensor):
        self.alpha, self.sigma, self.mean, self.std = alpha, sigma, between(0.5, 1.0), between(0.3, 0.6)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        if not isinstance(t, Tensor) or t.shape != (len(x),):
            raise Mistake(f"The network wants one time for each image, ({len(x)},).")
        if t.max() > 1.001:
            raise Mistake(SCALE)
        at = (t * (len(self.alpha) - 1)).round().long()
        alpha, sigma = self.alpha[at][:, None], self.sigma[at][:, None]
        return sigma * (x - alpha * self.mean) / (alpha**2 * self.std**2 + sigma**2)


def _seen_in_draw(answer, net: _Predictor, x: Tensor, alpha: Tensor, sigma: Tensor) -> dict[str, object]:
    found = tensor(answer(net, x.clone(), alpha, sigma), x.shape, "what is returned")
    (of_start, constant), rest = factors(found, x, torch.ones_like(x))
    return {
        "the part of the start that is left": of_start,
        "the spread": rest.std().item(),
        "the mean": constant if rest.std() > 1e-3 else None,  # of one noise for all it is one draw
    }


def _drawn(root=True, last=False, shared=False):
    """Ho et al., algorithm 2, with the bugs that are asked for: no square, noise on the last step, one noise for all."""

    def draw(net, x, alpha, sigma):
        T = len(alpha) - 1
        for i in range(T, 0, -1):
            keep = alpha[i] / alpha[i - 1]
            beta = 1 - keep**2 if root else 1 - keep
            x = (x - beta / sigma[i] * net(x, torch.full((len(x),), i / T))) / keep
            if i > 1 or last:
                x = x + beta.sqrt() * torch.randn(x.shape[1:] if shared else x.shape)
        return x

    return draw


three_bugs = Check(
    about="Check ``function(net, x, alpha, sigma)``: algorithm 2 of Ho et al. without the three bugs it was found with.",
    right=_drawn(),
    cases=lambda: [(_Predictor(*steps), torch.randn(40_000, 1), *steps) for steps in (tables(4), tables(6))],
    mistakes=[
        "Each sample alone looks right, but they are not independent. Hint: which shape has the noise?",
        _drawn(shared=True),
        _drawn(shared=True, root=False),
        _drawn(shared=True, last=True),
        _drawn(root=False, last=True, shared=True),
        "Every step is too small. Hint: keep is α_i / α_(i−1) = √(1 − β). So what is β?",
        _drawn(root=False),
        _drawn(root=False, last=True),
        "The results are grainy: noise is added that nothing takes out again. Hint: what happens at i = 1?",
        _drawn(last=True),
    ],
    says="Found, all three: β from the square, noise of its own for each sample, and none on the last step.",
    hint="the mean is (x − β/σ_i · ε̂) / √(1 − β), the fresh noise has the variance β, and there is none at i = 1.",
    see=_seen_in_draw,
    tolerance={"the part of the start that is left": 0.02, "the mean": 0.02, "the spread": 0.02},
    slack=0.03,
)
