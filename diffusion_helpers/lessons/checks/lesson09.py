"""Notebook 09: beyond digits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .engine import Check, Mistake, between, tensor


class _Net:
    """A network that answers with x0, for the label or without one, and counts how often it is asked for either."""

    def __init__(self, shape: tuple[int, ...]):
        self.to, self.base, self.asked = torch.randn(shape), torch.randn(shape), [0, 0]

    def __call__(self, x: Tensor, t: float, y: Tensor | None = None) -> Tensor:
        self.asked[y is None] += 1
        return (self.base if y is None else self.to) * (1 + t) + 0.1 * x


def _times() -> list[tuple]:
    """An interval, and times within, on both of its borders, below and above."""

    def one(place: str) -> tuple:
        low, high = between(0.1, 0.4), between(0.6, 0.9)
        times = {"in": between(0.45, 0.55), "low": low, "high": high, "below": low / 2, "above": (1 + high) / 2}
        net, n = _Net((4, 1, 2, 3)), 4
        return net, torch.randn(n, 1, 2, 3), times[place], torch.randint(10, (n,)), between(1.5, 4), low, high

    return [one(place) for place in ("in", "above", "below", "low", "high")]


def _answered(answer, net: _Net, x: Tensor, t: float, y: Tensor, gamma: float, low: float, high: float) -> dict:
    found = tensor(answer(net, x.clone(), t, y, gamma, low, high), x.shape, ESTIMATE)
    if not net.asked[0]:
        raise Mistake("The network was never told the label. Hint: net(x, t, y).")
    return {ESTIMATE: found, ASKED: sum(net.asked)}


def _limited(
    within=lambda t, low, high: low <= t <= high,
    inside=lambda c, u, gamma: u + gamma * (c - u),
    outside=lambda net, x, t, y: net(x, t, y),
):
    def limited(net, x, t, y, gamma, low, high):
        return inside(net(x, t, y), net(x, t), gamma) if within(t, low, high) else outside(net, x, t, y)

    return limited


ESTIMATE, ASKED = "the estimate of x0", "how often the network is asked"
OPEN = "At one of the borders nothing is guided. Hint: the interval holds both of its ends, low <= t <= high."
HALF = "Only one of the borders counts. Hint: low <= t <= high."
limited = Check(
    about="Check ``function(net, x, t, y, gamma, low, high)``: guidance in an interval of times, at the least cost.",
    right=_limited(),
    cases=_times,
    mistakes=[
        "The guidance acts before and after the interval, not within. Hint: turn the condition round.",
        _limited(within=lambda t, low, high: not low <= t <= high),
        OPEN,
        _limited(within=lambda t, low, high: low < t < high),
        _limited(within=lambda t, low, high: low < t <= high),
        _limited(within=lambda t, low, high: low <= t < high),
        HALF,
        _limited(within=lambda t, low, high: t <= high),
        _limited(within=lambda t, low, high: t >= low),
        "The guidance acts at all times. Hint: outside of the interval it is switched off.",
        _limited(within=lambda t, low, high: True),
        "The guidance never acts. Hint: within the interval two estimates are needed.",
        _limited(within=lambda t, low, high: False),
        "Outside the label is forgotten. Hint: guidance switched off is γ = 1, not γ = 0.",
        _limited(outside=lambda net, x, t, y: (net(x, t, y), net(x, t))[1]),
        "Outside nothing is denoised. Hint: guidance switched off is γ = 1: the estimate for the label.",
        _limited(outside=lambda net, x, t, y: (net(x, t, y), x)[1]),
        "γ multiplies the wrong estimate. Hint: start from the one without a label, and go γ times towards the other.",
        _limited(inside=lambda c, u, gamma: c + gamma * (u - c)),
        _limited(inside=lambda c, u, gamma: gamma * c),
        _limited(inside=lambda c, u, gamma: u + gamma * c),
        "Within the interval this is stronger by 1: γ counts from the estimate without a label, w = γ − 1 from the other.",
        _limited(inside=lambda c, u, gamma: c + gamma * (c - u)),
        "Within the interval this is weaker by 1: here γ = 1 is the label as it is.",
        _limited(inside=lambda c, u, gamma: c + (gamma - 2) * (c - u)),
        "The estimate is right, but the network is asked twice at every time. Hint: outside one estimate is not used.",
        _limited(outside=lambda net, x, t, y: net(x, t, y) + 0 * net(x, t)),
    ],
    says="Guidance acts within the interval, its ends included, and outside the network is asked only once.",
    hint="low <= t <= high: u + γ (c − u). Otherwise c alone, without asking for u.",
    see=_answered,
)


def _bent(near, far):
    """The mean of ``near`` below a difference of 1, and of ``far`` from there on."""

    def loss(prediction, target):
        d = (prediction - target).abs()
        return torch.where(d < 1, near(d), far(d)).mean()

    return loss


def _differences(n: int) -> tuple[Tensor, Tensor]:
    """Small and large differences of both signs."""
    size = torch.cat([torch.rand(2, n), 1.1 + 3 * torch.rand(2, n)])
    target = torch.randn(4, n)
    return target + size * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None], target


huber = Check(
    about="Check ``function(prediction, target)``: the mean of Huber's loss, which turns straight at a difference of 1.",
    right=lambda prediction, target: F.huber_loss(prediction, target).item(),
    cases=lambda: [_differences(n) for n in (1, 3, 5)],
    mistakes=[
        "This is the squared error. Hint: from a difference of 1 on, the loss is straight.",
        F.mse_loss,
        "This is the absolute error. Hint: below a difference of 1, the loss is a parabola.",
        F.l1_loss,
        "This is half the squared error. Hint: from a difference of 1 on, the loss is straight.",
        lambda prediction, target: F.mse_loss(prediction, target) / 2,
        "The ½ before d² is missing, so the two parts do not meet. Hint: ½d².",
        _bent(lambda d: d**2, lambda d: d - 0.5),
        "The straight part lies too high, so the two parts do not meet. Hint: |d| − ½.",
        _bent(lambda d: d**2 / 2, lambda d: d),
        "The two parts are swapped. Hint: the parabola is for |d| < 1.",
        _bent(lambda d: d - 0.5, lambda d: d**2 / 2),
        "The sign of the difference counts here. Hint: take its absolute value first.",
        lambda a, b: torch.where(a - b < 1, (a - b) ** 2 / 2, a - b - 0.5).mean(),
        "This is the sum. Hint: return the mean, so that the loss does not grow with the batch.",
        lambda prediction, target: F.huber_loss(prediction, target, reduction="sum"),
    ],
    says="The loss is a parabola near 0 and straight further out, and the two parts meet.",
    hint="choose between the two parts by |d|, element by element, then take the mean.",
    what="the loss",
)

ema_step = Check(
    about="Check ``function(average, weight, decay)``: the running average after one update.",
    right=lambda average, weight, decay: decay * average + (1 - decay) * weight,
    cases=lambda: [
        (torch.randn(3), torch.randn(3), between(*span)) for span in ((0.6, 0.75), (0.8, 0.9), (0.95, 0.99))
    ],
    mistakes=[
        "The two factors are swapped. Hint: decay is close to 1, and goes with the average.",
        lambda average, weight, decay: decay * weight + (1 - decay) * average,
        "The average only shrinks. Hint: add a share of the new weights.",
        lambda average, weight, decay: decay * average,
        "The new weights count in full. Hint: the two factors add up to 1.",
        lambda average, weight, decay: decay * average + weight,
        "This is a plain mean. Hint: the factors are decay and 1 − decay.",
        lambda average, weight, decay: (average + weight) / 2,
        "The average did not move. Hint: it goes towards the new weights by a share of 1 − decay.",
        lambda average, weight, decay: average,
        "These are the new weights. Hint: most of the average stays.",
        lambda average, weight, decay: weight,
    ],
    says="The average moves towards the weights by a share of 1 − decay.",
    hint="a share, decay, of the average stays, and the rest comes from the new weights.",
    what="the average",
)


def _uneven(classes: int) -> tuple[Tensor]:
    """Labels of classes of which each is larger than the one before, in random order."""
    counts = (1 + torch.randint(1, 4, (classes,))).cumsum(0)
    labels = torch.arange(classes)[torch.randperm(classes)].repeat_interleave(counts)
    return (labels[torch.randperm(len(labels))],)


def _weighted(answer, labels: Tensor) -> dict[str, object]:
    found = answer(labels)
    if isinstance(found, Tensor) and found.shape == labels.bincount().shape:
        return {"the list of weights, scaled to the sum 1,": found}
    found = tensor(found, labels.shape, "the list of weights").double()
    return {"the list of weights, scaled to the sum 1,": found / found.abs().sum()}


even_weights = Check(
    about="Check ``function(labels)``: a positive weight for each image, with the same sum in each class.",
    right=lambda labels: 1 / labels.bincount()[labels],
    cases=lambda: [_uneven(classes) for classes in (2, 3, 5)],
    mistakes=[
        "There is one weight for each class. Hint: index it with the labels, weights[labels].",
        lambda labels: 1 / labels.bincount(),
        "All weigh the same, so the classes stay uneven. Hint: divide by the size of the class.",
        lambda labels: torch.ones(len(labels)),
        "Frequent classes weigh more here. Hint: divide by the size of the class, do not multiply.",
        lambda labels: labels.bincount()[labels].float(),
        "This goes too far: the rare class is drawn most. Hint: the size of the class, not its square.",
        lambda labels: 1 / labels.bincount()[labels] ** 2,
    ],
    says="Every class is drawn as often as the others, and all images of a class alike.",
    hint="all weights are positive, images of one class weigh alike, and each class has the same sum.",
    see=_weighted,
)
