"""What changes a denoiser's answer: guidance, clipping, mixtures of labels.

``guide`` and ``clip`` take a denoiser and return one, so that they fit into the one sampling loop.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .denoise import Denoised, Denoiser
from .samplers import Denoise
from .schedules import Level
from .unet import label_weights


def guide(denoiser: Denoiser, y: Tensor, *, gamma: float | None = None, w: float | None = None) -> Denoise:
    """Classifier-free guidance: answer x0 = u + gamma * (c - u), c with the labels y and u without.

    y is (B,) integers or (B, classes) label weights. Give either ``gamma`` (the course's: 0 is
    unconditional, 1 conditional) or ``w`` (the paper's, gamma = 1 + w). At 0 and 1 the network is asked once
    and its answer passed on unchanged.
    Raises ValueError when both or neither are given, for a denoiser without classes and for wrong labels.
    Source: Ho and Salimans 2022 (arXiv:2207.12598), equation 6.
    """
    if (gamma is None) == (w is None):
        raise ValueError(f"gamma = {gamma} and w = {w}: expected exactly one of them (gamma = 1 + w)")
    if not denoiser.classes:
        raise ValueError("guidance of a denoiser with 0 classes: expected one that was trained with labels")
    weights = label_weights(y, denoiser.classes)
    strength = 1 + w if gamma is None else gamma

    def guided(x: Tensor, level: Level) -> Denoised:
        if len(x) != len(y):
            raise ValueError(f"{len(y)} labels for {len(x)} images: expected one each")
        c = weights.to(x)
        u = torch.zeros_like(c)  # the null label is a row of zeros
        if strength in (0, 1):
            return denoiser(x, level, c if strength == 1 else u)
        twice = Level(*(torch.cat([part, part]) if part.ndim else part for part in level))
        both = denoiser(torch.cat([x, x]), twice, torch.cat([c, u])).x0  # (2B, C, H, W)
        conditional, unconditional = both.chunk(2)
        return Denoised(x, unconditional + strength * (conditional - unconditional), level)

    return guided


def clip(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Keep every estimate of x0 within the range of pixels, [low, high]; eps follows.

    Source: the ``clip_denoised`` of Ho et al. 2020's code.
    """

    def clipped(x: Tensor, level: Level) -> Denoised:
        return Denoised(x, denoise(x, level).x0.clamp(low, high), level)

    return clipped


def mix_labels(first: int, last: int, steps: int, classes: int) -> Tensor:
    """Label weights (steps, classes) that go from one label to another, each row of length 1.

    Raises ValueError for labels out of range or fewer than 2 steps.
    Source: label interpolation as in github.com/aestuans/mnist-diffusion.
    """
    if steps < 2:
        raise ValueError(f"{steps} steps: expected at least 2")
    if not (0 <= first < classes and 0 <= last < classes):
        raise ValueError(f"labels {first} and {last}: expected 0 to {classes - 1}")
    share = torch.linspace(0, 1, steps)[:, None]
    ends = F.one_hot(torch.tensor([first, last]), classes).float()
    return F.normalize((1 - share) * ends[0] + share * ends[1])
