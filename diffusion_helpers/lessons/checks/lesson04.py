"""Notebook 04: classes and guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ... import edits, samplers, schedules
from ..toy import Mixture
from .engine import Check, Mistake, between, tensor

SHARE, BECOMES = "the share of the labels that are dropped", "what a dropped label becomes"
AT_ONCE = "The whole batch is dropped or kept at once. Hint: draw one random number for each label."
SAME = "The same labels are dropped every time. Hint: draw anew in each call."
COUNT = "Every batch drops the same number of labels. Hint: each label on its own, with probability p."


def _dropped(answer, y: Tensor, p: float, null: int) -> dict[str, object]:
    calls = [tensor(answer(y.clone(), p, null), y.shape, "the labels") for _ in range(8)]
    changed = torch.stack(calls) != y  # (8, N)
    counts = changed.sum(1).tolist()
    if any(counts):
        if set(counts) <= {0, len(y)}:
            raise Mistake(AT_ONCE)
        if (changed == changed[0]).all():
            raise Mistake(SAME)
        if len(set(counts)) == 1:
            raise Mistake(COUNT)
    became = torch.stack(calls)[changed].double()
    return {SHARE: changed.double().mean().item(), BECOMES: became.mean().item() if len(became) else float(null)}


def _fixed_count(y: Tensor, p: float, null: int) -> Tensor:
    y[torch.randperm(len(y))[: int(p * len(y))]] = null
    return y


def _drop(below=lambda y, p: torch.rand(len(y)) < p, to=torch.full_like):
    return lambda y, p, null: torch.where(below(y, p), to(y, null), y)


drop_labels = Check(
    about="Check ``function(y, p, null)``: each label replaced by ``null`` with probability p, on its own.",
    right=_drop(),
    cases=lambda: [
        (torch.randint(null, (4000,)), between(*span), null)
        for span, null in zip(((0.1, 0.2), (0.3, 0.42), (0.6, 0.8)), (5 + torch.randperm(20)[:3]).tolist(), strict=True)
    ],
    mistakes=[
        "Dropped labels become 0, and that is the digit 0. Hint: no label is a class of its own, null.",
        _drop(to=lambda y, null: torch.zeros_like(y)),
        "No label is dropped. Hint: torch.rand(len(y)) < p says which.",
        lambda y, p, null: y,
        AT_ONCE,
        _drop(below=lambda y, p: (torch.rand(1) < p).expand(len(y))),
        "The labels are dropped with 1 − p: the condition is turned. Hint: torch.rand(len(y)) < p.",
        _drop(below=lambda y, p: torch.rand(len(y)) >= p),
        SAME,
        _drop(below=lambda y, p: torch.rand(len(y), generator=torch.Generator().manual_seed(0)) < p),
        COUNT,
        _fixed_count,
    ],
    says="Each label is dropped on its own with probability p, and becomes the null label.",
    hint="one random number for each label says whether it becomes null.",
    see=_dropped,
    tolerance={SHARE: 0.025},
)

guided_eps = Check(
    about="Check ``function(conditional, unconditional, gamma)``: u + gamma * (c - u).",
    right=lambda conditional, unconditional, gamma: unconditional + gamma * (conditional - unconditional),
    cases=lambda: [(torch.randn(3), torch.randn(3), gamma) for gamma in (0.0, 1.0, between(2, 4), between(5, 9))],
    mistakes=[
        "γ is used as w: at γ = 1 this does not give the conditional answer. Hint: start from u, not from c.",
        lambda c, u, gamma: c + gamma * (c - u),
        "Conditional and unconditional are swapped. Hint: go from u towards c.",
        lambda c, u, gamma: c + gamma * (u - c),
        "The sign is turned. Hint: go from u towards c.",
        lambda c, u, gamma: u - gamma * (c - u),
        "This mixes γ·c + u, which does not leave equal answers alone. Hint: go from u towards c.",
        lambda c, u, gamma: gamma * c + u,
        "This lies between the two. Hint: guidance goes past c, to γ times the way, with γ above 1.",
        lambda c, u, gamma: u + (c - u) / gamma,
    ],
    says="γ = 0 gives u, γ = 1 gives c, and a larger γ goes further in the same direction.",
    hint="start at u, and go γ times the way to c, for any γ.",
    what="the guided noise",
)


def _toy() -> Mixture:
    """Three lumps on a line, whose places, widths and weights are drawn anew."""
    means = [[between(-1.3, -0.8)], [between(0.7, 1.1)], [between(0.0, 0.3)]]
    return Mixture([0.5, 0.3, 0.2], means, [between(0.2, 0.3) for _ in means])


def _walks(gamma: float) -> tuple:
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    return _toy(), torch.randn(6, 1), y, gamma, schedules.flow().grid(int(between(6, 12)))


Guide = Callable[[Tensor, Tensor, float], Tensor]


def _walk(
    blend: Guide = lambda c, u, gamma: u + gamma * (c - u),
    null: Callable[[Tensor], Tensor] = lambda y: torch.full_like(y, 3),
    noise: Callable | None = None,
    scale: Callable = lambda at, to: to,
    whole: bool = True,
) -> Callable:
    """A guided walk that is right but for what is given; ``scale`` says whose factors the step takes."""

    def walk(denoise, x: Tensor, y: Tensor, gamma: float, levels: Sequence) -> Tensor:
        for at, to in list(pairwise(levels))[: None if whole else -1]:
            c, u = denoise(x, at, y), denoise(x, at, null(y))
            x0 = blend(c.x0, u.x0, gamma)
            eps = noise(c, u, x0) if noise else (x - at.like(x).alpha * x0) / at.like(x).sigma
            level = scale(at, to).like(x)
            x = level.alpha * x0 + level.sigma * eps
        return x

    return walk


def _right_walk(denoise: Mixture, x: Tensor, y: Tensor, gamma: float, levels: Sequence) -> Tensor:
    *_, last = samplers.sample(edits.classifier_free(denoise, y, gamma), x, levels)
    return last.x


guided_walk = Check(
    about="Check ``function(denoise, x, y, gamma, levels)``: the end of a guided DDIM walk down the levels.",
    right=_right_walk,
    cases=lambda: [_walks(gamma) for gamma in (0.0, 1.0, between(1.5, 2.5), between(3, 5))],
    mistakes=[
        "At γ = 0 this still knows the label: γ is used as w. Hint: û + γ(ĉ − û) starts at û.",
        _walk(blend=lambda c, u, gamma: c + gamma * (c - u)),
        "With and without the label are swapped. Hint: γ = 1 must be the answer for the label.",
        _walk(blend=lambda c, u, gamma: c + gamma * (u - c)),
        "The null label is 0 here, and 0 is a class. Hint: torch.full_like(y, denoise.classes).",
        _walk(null=torch.zeros_like),
        "The guided x̂₀ goes with the noise of the plain answer. Hint: work ε̂ out again, from x and the guided x̂₀.",
        _walk(noise=lambda c, u, x0: c.eps),
        _walk(noise=lambda c, u, x0: u.eps),
        "Nothing has moved. Hint: put x̂₀ and ε̂ together with α and σ of the level you go to, in every step.",
        _walk(scale=lambda at, to: at),
        lambda denoise, x, y, gamma, levels: x,
        "The last step is missing. Hint: pairwise(levels) gives as many pairs as there are steps, to t = 0.",
        _walk(whole=False),
        "The walk never heard of γ: this is the plain conditional one. Hint: two calls in every step.",
        _walk(blend=lambda c, u, gamma: c),
    ],
    says="At γ = 0, 1 and beyond your walk ends where the package's does, on densities drawn anew.",
    hint="in each step: ĉ and û, the guided x̂₀, the ε̂ that goes with it, and both put together at the next level.",
    what="the end of the walk",
    tolerance={"the end of the walk": 1e-3},
    shapes="at.like(x) has alpha and sigma in the dtype of x.",
)


def _tilted(c: float, u: float, gamma: float) -> float:
    return (gamma / c**2 + (1 - gamma) / u**2) ** -0.5


def _widths(gamma: float) -> tuple[float, float, float]:
    c = between(0.3, 0.6)
    return c, c * between(1.4, 2.2), gamma


two_widths = Check(
    about="Check ``function(c, u, gamma)``: the width of N(0, c²)^γ N(0, u²)^(1−γ), and that of the guided walks.",
    right=lambda c, u, gamma: (_tilted(c, u, gamma), c**gamma * u ** (1 - gamma)),
    cases=lambda: [_widths(gamma) for gamma in (1.0, 2.0, between(1.2, 1.8), between(2.5, 4))],
    mistakes=[
        "The first is a variance. Hint: return standard deviations, the root.",
        lambda c, u, gamma: (_tilted(c, u, gamma) ** 2, None),
        "The first blends the widths themselves. Hint: the logarithm of a Gaussian has 1/s² in it; blend those.",
        lambda c, u, gamma: (gamma * c + (1 - gamma) * u, None),
        "The first blends the variances. Hint: the logarithm of a Gaussian has 1/s² in it; blend those.",
        lambda c, u, gamma: (abs(gamma * c**2 + (1 - gamma) * u**2) ** 0.5, None),
        "γ is used as w in the first: at γ = 1 the width must be c. Hint: the powers γ and 1 − γ sum to 1.",
        lambda c, u, gamma: (_tilted(c, u, 1 + gamma), None),
        "The walks do not end in the tilted density. Hint: solve dx/dτ = −½ x·(a fraction in τ), from large τ to 0.",
        lambda c, u, gamma: (None, _tilted(c, u, gamma)),
        "The second has lost its ½. Hint: x follows −½ of the score times dτ, with τ = σ²/α².",
        lambda c, u, gamma: (None, c ** (2 * gamma) * u ** (2 - 2 * gamma)),
        "γ is used as w in the second: at γ = 1 the width must be c. Hint: the powers γ and 1 − γ sum to 1.",
        lambda c, u, gamma: (None, c ** (1 + gamma) * u**-gamma),
        "c and u are swapped in the second. Hint: at γ = 1 the width must be c.",
        lambda c, u, gamma: (None, u**gamma * c ** (1 - gamma)),
    ],
    says="The sharpened density blends 1/s², the walks blend log s. At γ = 0 and γ = 1 they agree, and nowhere else.",
    hint="at γ = 1 both are c; the logarithm of the first is quadratic in x, the equation of the second linear in x.",
    what=("the width of the tilted density", "the width of the walks"),
)


def _but_not(u, c, n, gamma, eta):
    return u + gamma * (c - u) - eta * (n - u)


but_not = Check(
    about="Check ``function(u, c, n, gamma, eta)``: the estimate of x0 for p(x) p(y|x)^γ / p(y'|x)^η.",
    right=_but_not,
    cases=lambda: [
        (*torch.randn(3, 4), gamma, eta)
        for gamma, eta in ((1.0, 0.0), (0.0, 1.0), (between(1.2, 2), between(0.3, 0.8)), (between(3, 5), between(1, 2)))
    ],
    mistakes=[
        "This takes n as the base. Hint: that is the special case η = γ − 1; start from log p(x), whose answer is u.",
        lambda u, c, n, gamma, eta: n + gamma * (c - n),
        "The sign of η is turned: this draws y and y'. Hint: p(y' | x) stands below the line.",
        lambda u, c, n, gamma, eta: u + gamma * (c - u) + eta * (n - u),
        "Without y (γ = 0) and with η = 0 this must be u. Hint: each push is a difference from u.",
        lambda u, c, n, gamma, eta: u + gamma * c - eta * n,
        lambda u, c, n, gamma, eta: gamma * c - eta * n,
        "The second push is measured from c. Hint: ∇ log p(y' | x) is the score with y' less the one without a label.",
        lambda u, c, n, gamma, eta: u + gamma * (c - u) - eta * (n - c),
        "η is not used as a strength of its own. Hint: γ pushes to y, η away from y'.",
        lambda u, c, n, gamma, eta: u + gamma * (c - n),
        "γ is used as w. Hint: at γ = 1 and η = 0 the answer is c.",
        lambda u, c, n, gamma, eta: c + gamma * (c - u) - eta * (n - u),
    ],
    says="Each label pushes with its own strength, y towards and y' away, both from the answer without a label.",
    hint="take the logarithm and the gradient of p(x) p(y|x)^γ p(y'|x)^−η, and use Bayes for both labels.",
    what="the estimate of x0",
)
