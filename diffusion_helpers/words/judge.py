"""What is in a picture: a classifier with an answer for each field of a scene."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import data
from ..denoise import evaluating
from .grammar import FIELDS, SIZES
from .scenes import Scenes

HEADS = [len(values) for values in FIELDS.values()]


def counts(scenes: Tensor) -> Tensor:
    """Which fields of scenes (N, 9) there are: the place of one thing, the second of two. (N, 9) bool."""
    there = torch.ones_like(scenes, dtype=torch.bool)
    pair = scenes[:, 0] > 0
    there[:, 2] = ~pair
    there[:, 6:] = pair[:, None]
    return there


def loss(net: nn.Module, images: Tensor, scenes: Tensor) -> Tensor:
    """Cross-entropy of each field that there is, the mean: images (N, 3, 32, 32) uint8, scenes (N, 9)."""
    answers = net(data.symmetric(images)).split(HEADS, 1)
    each = [F.cross_entropy(a, scenes[:, i], reduction="none") for i, a in enumerate(answers)]
    there = counts(scenes)
    return (torch.stack(each, 1) * there).sum() / there.sum()


@torch.no_grad()
def read(net: nn.Module, images: Tensor) -> Tensor:
    """What ``net`` sees in images (N, 3, 32, 32) in [-1, 1]: (N, 9), a column for each of ``FIELDS``."""
    with evaluating(net):
        parts = [net(part).split(HEADS, 1) for part in images.split(500)]
    return torch.cat([torch.stack([answer.argmax(1) for answer in part], 1) for part in parts])


def right(found: Tensor, asked: Scenes) -> Tensor:
    """Which fields of ``found`` (N, 9) are as the captions say: (N, 9) bool. What a caption does not say is right.

    Nor does the place of a big thing count, which fills most of the picture wherever it is.
    """
    said = counts(asked.scenes)
    said[:, 2] &= asked.scenes[:, 5] != SIZES.index("big")
    said[:, 1] &= asked.says_ground
    return (found == asked.scenes) | ~said
