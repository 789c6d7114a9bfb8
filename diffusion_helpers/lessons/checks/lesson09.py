"""Notebook 09: beyond digits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .engine import Check, between, tensor


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
