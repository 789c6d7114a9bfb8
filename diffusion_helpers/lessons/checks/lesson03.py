"""Notebook 03, to the loss: Tweedie, the residual block, the loss."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...schedules import Level
from ..toy import Mixture
from .engine import Check, Mistake, alike, between, number, tensor
from .lesson01 import SAME_FOR_ALL
from .noise import LOOSE, RATIO, Probe, factors, spread


def level_of(t: float, alpha: float, sigma: float) -> Level:
    return Level(*(torch.tensor(value, dtype=torch.float64) for value in (t, alpha, sigma)))


def _score(log_density: Callable, x: Tensor, level: Level) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(log_density(x, level).sum(), x)[0]


def _density(D: int) -> tuple:
    lumps = Mixture(torch.rand(3).add(0.2).tolist(), torch.randn(3, D).tolist(), torch.rand(3).add(0.2).tolist())
    level = level_of(between(0.2, 0.8), between(0.4, 0.8), between(0.5, 0.9))
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


def tables(T: int) -> tuple[Tensor, Tensor]:
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
        (Probe(0.1), 2 * torch.rand(*shape) - 1, *tables(T), _mixture(between(0.8, 1.2), between(0.8, 1.2)))
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
