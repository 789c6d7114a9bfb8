"""Notebook 08: objectives, flow matching and the speed run."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .engine import Check, Mistake, alike, between, number, tensor
from .noise import LOOSE, RATIO, Probe, factors, spread


def _path(power: float, turn: float):
    """A path of random shape: alpha and sigma at t, and how fast both change."""

    def path(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return 1 - t**power, t.sin() * turn, -power * t ** (power - 1), t.cos() * turn

    return path


def _walks() -> list[tuple]:
    """A denoiser that leans on alpha and sigma, points, falling times, and a path."""

    def one(steps: int) -> tuple:
        A, b = 0.3 * torch.randn(2, 2, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
        times = torch.cat([torch.tensor([0.9]), 0.8 - 0.6 * torch.rand(steps).sort().values, torch.tensor([0.1])])
        path = _path(between(1.5, 2.5), between(0.6, 1.3))

        def denoise(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
            return x @ A * alpha + b * (1 + sigma)

        return denoise, torch.randn(3, 2, dtype=torch.float64), times.double(), path

    return [one(steps) for steps in (0, 2, 5)]


def _walk(
    velocity=lambda x, x0, eps, da, ds: da * x0 + ds * eps,
    eps=lambda x, x0, a, s: (x - a * x0) / s,
    step=lambda t, to: to - t,
    where=lambda t, to: t,
):
    """A walk by Euler's method with these parts."""

    def walk(denoise, x, times, path):
        for t, to in zip(times, times[1:], strict=False):
            a, s, da, ds = path(where(t, to))
            x0 = denoise(x, a, s)
            x = x + step(t, to) * velocity(x, x0, eps(x, x0, a, s), da, ds)
        return x

    return walk


def _ddim(denoise, x, times, path):
    for t, to in zip(times, times[1:], strict=False):
        a, s, _, _ = path(t)
        x0 = denoise(x, a, s)
        x = path(to)[0] * x0 + path(to)[1] * (x - a * x0) / s
    return x


euler_walk = Check(
    about="Check ``function(denoise, x, times, path)``: where Euler's steps along the mean velocity of a path lead.",
    right=_walk(),
    cases=_walks,
    mistakes=[
        "This is the velocity of the flow path on every path. Hint: differentiate α(t) x₀ + σ(t) ε, with both factors.",
        _walk(velocity=lambda x, x0, eps, da, ds: eps - x0),
        "The step has the wrong sign. Hint: the times fall, so t' − t is negative, and the velocity is dx/dt.",
        _walk(step=lambda t, to: t - to),
        "The two rates are swapped. Hint: α' goes with x₀ and σ' with ε.",
        _walk(velocity=lambda x, x0, eps, da, ds: ds * x0 + da * eps),
        "The estimate of the noise has no 1/σ. Hint: x = α x̂₀ + σ ε̂, solved for ε̂.",
        _walk(eps=lambda x, x0, a, s: x - a * x0),
        "x̂₀ is not scaled in the estimate of the noise. Hint: x = α x̂₀ + σ ε̂, solved for ε̂.",
        _walk(eps=lambda x, x0, a, s: (x - x0) / s),
        "x stands where the estimate of the noise belongs. Hint: first solve x = α x̂₀ + σ ε̂ for ε̂.",
        _walk(eps=lambda x, x0, a, s: x),
        "The velocity is taken at the end of the step. Hint: Euler's step starts at t, where x is: path(t).",
        _walk(where=lambda t, to: to),
        "This is a DDIM step, which follows α and σ. Hint: asked for is Euler's step, straight on for t' − t.",
        _ddim,
        "Only the first step was taken. Hint: a loop over all pairs of neighbours in times.",
        lambda denoise, x, times, path: _walk()(denoise, x, times[:2], path) if len(times) > 2 else None,
    ],
    says="The walk follows α' x̂₀ + σ' ε̂ on any path.",
    hint="in each step ask for x̂₀, solve for ε̂, and go on by (t' − t) times α' x̂₀ + σ' ε̂.",
    what="the points at the end",
)


def _targets() -> list[tuple]:
    """A prediction and its point, a level that keeps no variance, and the factors of two kinds."""

    def one() -> tuple:
        alpha, sigma = between(0.3, 0.9), between(0.3, 0.9)
        c, k = ((-between(0.2, 1), between(0.3, 1)) for _ in range(2))
        x0, eps = torch.randn(2, 5)
        return c[0] * x0 + c[1] * eps, alpha * x0 + sigma * eps, alpha, sigma, c, k

    return [one() for _ in range(3)]


def _solved(det=lambda a, s, c: a * c[1] - s * c[0], sign=-1, to=lambda x0, eps, k: k[0] * x0 + k[1] * eps):
    def convert(p, x, alpha, sigma, c, k):
        d = det(alpha, sigma, c)
        return to((c[1] * x + sign * sigma * p) / d, (alpha * p + sign * c[0] * x) / d, k)

    return convert


convert = Check(
    about="Check ``function(p, x, alpha, sigma, c, k)``: the prediction of kind k that goes with p, of kind c.",
    right=_solved(),
    cases=_targets,
    mistakes=[
        "This is x̂₀. Hint: put x̂₀ and ε̂ together again, with the factors k.",
        _solved(to=lambda x0, eps, k: x0),
        "This is ε̂. Hint: put x̂₀ and ε̂ together again, with the factors k.",
        _solved(to=lambda x0, eps, k: eps),
        "The determinant is missing: this holds only where α c₁ − σ c₀ = 1. Hint: v has that for α² + σ² = 1, others not.",
        _solved(det=lambda a, s, c: 1.0),
        "The determinant has a plus. Hint: times c₁ the one equation, times σ the other, and subtract.",
        _solved(det=lambda a, s, c: a * c[1] + s * c[0]),
        "The determinant has its sign turned. Hint: check with c = (0, 1), where x̂₀ = (x − σp)/α.",
        _solved(det=lambda a, s, c: s * c[0] - a * c[1]),
        "α and σ are swapped in the determinant. Hint: check with c = (0, 1), where x̂₀ = (x − σp)/α.",
        _solved(det=lambda a, s, c: s * c[1] - a * c[0]),
        "The equations were added where one is subtracted from the other. Hint: check with c = (0, 1).",
        _solved(sign=1),
        "c and k are swapped. Hint: p is of kind c, and wanted is kind k.",
        lambda p, x, alpha, sigma, c, k: _solved()(p, x, alpha, sigma, k, c),
        "The prediction is unchanged. Hint: solve for x̂₀ and ε̂ first.",
        lambda p, x, alpha, sigma, c, k: p,
    ],
    says="Any target becomes any other, on any path.",
    hint="two equations, p = c₀x₀ + c₁ε and x = αx₀ + σε, give x̂₀ and ε̂; then k₀x̂₀ + k₁ε̂.",
    what="the prediction",
)


def _levels() -> list[tuple]:
    return [(between(0.3, 0.9), between(0.3, 0.9), *(case[4:])) for case in _targets()]


def _weight(one=lambda a, s, c: a * c[1] - s * c[0], power=2, turn=False):
    def weight(alpha, sigma, c, k):
        c, k = (k, c) if turn else (c, k)
        return abs(one(alpha, sigma, c) / one(alpha, sigma, k)) ** power

    return weight


loss_weight = Check(
    about="Check ``function(alpha, sigma, c, k)``: the w in |error of target c|² = w |error of target k|².",
    right=_weight(),
    cases=_levels,
    mistakes=[
        "This is the ratio of the errors themselves. Hint: the losses are squares of them.",
        _weight(power=1),
        "The ratio is turned over. Hint: w stands on the side of target k, and c is what the loss is of.",
        _weight(turn=True),
        "A plus stands for a minus. Hint: x is given, so α Δx̂₀ + σ Δε̂ = 0, and the two errors have opposite signs.",
        _weight(one=lambda a, s, c: a * c[1] + s * c[0]),
        "α and σ are swapped. Hint: α Δx̂₀ + σ Δε̂ = 0 gives Δε̂ = −(α/σ) Δx̂₀.",
        _weight(one=lambda a, s, c: s * c[1] - a * c[0]),
        "This takes the errors of x̂₀ and ε̂ for equal. Hint: α Δx̂₀ + σ Δε̂ = 0 ties them.",
        _weight(one=lambda a, s, c: c[1] - c[0]),
        _weight(one=lambda a, s, c: c[1] + c[0]),
        "This is the weight on the error of x̂₀. Hint: divide by the same for target k.",
        lambda alpha, sigma, c, k: ((c[1] * alpha - c[0] * sigma) / sigma) ** 2,
        "This is the weight on the error of ε̂. Hint: divide by the same for target k.",
        lambda alpha, sigma, c, k: ((c[1] * alpha - c[0] * sigma) / alpha) ** 2,
    ],
    says="Every target's loss is a weight times every other's.",
    hint="with Δε̂ = −(α/σ) Δx̂₀ the error of target c is (c₀ − c₁ α/σ) Δx̂₀.",
    what="the weight",
)


ROOTS = "x is not on the flow path: roots or ends do not belong. Hint: x = (1 − t) x₀ + t ε, and t = 1 is noise."


def _batches() -> list[tuple]:
    return [(Probe(between(*span)), 0.5 + torch.randn(20_000, 2)) for span in ((0.6, 0.8), (0.9, 1.2), (1.4, 1.8))]


def _seen(answer, net: Probe, x0: Tensor) -> dict[str, object]:
    loss = answer(net, x0.clone())
    if net.x is None or net.t is None:
        raise Mistake("The network was never called with x and t. Hint: net(x, t).")
    if net.t.numel() != len(x0):
        raise Mistake("There is not one time for each point. Hint: torch.rand(len(x0), 1).")
    x, t = tensor(net.x, x0.shape, "x").double(), net.t.reshape(-1, 1)
    eps = (x - (1 - t) * x0) / t.clamp(min=1e-6)
    late = (t > 0.2).flatten()  # near t = 0 there is hardly any noise to tell
    signal = (1 - t) * (x0 - x0.mean(0))
    shares = [factors((x - x.mean(0))[part], signal[part])[0][0] for part in (late & (t < 0.5)[:, 0], (t > 0.7)[:, 0])]
    if t.min() >= 0 and alike(t.mean(), torch.tensor(0.5), 0.02) and any(abs(share - 1) > 0.3 for share in shares):
        raise Mistake(ROOTS)
    times = {"the smallest t": t.min().item(), "the largest t": t.max().item(), "the mean of t": t.mean().item()}
    ratio = number(loss, "the loss") / F.mse_loss(net.scale * x, eps - x0).item()
    return times | spread(eps[late]) | {RATIO: ratio}


def _loss(draw=torch.randn_like, mix=lambda x0, eps, t: (1 - t) * x0 + t * eps, target=lambda x0, eps: eps - x0):
    def loss(net, x0):
        t, eps = torch.rand(len(x0), 1), draw(x0)
        return F.mse_loss(net(mix(x0, eps, t), t), target(x0, eps))

    return loss


flow_loss = Check(
    about="Check ``function(net, x0)``: the flow matching loss of a batch of points, at uniform times.",
    right=_loss(),
    cases=_batches,
    mistakes=[
        ROOTS,
        _loss(mix=lambda x0, eps, t: (1 - t).sqrt() * x0 + t.sqrt() * eps),
        _loss(mix=lambda x0, eps, t: t * x0 + (1 - t) * eps),
        "The noise is uniform, from 0 to 1. Hint: sampling starts from normal noise, so train on it: randn_like.",
        _loss(draw=torch.rand_like),
        "The target points from noise to data. Hint: t grows towards the noise, so the velocity is ε − x₀.",
        _loss(target=lambda x0, eps: x0 - eps),
        "The target has a noise of its own. Hint: draw ε once, and use it in x and in the target.",
        _loss(target=lambda x0, eps: torch.randn_like(x0) - x0),
        "The target is the noise. Hint: the velocity is ε − x₀.",
        _loss(target=lambda x0, eps: eps),
    ],
    says="The three faults are gone: normal noise, the straight path, and the velocity that goes with both.",
    hint="x = (1 − t) x₀ + t ε with normal ε, and the mean squared error of net(x, t) to ε − x₀.",
    see=_seen,
    tolerance=LOOSE | {"the smallest t": 0.01, "the largest t": 0.01, "the mean of t": 0.02, RATIO: 1e-3},
    slack=0.05,
)
