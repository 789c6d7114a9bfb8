"""Notebook 04: classes and guidance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

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

gamma_to_w = Check(
    about="Check ``function(gamma)``: the w of (1 + w) c - w u for the same guidance.",
    right=lambda gamma: gamma - 1,
    cases=lambda: [(0.0,), (1.0,), (between(0.2, 0.8),), (between(2, 9),)],
    mistakes=[
        "w is not γ. Hint: set u + γ(c − u) equal to (1 + w)c − wu, and compare what stands before c.",
        lambda gamma: gamma,
        "That is the other way round. Hint: the conditional answer has γ = 1 and w = 0.",
        lambda gamma: gamma + 1,
        "The sign is turned. Hint: a larger γ is a larger w.",
        lambda gamma: 1 - gamma,
    ],
    says="w = γ − 1: unconditional is γ = 0, w = −1; conditional is γ = 1, w = 0.",
    hint="compare what stands before c in both formulas.",
    what="w",
)


def _row(first: int, last: int, share: float) -> Tensor:
    one, other = torch.eye(10)[[first, last]]
    return (1 - share) * one + share * other


interpolate_labels = Check(
    about="Check ``function(first, last, share)``: a mixture (10,) of two one-hot labels, of length 1.",
    right=lambda first, last, share: F.normalize(_row(first, last, share), dim=0),
    cases=lambda: [
        (*torch.randperm(10)[:2].tolist(), share) for share in (0.0, 0.5, 1.0, between(0.1, 0.4), between(0.6, 0.9))
    ],
    mistakes=[
        "This mixes the numbers of the digits. Hint: there is no digit 5½; mix their one-hot rows.",
        lambda first, last, share: (1 - share) * first + share * last,
        "Halfway the row has length 0.71, a weaker condition than any it was trained on. Hint: divide by its norm.",
        _row,
        "The ends are swapped. Hint: share = 0 is the first label.",
        lambda first, last, share: F.normalize(_row(last, first, share), dim=0),
        "This is one label, whatever the share. Hint: 1 − share of the first row, and share of the last.",
        lambda first, last, share: torch.eye(10)[first],
        lambda first, last, share: torch.eye(10)[last],
    ],
    says="The mixture goes from one label to the other and keeps length 1.",
    hint="mix the two one-hot rows by 1 − share and share, and only then give the row length 1.",
    what="the mixture",
)
