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
    says="x_t = √ᾱ·x0 + √(1−ᾱ)·eps, and eps is standard normal.",
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
    says=f"√ᾱ = {_last.alpha.item():.3f}: after 300 steps more than a fifth of the image is still there.",
    hint="take the last entry of your own ᾱ, for T = 300, or linear_beta(300)(1.0) of the package.",
    see=lambda answer: {"signal_left": number(answer, "signal_left")},
    tolerance={"signal_left": 1.2e-3},  # ᾱ and the signal-to-noise ratio are 2.4e-3 apart
)
