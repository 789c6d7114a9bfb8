"""From noise to image: one loop, and steps that each say how to go from one level to the next.

A denoiser is any function ``(x, level) -> Denoised``. Its estimate of x0 fixes an estimate of eps, and
``move`` puts the two together again at a lower level. Every sampler is a small step on top of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .denoise import Denoised
from .schedules import Level, per_image

Denoise = Callable[[Tensor, Level], Denoised]
Step = Callable[[Denoise, Tensor, Level, Level, Denoised | None], tuple[Tensor, Denoised]]


def move(
    d: Denoised,
    to: Level,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    std: Tensor | None = None,
) -> Tensor:
    """The image at the lower level ``to`` that goes with the estimates in ``d``, shape of ``d.x``.

    eta = 0 keeps the estimated noise: DDIM, or an Euler step on the probability-flow ODE. eta = 1
    replaces as much of it by fresh noise as the DDPM posterior q(x_to | x, x0) has; ``std`` sets another
    standard deviation of the fresh noise, at the same mean. Nothing is added at sigma = 0.
    Raises ValueError unless 0 <= eta <= 1 and ``to`` is below ``d.level``.
    Source: Song et al. 2021 (arXiv:2010.02502), equations 12 and 16.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta = {eta}: expected 0 (deterministic) to 1 (DDPM)")
    if std is not None and eta == 0:
        raise ValueError("std without fresh noise: expected eta above 0")
    _check_falls(d.level, to)
    _, alpha, sigma = to.like(d.x)
    if eta == 0:
        return alpha * d.x0 + sigma * d.eps
    fresh = eta * posterior_std(d.level, to)
    kept = (to.sigma.square() - fresh.square()).clamp(min=0).sqrt()  # in float64: a small difference of large numbers
    added = torch.where(to.sigma > 0, fresh if std is None else std, 0.0)
    return alpha * d.x0 + per_image(kept, d.x) * d.eps + per_image(added, d.x) * _normal(d.x, generator)


def posterior_std(at: Level, to: Level) -> Tensor:
    """Standard deviation of q(x_to | x_at, x0), one per level: the root of the papers' beta-tilde.

    Source: Ho et al. 2020, equation 7, written for two levels any distance apart.
    """
    return to.sigma / at.sigma * transition_std(at, to)


def transition_std(at: Level, to: Level) -> Tensor:
    """Standard deviation of the noise that q(x_at | x_to) adds, one per level: the root of beta for neighbours."""
    return (at.sigma.square() - (at.alpha / to.alpha * to.sigma).square()).clamp(min=0).sqrt()


def _normal(x: Tensor, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator else x.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)


def _check_falls(at: Level, to: Level) -> None:
    if not bool((to.t < at.t).all()):
        raise ValueError(f"a step from t = {at.t.tolist()} to t = {to.t.tolist()}: expected a lower level")


def ddim(
    denoise: Denoise,
    x: Tensor,
    at: Level,
    to: Level,
    prev: Denoised | None = None,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Denoised]:
    """One step that keeps the estimated noise (eta = 0), or replaces some of it by fresh noise (up to eta = 1, DDPM).

    With eta = 0 on the flow schedule it is an Euler step of flow matching. Source: Song et al. 2021, equation 12.
    """
    d = denoise(x, at)
    return move(d, to, eta, generator), d


def ddpm(
    denoise: Denoise,
    x: Tensor,
    at: Level,
    to: Level,
    prev: Denoised | None = None,
    variance: str = "posterior",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Denoised]:
    """One ancestral step: the posterior mean plus fresh noise, none on the last step (sigma = 0).

    ``variance`` is "posterior" (beta-tilde, the lower bound) or "beta" (the upper bound, and the course's).
    Raises ValueError for another variance. Source: Ho et al. 2020, algorithm 2 and section 3.2.
    """
    if variance not in ("posterior", "beta"):
        raise ValueError(f"variance {variance!r}: expected 'posterior' or 'beta'")
    d = denoise(x, at)
    std = transition_std(at, to) if variance == "beta" else None
    return move(d, to, 1.0, generator, std), d


def heun(denoise: Denoise, x: Tensor, at: Level, to: Level, prev: Denoised | None = None) -> tuple[Tensor, Denoised]:
    """One step of second order with two evaluations: with the mean of the noise estimates before and after it.

    Where there is no signal yet (alpha = 0), and on the last step (sigma = 0), it is a DDIM step.
    Source: Karras et al. 2022 (arXiv:2206.00364), algorithm 1.
    """
    d = denoise(x, at)
    guess = move(d, to)
    inner = (at.alpha > 0) & (to.sigma > 0)
    if not bool(inner.any()):
        return guess, d
    _, alpha, sigma = at.like(x)
    eps = (d.eps + denoise(guess, to).eps) / 2
    better = move(Denoised(x, (x - sigma * eps) / alpha, at), to)
    return better if bool(inner.all()) else torch.where(per_image(inner, x), better, guess), d


def dpmpp_2m(
    denoise: Denoise, x: Tensor, at: Level, to: Level, prev: Denoised | None = None
) -> tuple[Tensor, Denoised]:
    """One step of second order with one evaluation: with x0 extrapolated from this and the previous estimate.

    The line goes through the two estimates over log(alpha / sigma) and is read in the middle of the step. The first
    step and the last (sigma = 0) are DDIM steps. Source: Lu et al. 2022 (arXiv:2211.01095), algorithm 2.
    """
    d = denoise(x, at)
    if prev is None:
        return move(d, to), d
    before, now, after = (level.snr.log() / 2 for level in (prev.level, at, to))
    ahead = torch.where(to.sigma > 0, (after - now) / (now - before) / 2, 0.0)  # 0 too if prev had no signal
    x0 = d.x0 + per_image(ahead, x) * (d.x0 - prev.x0)
    return move(Denoised(x, x0, at), to), d


def resampled(step: Step, times: int, generator: torch.Generator | None = None) -> Step:
    """A step that goes down ``times`` times, and between them back up with fresh noise: for inpainting.

    Each time the new part sees the known part again at the same noise, and the two come to fit. A step costs
    ``times`` as many evaluations. Raises ValueError for fewer than 1. Source: Lugmayr et al. 2022
    (arXiv:2201.09865), algorithm 1, with a jump length of 1.
    """
    if times < 1:
        raise ValueError(f"times = {times}: expected at least 1")

    def repeated(
        denoise: Denoise, x: Tensor, at: Level, to: Level, prev: Denoised | None = None
    ) -> tuple[Tensor, Denoised]:
        lower, d = step(denoise, x, at, to, prev)
        for _ in range(times - 1):
            scale, added = per_image(at.alpha / to.alpha, x), per_image(transition_std(at, to), x)
            lower, d = step(denoise, scale * lower + added * _normal(x, generator), at, to, prev)
        return lower, d

    return repeated


def sample(denoise: Denoise, x: Tensor, levels: Sequence[Level], step: Step = ddim) -> Iterator[Denoised]:
    """Walk ``x`` (B, C, H, W) down the ``levels``, yielding the state at each: len(levels) in all.

    The first state holds the noise, the last the result: ``*_, last = sample(...)``, then ``last.x``.
    Each state has x, the estimates x0 and eps, and the level. To keep one noise stream, pass a step with
    its generator, such as ``partial(ddpm, generator=g)``.
    A single level is a run of no steps. Raises ValueError for no level and for levels that do not fall.
    """
    if not levels:
        raise ValueError("0 levels: expected at least 1")
    for at, to in pairwise(levels):
        _check_falls(at, to)
    return _walk(denoise, x, levels, step)


@torch.no_grad()
def _walk(denoise: Denoise, x: Tensor, levels: Sequence[Level], step: Step) -> Iterator[Denoised]:
    prev = None
    for at, to in pairwise(levels):
        following, prev = step(denoise, x, at, to, prev)
        yield prev
        x = following
    yield Denoised(x, x, levels[-1]) if bool((levels[-1].sigma == 0).all()) else denoise(x, levels[-1])


def _half(images: Tensor) -> Tensor:
    return images.clamp(-6e4, 6e4).half().cpu()  # an x0 estimate near alpha = 0 can be beyond float16


class Trajectory:
    """Every state of one sampling run, kept on the CPU in float16: computed once, then only indexed.

    ``len`` is the number of levels; ``trajectory[i]`` is the ``Denoised`` at level i in float32, 0 the noise.
    """

    def __init__(self, states: Iterator[Denoised]):
        self._states = [Denoised(_half(s.x), _half(s.x0), s.level) for s in states]

    def __len__(self) -> int:
        return len(self._states)

    def __getitem__(self, i: int) -> Denoised:
        state = self._states[i]
        return Denoised(state.x.float(), state.x0.float(), state.level)


class Sampler(NamedTuple):
    """A step by name, and whether it draws fresh noise: then it takes a ``generator``."""

    step: Step
    stochastic: bool


SAMPLERS = {
    "ddim": Sampler(ddim, stochastic=False),
    "ddpm": Sampler(ddpm, stochastic=True),
    "ddpm-beta": Sampler(partial(ddpm, variance="beta"), stochastic=True),
    "heun": Sampler(heun, stochastic=False),
    "dpmpp_2m": Sampler(dpmpp_2m, stochastic=False),
}
