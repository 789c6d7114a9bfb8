"""Notebook 03: DDPM."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...denoise import Denoised
from ...schedules import Level
from ..toy import Mixture
from .engine import Check, Mistake, alike, between, number, tensor
from .lesson01 import SAME_FOR_ALL
from .noise import LOOSE, RATIO, Probe, factors, spread


def _level(t: float, alpha: float, sigma: float) -> Level:
    return Level(*(torch.tensor(value, dtype=torch.float64) for value in (t, alpha, sigma)))


def _score(log_density: Callable, x: Tensor, level: Level) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(log_density(x, level).sum(), x)[0]


def _density(D: int) -> tuple:
    lumps = Mixture(torch.rand(3).add(0.2).tolist(), torch.randn(3, D).tolist(), torch.rand(3).add(0.2).tolist())
    level = _level(between(0.2, 0.8), between(0.4, 0.8), between(0.5, 0.9))
    return lumps.log_density, torch.randn(7, D), level


tweedie = Check(
    about="Check ``function(log_density, x, level)``: E[x0 | x] from the density of the noisy points alone, (B, D).",
    right=lambda log, x, at: (x + at.sigma**2 * _score(log, x, at)) / at.alpha,
    cases=lambda: [_density(D) for D in (1, 2, 3)],
    mistakes=[
        "σ stands where σ² belongs. Hint: in x = α·x0 + σ·ε put ε̂ = −σ·score; that makes a second σ.",
        lambda log, x, at: (x + at.sigma * _score(log, x, at)) / at.alpha,
        "This is α·x0. Hint: divide by α at the end.",
        lambda log, x, at: x + at.sigma**2 * _score(log, x, at),
        "The sign is turned: the score points to where the data are. Hint: x + σ²·score.",
        lambda log, x, at: (x - at.sigma**2 * _score(log, x, at)) / at.alpha,
        "Every score is too small, by the number of points. Hint: differentiate the sum of log_density, not the mean.",
        lambda log, x, at: (x + at.sigma**2 * _score(log, x, at) / len(x)) / at.alpha,
        "This is the score itself. Hint: the last step is from the score to the estimate of x0.",
        _score,
        "This is the estimate of the noise. Hint: from ε̂ to x̂0 it is (x − σ·ε̂) / α.",
        lambda log, x, at: -at.sigma * _score(log, x, at),
    ],
    says="From the density alone, by its gradient: this is E[x0 | x], for any density.",
    hint="the score is the gradient of log_density(x, level) with respect to x; then (x + σ²·score) / α.",
    what="the estimate of x0",
)


class _Block(nn.Module):
    """A residual block whose time scales and shifts its channels, as the lesson has it."""

    def __init__(self, c_in: int, c_out: int, width: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.condition = nn.Linear(width, 2 * c_out)
        self.norm2, self.conv2 = nn.GroupNorm(8, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def inner(self, x: Tensor, e: Tensor, bend=F.silu, conditioned=lambda h, scale, shift: h * (1 + scale) + shift):
        scale, shift = self.condition(e)[:, :, None, None].chunk(2, 1)
        h = self.norm2(self.conv1(bend(self.norm1(x))))
        return self.conv2(bend(conditioned(h, scale, shift)))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return self.skip(x) + self.inner(x, e)


def _other(forward: Callable[[_Block, Tensor, Tensor], Tensor]) -> type[_Block]:
    return type("Other", (_Block,), {"forward": forward})


def _seen_in_block(answer, c_in: int, c_out: int, x: Tensor, e: Tensor, seed: int) -> dict[str, object]:
    block = answer(c_in, c_out, e.shape[1])
    if not isinstance(block, nn.Module):
        raise Mistake("This makes no network. Hint: hand over the class itself, TimeBlock, without brackets.")
    shape = (len(x), c_out, *x.shape[2:])
    with torch.no_grad():
        tensor(block(x.clone(), e.clone()), shape, "The output")
        weights = dict(block.named_parameters())
        drawn = {
            name: 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed + crc32(name.encode())))
            for name, weight in weights.items()
        }
        for name in (name for name in drawn if not name.startswith("conv2")):
            weights[name].copy_(drawn[name])
        fresh = block(x.clone(), e.clone())
        for name, values in drawn.items():
            weights[name].copy_(values)
        change = fresh - block.skip(x) if c_in == c_out else torch.zeros(())
        return {"what a fresh block adds": change.abs().max().item(), "the output": block(x.clone(), e.clone())}


def _conditioned(how: Callable[[Tensor, Tensor, Tensor], Tensor]) -> type[_Block]:
    return _other(lambda b, x, e: b.skip(x) + b.inner(x, e, conditioned=how))


residual_block = Check(
    about="Check a class ``TimeBlock(c_in, c_out, width)``: its forward(x, e) is skip(x) + what time scales and shifts.",
    right=_Block,
    cases=lambda: [
        (c_in, c_out, torch.randn(3, c_in, 6, 6), torch.randn(3, 12), int(between(0, 2**20)))
        for c_in, c_out in ((16, 16), (8, 24))
    ],
    mistakes=[
        "The time is not used. Hint: self.condition(e) has two numbers for each image and channel, (B, 2C).",
        _conditioned(lambda h, scale, shift: h),
        "Nothing goes around the two convolutions. Hint: add self.skip(x) at the end.",
        _other(lambda b, x, e: b.inner(x, e)),
        "The map is multiplied by scale, which starts near 0 and shuts it off. Hint: by 1 + scale.",
        _conditioned(lambda h, scale, shift: h * scale + shift),
        "The time does not shift the map. Hint: h * (1 + scale) + shift.",
        _conditioned(lambda h, scale, shift: h * (1 + scale)),
        "The time does not scale the map. Hint: h * (1 + scale) + shift.",
        _conditioned(lambda h, scale, shift: h + shift),
        "Scale and shift are swapped. Hint: scale is the first half of the channels, as chunk(2, 1) gives them.",
        _conditioned(lambda h, scale, shift: h * (1 + shift) + scale),
        "The activations are missing, and two convolutions in a row are one. Hint: F.silu before each convolution.",
        _other(lambda b, x, e: b.skip(x) + b.inner(x, e, bend=lambda h: h)),
        "The time comes after the last convolution, so that a fresh block is not the identity. Hint: before it.",
        _other(
            lambda b, x, e: (
                b.skip(x)
                + b.inner(x, e, conditioned=lambda h, scale, shift: h)
                + b.condition(e)[:, :, None, None].chunk(2, 1)[1]
            )
        ),
    ],
    says="A fresh block adds nothing; a trained one adds what the time has scaled and shifted.",
    hint="norm1, silu, conv1; norm2, times 1 + scale, plus shift; silu, conv2; plus self.skip(x).",
    shapes="self.condition(e) is (B, 2C): [:, :, None, None].chunk(2, 1) makes two (B, C, 1, 1) of it.",
    see=_seen_in_block,
)

NEVER = "The network was never called. Hint: net(x_t, t / T)."
SCALE = "The network gets the number of the step. Hint: it wants t / T, a number between 0 and 1."
OTHER_T = "The network gets t divided by something else than T. Hint: T = len(alpha) - 1 belongs to these tables."
SHARED = "All images of the batch share one t. Hint: draw one for each image: torch.randint(1, T + 1, (len(x0),))."
RESHAPE = (
    "The levels run along the width of the images, because alpha[t] is (B,) and lines up with the last axis. "
    "Hint: alpha[t].reshape(-1, 1, 1, 1)."
)


def _tables(T: int) -> tuple[Tensor, Tensor]:
    """alpha and sigma of T + 1 levels, from clean data on, each keeping 55 to 80 percent of the signal's power."""
    kept = torch.cat([torch.ones(1), (0.55 + 0.25 * torch.rand(T)).cumprod(0)])
    return kept.sqrt(), (1 - kept).sqrt()


def _mixture(of_eps: float, of_x0: float) -> Callable[..., Tensor]:
    def target(x0: Tensor, eps: Tensor, a: Tensor, s: Tensor) -> Tensor:
        if a.ndim == 1 or s.ndim == 1:
            raise Mistake("target gets a and s of shape (B,). Hint: alpha[t].reshape(-1, 1, 1, 1), and sigma likewise.")
        return of_eps * a * eps - of_x0 * s * x0

    return target


def _seen_in_loss(answer, net: Probe, x0: Tensor, alpha: Tensor, sigma: Tensor, target) -> dict[str, object]:
    T, loss = len(alpha) - 1, answer(net, x0.clone(), alpha, sigma, target)
    if net.x is None or net.t is None:
        raise Mistake(NEVER)
    if net.t.shape != (len(x0),):
        raise Mistake(f"The times have shape {tuple(net.t.shape)}: expected ({len(x0)},), one for each image.")
    if net.t.max() > 1.001:
        raise Mistake(SCALE)
    if net.t.unique().numel() == 1:
        raise Mistake(SHARED)
    if not alike(net.t * T, (net.t * T).round(), 1e-3):
        raise Mistake(OTHER_T)
    x, t = tensor(net.x, x0.shape, "x_t"), (net.t * T).round().long()
    a, s = (table[t].reshape(-1, 1, 1, 1) for table in (alpha, sigma))
    noisy = t > 0
    eps = ((x - a * x0) / s)[noisy]
    if alike(eps[0], eps[1], 1e-2):
        raise Mistake(SAME_FOR_ALL)
    if noisy.all() and len(x0) == x0.shape[-1]:
        along = (x - alpha[t] * x0) / sigma[t]
        if abs(along.std() - 1) < 0.02 < abs(eps.std() - 1):
            raise Mistake(RESHAPE)
    (of_x0,), _ = factors(eps, x0[noisy])
    times = {
        "the smallest t": t.min().item(),
        "the largest t": t.max().item(),
        "the mean of t": t.double().mean().item(),
    }
    right = F.mse_loss(net.scale * x[noisy], target(x0[noisy], eps, a[noisy], s[noisy])).item()
    return times | spread(eps) | {"the factor of x0 in the noise": of_x0, RATIO: number(loss, "the loss") / right}


def _loss(
    draw=torch.randn_like,
    times=lambda n, T: torch.randint(1, T + 1, (n,)),
    goal=lambda target, x0, x, eps, a, s: target(x0, eps, a, s),
    power=1,
    over=lambda T: T,
    error=lambda d: d.square().mean(),
    shaped=lambda levels: levels.reshape(-1, 1, 1, 1),
):
    """A loss that is right but for what is given."""

    def loss(net, x0, alpha, sigma, target):
        T = len(alpha) - 1
        t, eps = times(len(x0), T), draw(x0)
        a, s = shaped(alpha[t]), shaped(sigma[t])
        x = a**power * x0 + s**power * eps
        return error(net(x, t / over(T)) - goal(target, x0, x, eps, a, s))

    return loss


ddpm_loss = Check(
    about="Check ``function(net, x0, alpha, sigma, target)``: the mean of (net(x_t, t / T) - target)², one t per image.",
    right=_loss(),
    cases=lambda: [
        (Probe(0.1), 2 * torch.rand(*shape) - 1, *_tables(T), _mixture(between(0.8, 1.2), between(0.8, 1.2)))
        for T, shape in ((3, (400, 1, 1, 400)), (4, (4000, 1, 4, 4)), (7, (4000, 1, 4, 4)))
    ],
    mistakes=[
        NEVER,
        lambda net, x0, alpha, sigma, target: x0.mean(),
        RESHAPE,
        _loss(shaped=lambda levels: levels, goal=lambda target, x0, x, eps, a, s: eps),
        SCALE,
        _loss(over=lambda T: 1),
        OTHER_T,
        _loss(over=lambda T: 300),
        SHARED,
        _loss(times=lambda n, T: torch.randint(1, T + 1, (1,)).expand(n)),
        SAME_FOR_ALL,
        _loss(draw=lambda x: torch.randn_like(x[:1]).expand_as(x)),
        "t = 0 is drawn: that is clean data, with no noise to predict. Hint: torch.randint(1, T + 1, ...).",
        _loss(times=lambda n, T: torch.randint(0, T + 1, (n,))),
        _loss(times=lambda n, T: torch.randint(0, T, (n,))),
        "t = T is never drawn. Hint: randint leaves the upper end out: torch.randint(1, T + 1, ...).",
        _loss(times=lambda n, T: torch.randint(1, T, (n,))),
        "The image is mixed with α² and σ². Hint: α and σ are the factors themselves.",
        _loss(power=2),
        "The noise is never negative: it is uniform. Hint: randn_like, with an n for normal, not rand_like.",
        _loss(draw=torch.rand_like),
        "The answer is compared with the noise, whatever is asked for. Hint: target(x0, eps, a, s).",
        _loss(goal=lambda target, x0, x, eps, a, s: eps),
        "The answer is compared with the clean image. Hint: target(x0, eps, a, s) says what is asked for.",
        _loss(goal=lambda target, x0, x, eps, a, s: x0),
        "The answer is compared with the noisy image. Hint: target(x0, eps, a, s) says what is asked for.",
        _loss(goal=lambda target, x0, x, eps, a, s: x),
        "target takes x0 first, then eps. Hint: target(x0, eps, a, s).",
        _loss(goal=lambda target, x0, x, eps, a, s: target(eps, x0, a, s)),
        "The squares are summed. Hint: take their mean, so that the learning rate does not depend on the size.",
        _loss(error=lambda d: d.square().sum()),
    ],
    says="Each image gets its own t from 1 to T, and the network is asked for its target.",
    hint="x_t is mixed as in lesson 01 with alpha[t] and sigma[t], for the t that the network gets; the loss is a mean.",
    see=_seen_in_loss,
    tolerance=LOOSE | {"the mean of t": 0.2, "the factor of x0 in the noise": 0.05, RATIO: 1e-3},
    slack=0.05,
    shapes="alpha[t] has one number for each image, (B,); with images (B, C, H, W) it goes as reshape(-1, 1, 1, 1).",
)


def _pair(clean: bool = False) -> tuple[Level, Level]:
    """A level and a lower one, with any scales: only the noise over the signal must fall."""
    at = _level(0.7, between(0.3, 0.6), between(0.8, 1.1))
    return at, _level(0.0, 1.0, 0.0) if clean else _level(0.4, between(0.7, 0.9), between(0.3, 0.6))


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
    return [_level(t, max(0.05, (1 - t**2)) ** 0.5 if t else 1.0, min(0.95, t**2) ** 0.5) for t in times]


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
    cases=lambda: [(_Predictor(*tables), torch.randn(40_000, 1), *tables) for tables in (_tables(4), _tables(6))],
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
