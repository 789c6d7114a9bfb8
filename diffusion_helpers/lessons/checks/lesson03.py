"""Notebook 03: DDPM."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .engine import Check, Mistake, alike, between, number, tensor
from .lesson01 import SAME_FOR_ALL
from .noise import LOOSE, RATIO, Probe, factors, spread

COLUMN = "The block gets a tensor of another shape than (B, 1). Hint: t[:, None] / T."
B = 5


def _block(value: float) -> Callable[[Tensor], Tensor]:
    def answer(t: Tensor) -> Tensor:
        if t.shape != (B, 1):
            raise Mistake(COLUMN)
        return (value * t.float()).reshape(B, 1, 1, 1)

    return answer


def _maps(T: int) -> tuple:
    maps = torch.randn(B, 8, 7, 7), torch.randn(B, 4, 14, 14)
    return *maps, torch.randint(1, T + 1, (B,)), T, _block(between(5, 10)), _block(between(20, 40))


def _conditioned(h1, h2, t, T, t1, t2):
    return h1 + t1(t[:, None] / T), h2 + t2(t[:, None] / T)


time_condition = Check(
    about="Check ``function(h1, h2, t, T, t1, t2)``: h1 + t1(t / T) and h2 + t2(t / T), t (B,) integers in 1 ... T.",
    right=_conditioned,
    cases=lambda: [_maps(int(between(*span))) for span in ((5, 50), (100, 250), (400, 1000))],
    mistakes=[
        "t1 and t2 are swapped. Hint: t1 belongs to the unflattened map (2D channels), t2 to the first up block (D).",
        lambda h1, h2, t, T, t1, t2: _conditioned(h1, h2, t, T, t2, t1),
        "t runs from 1 to T here. Hint: the network wants t / T, a number between 0 and 1.",
        lambda h1, h2, t, T, t1, t2: _conditioned(h1, h2, t, 1, t1, t2),
        "The time is divided by 300, whatever T is. Hint: use the T that is given.",
        lambda h1, h2, t, T, t1, t2: _conditioned(h1, h2, t, 300, t1, t2),
        "The time multiplies the map. Hint: it is added; multiplying is for the class in lesson 04.",
        lambda h1, h2, t, T, t1, t2: (h1 * t1(t[:, None] / T), h2 * t2(t[:, None] / T)),
        "One of the maps does not change with t. Hint: each map has a block of its own, t1 or t2.",
        lambda h1, h2, t, T, t1, t2: (h1, None),
        lambda h1, h2, t, T, t1, t2: (None, h2),
        COLUMN,
        lambda h1, h2, t, T, t1, t2: (h1 + t1(t / T), h2 + t2(t / T)),
    ],
    says="Both maps are shifted by their own block, and the time is a number between 0 and 1.",
    hint="each map plus what its own block makes of the time.",
    what=("h1", "h2"),
    shapes="one number for each image goes with maps (B, C, H, W) as (B, 1, 1, 1), which the blocks return by themselves.",
)

NEVER = "The network was never called. Hint: net(x_t, t / T)."
SCALE = "The network gets t itself. Hint: it wants t / T, a number between 0 and 1."
OTHER_T = "The network gets t divided by something else than T. Hint: T = len(bars) - 1 belongs to these bars."
SHARED = "All images of the batch share one t. Hint: draw one for each image: torch.randint(1, T + 1, (len(x0),))."


def _bars(T: int) -> Tensor:
    """A table of alpha_bar, (T + 1,): from 1 down, each step keeping 55 to 80 percent."""
    return torch.cat([torch.ones(1), (0.55 + 0.25 * torch.rand(T)).cumprod(0)])


def _seen_in_loss(answer, net: Probe, x0: Tensor, bars: Tensor) -> dict[str, object]:
    T, loss = len(bars) - 1, answer(net, x0.clone(), bars)
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
    noisy, bar = t > 0, bars[t].reshape(-1, 1, 1, 1)
    eps = ((x - bar.sqrt() * x0) / (1 - bar).sqrt())[noisy]
    if alike(eps[0], eps[1], 1e-2):
        raise Mistake(SAME_FOR_ALL)
    (of_x0,), _ = factors(eps, x0[noisy])
    times = {
        "the smallest t": t.min().item(),
        "the largest t": t.max().item(),
        "the mean of t": t.double().mean().item(),
    }
    loss = number(loss, "the loss") / F.mse_loss(net.scale * x[noisy], eps).item()
    return times | spread(eps) | {"the factor of x0 in the noise": of_x0, RATIO: loss}


def _loss(
    draw=torch.randn_like,
    times=lambda n, T: torch.randint(1, T + 1, (n,)),
    target=lambda x0, x, eps: eps,
    keep=0.5,
    add=0.5,
    over=lambda T: T,
    error=lambda d: d.square().mean(),
):
    """A loss whose x_t is mixed by these powers of the shares."""

    def loss(net, x0, bars):
        T = len(bars) - 1
        t, eps = times(len(x0), T), draw(x0)
        bar = bars[t].reshape(-1, 1, 1, 1)
        x = bar**keep * x0 + (1 - bar) ** add * eps
        return error(net(x, t / over(T)) - target(x0, x, eps))

    return loss


ddpm_loss = Check(
    about="Check ``function(net, x0, bars)``: the mean of (net(x_t, t / T) - eps)² with t uniform in 1 ... T per image.",
    right=_loss(),
    cases=lambda: [(Probe(0.1), 2 * torch.rand(4000, 1, 4, 4) - 1, _bars(T)) for T in (3, 4, 7)],
    mistakes=[
        NEVER,
        lambda net, x0, bars: x0.mean(),
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
        "The image is mixed with ᾱ and 1−ᾱ. Hint: the factors are their roots.",
        _loss(keep=1, add=1),
        "The noise is never negative: it is uniform. Hint: randn_like, with an n for normal, not rand_like.",
        _loss(draw=torch.rand_like),
        "The answer is compared with the clean image. Hint: this network predicts the noise eps.",
        _loss(target=lambda x0, x, eps: x0),
        "The answer is compared with the noisy image. Hint: this network predicts the noise eps.",
        _loss(target=lambda x0, x, eps: x),
        "The sign of the noise is turned. Hint: the target is +eps.",
        _loss(target=lambda x0, x, eps: -eps),
        "The squares are summed. Hint: take their mean, so that the learning rate does not depend on the size.",
        _loss(error=lambda d: d.square().sum()),
    ],
    says="Each image gets its own t from 1 to T, and the network is asked for the noise in x_t.",
    hint="x_t is mixed as in lesson 01 with bars[t], for the t that the network gets; the loss is a mean of squares.",
    see=_seen_in_loss,
    tolerance=LOOSE | {"the mean of t": 0.05, "the factor of x0 in the noise": 0.05, RATIO: 1e-3},
    slack=0.05,
    shapes="bars[t] has one number for each image, (B,); with images (B, C, H, W) it goes as reshape(-1, 1, 1, 1).",
)

LAST = "Noise is added on the last step, t = 1. Hint: x_0 is the result; add noise only while t > 1."
STD = "the standard deviation of the fresh noise"


def _seen_in_step(answer, x: Tensor, eps_hat: Tensor, bars: Tensor, t: int) -> dict[str, object]:
    found = tensor(answer(x.clone(), eps_hat.clone(), bars, t), x.shape, f"x_{t - 1}")
    (of_x, of_eps), rest = factors(found, x, eps_hat)
    std, beta = rest.std().item(), 1 - bars[t] / bars[t - 1]
    if t == 1 and std > 1e-4:
        raise Mistake(LAST)
    small = (beta * (1 - bars[t - 1]) / (1 - bars[t])).sqrt().item()
    std = beta.sqrt().item() if t > 1 and abs(std - small) < 0.01 else std  # both variances are right
    mean = {"the factor of x": of_x, "the factor of eps_hat": of_eps, "the mean of the fresh noise": rest.mean().item()}
    return mean | {STD: std}


def _reverse(last=1, left=0, front=0, root=0.5, std=lambda beta, small: beta**0.5):
    """A step that is right but for what is given: 1 puts the level it comes from for the one it goes to."""

    def step(x, eps, bars, t):
        bar, before = bars[t], bars[t - 1]
        alpha, beta = bar / before, 1 - bar / before
        x0 = (x - (1 - bar) ** root * eps) / bar**root
        mean = (bars[t - 1 + front] ** 0.5 * beta * x0 + alpha**0.5 * (1 - bars[t - 1 + left]) * x) / (1 - bar)
        return mean if t <= last else mean + std(beta, beta * (1 - before) / (1 - bar)) * torch.randn_like(x)

    return step


reverse_step = Check(
    about="Check ``function(x, eps_hat, bars, t)``: x_{t-1} of ancestral sampling, either variance, noiseless at t = 1.",
    right=_reverse(),
    cases=lambda: [(*torch.randn(2, 40_000, 1, 1, 1), _bars(T), t) for T, t in ((3, 1), (3, 3), (5, 2), (5, 4))],
    mistakes=[
        LAST,
        _reverse(last=0),
        "(1−ᾱ_t) stands where (1−ᾱ_{t−1}) belongs, in front of x_t. Hint: at the last step that factor must be 0.",
        _reverse(left=1),
        "The root is missing in the estimate of x0. Hint: its factors are √(1−ᾱ) and √ᾱ, as in lesson 01.",
        _reverse(root=1),
        "√ᾱ_t stands where √ᾱ_{t−1} belongs, in front of x0. Hint: x0 is scaled to the level you go to.",
        _reverse(front=1),
        "No noise is added at all. Hint: σ_t·z with fresh z, as long as t > 1.",
        _reverse(last=10),
        "The noise is scaled by a variance. Hint: β_t is a variance; the factor is its root √β_t.",
        _reverse(std=lambda beta, small: beta),
        _reverse(std=lambda beta, small: small),
    ],
    says="The step has the right mean and variance, and the last one adds no noise.",
    hint="α_t is ᾱ_t / ᾱ_(t−1), β_t = 1 − α_t, and the variance of the fresh noise is β_t or the smaller β̃_t.",
    see=_seen_in_step,
    tolerance={
        "the factor of x": 0.015,
        "the factor of eps_hat": 0.015,
        "the mean of the fresh noise": 0.03,
        STD: 0.01,
    },
)
