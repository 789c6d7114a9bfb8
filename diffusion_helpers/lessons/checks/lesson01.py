"""Notebook 01: adding noise."""

from __future__ import annotations

import torch
from torch import Tensor

from ...schedules import linear_beta
from .engine import Check, Mistake, alike, between, number, parts, tensor
from .noise import LOOSE, factors, spread

ONE = torch.ones(1, dtype=torch.float64)

alpha_bar = Check(
    about="Check ``function(betas)``: betas (T,) to alpha_bar (T + 1,), the running product of 1 - beta, from 1.",
    right=lambda betas: torch.cat([ONE, (1 - betas).cumprod(0)]),
    cases=lambda: [(0.1 + 0.5 * torch.rand(T, dtype=torch.float64),) for T in (4, 3, 6)],
    mistakes=[
        "There are T entries, and clean data is missing. Hint: put ᾱ₀ = 1 in front, so that entry t is level t.",
        lambda betas: (1 - betas).cumprod(0),
        "ᾱ is a sum here. Hint: each step multiplies what is left, so use a product (torch.cumprod).",
        lambda betas: torch.cat([ONE, (1 - betas).cumsum(0)]),
        lambda betas: (1 - betas).cumsum(0),
        "This multiplies the β. Hint: β is what is taken away; multiply what stays, 1 − β.",
        lambda betas: torch.cat([ONE, betas.cumprod(0)]),
        lambda betas: betas.cumprod(0),
        "These are the single steps 1 − β. Hint: ᾱ_t is the product of all of them up to t.",
        lambda betas: 1 - betas,
        "These are the roots √ᾱ. Hint: return ᾱ itself; the root comes later, where the image is scaled.",
        lambda betas: torch.cat([ONE, (1 - betas).cumprod(0)]).sqrt(),
        "The 1 stands at the end. Hint: entry 0 is clean data, so ᾱ₀ = 1 comes first.",
        lambda betas: torch.cat([(1 - betas).cumprod(0), ONE]),
    ],
    says="ᾱ has T + 1 entries, starts at 1 and is the running product of 1 − β.",
    hint="entry t is the product of 1 − β over the first t steps.",
    what="ᾱ",
)

SAME_FOR_ALL = "Every image gets the same noise. Hint: draw noise of the shape of x0, batch included."


def _seen_in_jump(answer, x0: Tensor, bar: float) -> dict[str, object]:
    found = parts(answer(x0.clone(), bar), ("x_t", "eps"))
    x, eps = (tensor(one, x0.shape, name).double() for name, one in found.items())
    if eps.std() > 1e-6 and alike(eps[0], eps[1]):
        raise Mistake(SAME_FOR_ALL)
    (of_x0, of_eps), rest = factors(x, x0, eps)
    mix = {"the factor of x0": of_x0, "the factor of eps": of_eps, "what is neither x0 nor eps": rest.std().item()}
    return spread(eps) | mix


def _jump(keep=0.5, add=0.5, draw=torch.randn_like):
    """A jump whose factors are these powers of the shares: 0.5 is the root, and 0 is no factor at all."""

    def step(x0, alpha_bar_t):
        eps = draw(x0)
        return alpha_bar_t**keep * x0 + (1 - alpha_bar_t) ** add * eps, eps

    return step


forward_step = Check(
    about="Check ``function(x0, alpha_bar_t)``: the noisy images and the standard normal noise that was drawn.",
    right=_jump(),
    cases=lambda: [(2 * torch.rand(64, 1, 28, 28) - 1, between(*span)) for span in ((0.15, 0.35), (0.55, 0.75))],
    mistakes=[
        "The noise is the same number everywhere. Hint: torch.randn_like(x0).",
        _jump(draw=torch.ones_like),
        "The noise lies between 0 and 1: it is uniform. Hint: randn_like, with an n for normal, not rand_like.",
        _jump(draw=torch.rand_like),
        SAME_FOR_ALL,
        _jump(draw=lambda x0: torch.randn_like(x0[:1]).expand_as(x0)),
        "ᾱ stands where its root belongs. Hint: variances add up, so images are scaled by roots of shares.",
        _jump(keep=1, add=1),
        "The image is scaled by ᾱ. Hint: its factor is √ᾱ.",
        _jump(keep=1),
        "The noise is scaled by 1−ᾱ. Hint: that is its variance; the factor is the root.",
        _jump(add=1),
        "√ᾱ is missing: the image is not scaled down. Hint: without it the variance grows above 1.",
        _jump(keep=0),
        "The two factors are swapped. Hint: √ᾱ is the share of the image.",
        lambda x0, bar: _jump()(x0, 1 - bar),
        "The noise is added at full strength. Hint: its factor is √(1−ᾱ).",
        _jump(add=0),
        "x_t does not hold the eps that you return. Hint: draw once, and use the same eps in both places.",
        lambda x0, bar: (_jump()(x0, bar)[0], torch.randn_like(x0)),
    ],
    says="x_t = α·x0 + σ·eps with α² = alpha_bar_t and σ² = 1 − α², and eps is standard normal.",
    hint="eps is standard normal, and its share and that of x0 follow from the alpha_bar_t that is given.",
    see=_seen_in_jump,
    tolerance=LOOSE,
    slack=0.03,
)

ONE_NOISE = "Every number gets the same noise. Hint: torch.randn_like(x)."
SEED = "Two calls add the same noise. Hint: draw it inside the function; no seed in there."


def _seen_in_chain(answer, x: Tensor, beta: float) -> dict[str, object]:
    found, again = (tensor(answer(x.clone(), beta), x.shape, "the next image") for _ in range(2))
    (of_x,), rest = factors(found, x)
    if rest.std() < 1e-4:
        raise Mistake(ONE_NOISE)
    if alike(found, again):
        raise Mistake(SEED)
    return spread(rest) | {"the factor of x": of_x}


def _chain(keep=0.5, add=0.5, draw=torch.randn_like):
    return lambda x, beta: (1 - beta) ** keep * x + beta**add * draw(x)


chain_step = Check(
    about="Check ``function(x, beta)``: one step of the Markov chain, N(sqrt(1 - beta) x, beta), on 40,000 numbers.",
    right=_chain(),
    cases=lambda: [(2 * torch.randn(40_000, 1, 1, 1), between(low, low + 0.1)) for low in (0.15, 0.35, 0.55)],
    mistakes=[
        "The image is not scaled down. Hint: with √(1−β) in front the variance stays at 1; without it, it explodes.",
        _chain(keep=0),
        "The image is scaled by 1−β. Hint: its factor is √(1−β).",
        _chain(keep=1),
        "The noise is scaled by β. Hint: β is a variance; the factor is its root √β.",
        _chain(add=1),
        "The noise is not normal, it is uniform. Hint: randn_like, with an n for normal, not rand_like.",
        _chain(draw=torch.rand_like),
        _chain(draw=lambda x: 2 * torch.rand_like(x) - 1),
        ONE_NOISE,
        _chain(draw=torch.zeros_like),
        SEED,
        _chain(draw=lambda x: torch.randn(x.shape, generator=torch.Generator().manual_seed(101))),
    ],
    says="One step keeps √(1−β) of the image and adds fresh noise of variance β.",
    hint="a share √(1−β) of the image stays, and the noise that is added has variance β, for any β.",
    see=_seen_in_chain,
    tolerance=LOOSE | {"the factor of x": 0.01},
)

_last = linear_beta(300)(1.0)
signal_left = Check(
    about="Check the number: what is sqrt(alpha_bar) at the last of 300 steps, beta from 1e-4 to 0.02?",
    right=_last.alpha.item(),
    cases=lambda: [()],
    mistakes=[
        "This is ᾱ, a share of variance. Hint: the image itself is multiplied by its root.",
        _last.alpha.item() ** 2,
        "This is the share of the noise, √(1−ᾱ). Hint: the signal is √ᾱ.",
        _last.sigma.item(),
        "This is the signal-to-noise ratio. Hint: the question is √ᾱ alone.",
        _last.snr.item(),
        "This is √ᾱ after 300 of 1000 steps. Hint: build the schedule with T = 300.",
        linear_beta(1000)(0.3).alpha.item(),
    ],
    says=f"α = {_last.alpha.item():.3f}: after 300 steps more than a fifth of the image is still there.",
    hint="take the last entry of your own ᾱ, for T = 300, or linear_beta(300)(1.0) of the package.",
    see=lambda answer: {"signal_left": number(answer, "signal_left")},
    tolerance={"signal_left": 1.2e-3},  # ᾱ and the signal-to-noise ratio are 2.4e-3 apart
)


def _two_levels() -> tuple[float, float, float, float]:
    """Signal and noise scales at an early and at a later time, of a path that preserves no variance."""
    alpha, sigma = between(0.7, 0.95), between(0.1, 0.4)
    return alpha, sigma, alpha * between(0.4, 0.8), sigma + between(0.3, 0.6)


def _between(factor=lambda early, late: late / early, std=lambda a, early, late: (late**2 - a**2 * early**2) ** 0.5):
    def answer(alpha_s, sigma_s, alpha_t, sigma_t):
        a = factor(alpha_s, alpha_t)
        return a, std(a, sigma_s, sigma_t)

    return answer


jump_between = Check(
    about="Check ``function(alpha_s, sigma_s, alpha_t, sigma_t)``: a and b of x_t = a x_s + b eps for s before t.",
    right=_between(),
    cases=lambda: [_two_levels() for _ in range(3)],
    mistakes=[
        "The factor is that of the jump from clean data, α_t. Hint: x_s has been scaled by α_s already.",
        _between(factor=lambda early, late: late),
        "The factor is upside down. Hint: a times α_s must be α_t, and α falls with time.",
        _between(factor=lambda early, late: early / late, std=lambda a, early, late: None),
        "b² is 1 − a², which is right only where α² + σ² = 1. Hint: compare the variance of all the noise with σ_t².",
        _between(std=lambda a, early, late: (1 - a**2) ** 0.5),
        "The noise in x_s is counted at full strength. Hint: it is scaled by a as well, its variance by a².",
        _between(std=lambda a, early, late: (late**2 - early**2) ** 0.5),
        "The noise in x_s is scaled by a, but variances are scaled by a². Hint: a² σ_s².",
        _between(std=lambda a, early, late: (late**2 - a * early**2) ** 0.5),
        "The standard deviations are subtracted. Hint: it is the variances that add up.",
        _between(std=lambda a, early, late: late - a * early),
        _between(std=lambda a, early, late: late - early),
        "This is the variance b². Hint: b is what the noise is multiplied by, its root.",
        _between(std=lambda a, early, late: late**2 - a**2 * early**2),
        "All the noise of time t is added, on top of what x_s holds. Hint: b² is what is missing to σ_t².",
        _between(std=lambda a, early, late: late),
    ],
    says="a = α_t / α_s, and b² is what the noise in x_s lacks to σ_t², on any path.",
    hint="a α_s must be α_t, and a² σ_s² + b² must be σ_t².",
    what=("the factor a", "the standard deviation b"),
)


def _signal(T: int, last: float) -> float:
    """The signal scale after T steps whose beta rise from 1e-4 to ``last``."""
    return (1 - torch.linspace(1e-4, last, T, dtype=torch.float64)).prod().sqrt().item()


def _last_for(T: int, signal: float) -> float:
    low, high = 1e-4, 0.999
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _signal(T, middle) > signal else (low, middle)
    return low


def _seen_in_last(answer, T: int, signal: float) -> dict[str, object]:
    return {"beta_T": number(answer(T, signal), "beta_T")}


last_beta = Check(
    about="Check ``function(T, signal)``: the last of T betas from 1e-4 for which sqrt(alpha_bar) at the end is signal.",
    right=_last_for,
    cases=lambda: [(int(between(80, 160)), between(0.02, 0.1)), (int(between(300, 500)), between(0.005, 0.3))],
    mistakes=[
        "This is the estimate, with log(1−β) ≈ −β. Hint: it is where to begin; now compute α for a β_T and close in.",
        lambda T, signal: -4 * torch.tensor(signal).log().item() / T - 1e-4,
        lambda T, signal: -4 * torch.tensor(signal).log().item() / T,
        "With this β_T it is α² that is as asked for. Hint: the signal scale α is the root of the product.",
        lambda T, signal: _last_for(T, signal**0.5),
        "The root of the product is taken twice. Hint: α² is the product, so α is its root.",
        lambda T, signal: _last_for(T, signal**2),
        "This is the mean β, or the β of steps all alike. Hint: β rises from 0.0001, so the last is about twice the mean.",
        lambda T, signal: 1 - signal ** (2 / T),
        lambda T, signal: (_last_for(T, signal) + 1e-4) / 2,
    ],
    says="The β that rise to this value leave exactly the signal that was asked for.",
    hint="α² is the product of all 1 − β; a higher β_T leaves less of it.",
    see=_seen_in_last,
    tolerance={"beta_T": 2e-4},
)
