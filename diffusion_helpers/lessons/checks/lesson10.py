"""Notebook 10: words."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .engine import Check, between


def _attend(scores, mix=lambda share, v: share @ v, dim=-1):
    """Attention with other ``scores`` of q and k, another ``mix`` or another direction of the softmax."""
    return lambda q, k, v: mix(scores(q, k).softmax(dim), v)


def _asked(pixels: int, words: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, far enough from 0 that the softmax is neither even nor a choice."""
    return 1.5 * torch.randn(2, pixels, width), 1.5 * torch.randn(2, words, width), torch.randn(2, words, width)


def _root(q: Tensor) -> float:
    return q.shape[-1] ** 0.5


attend = Check(
    about="Check ``function(q, k, v)``: attention of queries (B, L, d) to keys and values (B, M, d), (B, L, d).",
    right=_attend(lambda q, k: q @ k.mT / _root(q)),
    cases=lambda: [_asked(5, 3, 4), _asked(4, 6, 9), _asked(7, 2, 16)],
    mistakes=[
        "The scores are not divided by √d. Hint: their variance is d, and the softmax would choose one word alone.",
        _attend(lambda q, k: q @ k.mT),
        "The scores are divided by d. Hint: their standard deviation is √d.",
        _attend(lambda q, k: q @ k.mT / q.shape[-1]),
        "The shares add up to 1 over the pixels. Hint: each pixel shares itself out among the words: the last dimension.",
        _attend(lambda q, k: q @ k.mT / _root(q), dim=-2),
        "There is no softmax. Hint: the shares are positive and add up to 1.",
        lambda q, k, v: (q @ k.mT / _root(q)) @ v,
        "The values have no part in it. Hint: the shares mix v; k only decides how much of each.",
        lambda q, k, v: (q @ k.mT / _root(q)).softmax(-1) @ k,
        "Keys and values are swapped. Hint: the scores compare q with k.",
        lambda q, k, v: (q @ v.mT / _root(q)).softmax(-1) @ k,
        "Every word has the same share. Hint: the shares are the softmax of the scores.",
        lambda q, k, v: v.mean(-2, keepdim=True).expand_as(q),
        "These are the shares. Hint: they still have to mix v.",
        lambda q, k, v: (q @ k.mT / _root(q)).softmax(-1),
    ],
    says="Each pixel shares itself out among the words, and takes as much of what each has to say.",
    hint="softmax over the words of q kᵀ / √d, then times v.",
    what="the answer",
)

both = Check(
    about="Check ``function(a, b, u, gamma)``: the estimate of x0 that is guided to two captions at once.",
    right=lambda a, b, u, gamma: u + gamma * (a - u) + gamma * (b - u),
    cases=lambda: [(*torch.randn(3, 4).unbind(), between(*span)) for span in ((0.4, 0.8), (1.5, 2.5), (3.0, 5.0))],
    mistakes=[
        "This is guidance to the mean of the two, half as strong. Hint: p(a|x)^γ times p(b|x)^γ, so the gradients add.",
        lambda a, b, u, gamma: u + gamma * ((a + b) / 2 - u),
        "The unconditional part counts twice. Hint: the density is p(x) p(a|x)^γ p(b|x)^γ, with p(x) once.",
        lambda a, b, u, gamma: 2 * u + gamma * (a - u) + gamma * (b - u),
        "The unconditional part is missing. Hint: the density is p(x) p(a|x)^γ p(b|x)^γ.",
        lambda a, b, u, gamma: gamma * (a - u) + gamma * (b - u),
        "The second caption pushes away. Hint: both factors are wanted.",
        lambda a, b, u, gamma: u + gamma * (a - u) - gamma * (b - u),
        "This goes from one caption to the other. Hint: each is compared with the answer without words.",
        lambda a, b, u, gamma: a + gamma * (b - a),
        lambda a, b, u, gamma: b + gamma * (a - b),
        "γ acts on one of them alone. Hint: p(a|x)^γ p(b|x)^γ.",
        lambda a, b, u, gamma: u + gamma * (a - u) + (b - u),
        lambda a, b, u, gamma: u + (a - u) + gamma * (b - u),
    ],
    says="Two captions pull at once, each away from the answer without words.",
    hint="the log of a product is a sum: each caption adds γ times its difference from u.",
    what="the estimate",
)


def _counts(n: int, m: int) -> tuple[int, int, int, int]:
    """Right answers and totals of two groups, with shares that differ."""
    return round(n * between(0.55, 0.9)), n, round(m * between(0.3, 0.5)), m


def _error(k: int, n: int) -> float:
    return k / n * (1 - k / n) / n


apart = Check(
    about="Check ``function(right1, n1, right2, n2)``: the difference of two shares, in its own standard errors.",
    right=lambda k, n, j, m: (k / n - j / m) / math.sqrt(_error(k, n) + _error(j, m)),
    cases=lambda: [_counts(40, 90), _counts(500, 200), _counts(1000, 1000)],
    mistakes=[
        "The two errors are added as they are. Hint: variances add, standard errors do not.",
        lambda k, n, j, m: (k / n - j / m) / (math.sqrt(_error(k, n)) + math.sqrt(_error(j, m))),
        "Only the first group has an error here. Hint: the second share is measured, too.",
        lambda k, n, j, m: (k / n - j / m) / math.sqrt(_error(k, n)),
        "Only the second group has an error here. Hint: the first share is measured, too.",
        lambda k, n, j, m: (k / n - j / m) / math.sqrt(_error(j, m)),
        "This divides by the variance. Hint: take its root.",
        lambda k, n, j, m: (k / n - j / m) / (_error(k, n) + _error(j, m)),
        "This is the difference alone. Hint: divide it by its standard error.",
        lambda k, n, j, m: k / n - j / m,
        "The variances of single answers are compared. Hint: a mean of n answers has an n-th of their variance.",
        lambda k, n, j, m: (k / n - j / m) / math.sqrt(n * _error(k, n) + m * _error(j, m)),
        "The sign is turned. Hint: the first share minus the second.",
        lambda k, n, j, m: (j / m - k / n) / math.sqrt(_error(k, n) + _error(j, m)),
    ],
    says="The difference is counted in its own standard errors, to which both groups add.",
    hint="a share p of n answers has the variance p (1 − p) / n; those of both shares add up.",
    what="the difference in standard errors",
)
