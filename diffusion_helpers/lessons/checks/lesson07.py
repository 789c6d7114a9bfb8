"""Notebook 07: editing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .engine import Check, parts


class Rung(NamedTuple):
    """A level as the exercise has them, in numbers."""

    t: float
    alpha: float
    sigma: float


def _start(n: int, where: float, straight: bool) -> tuple[Tensor, Tensor, list[Rung], float]:
    """Image, noise, n + 1 levels that fall on one of two paths, and a time at a level or halfway between two."""
    times = [1.0, *(1 - torch.arange(1, n) / n + (torch.rand(n - 1) - 0.5) / (2 * n)).tolist(), 0.0]
    path = (lambda t: (1 - t, t)) if straight else (lambda t: (math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)))
    levels = [Rung(t, *path(t)) for t in times]
    return *torch.randn(2, 3), levels, (times[math.floor(where)] + times[math.ceil(where)]) / 2


def _seen_in_start(answer, image: Tensor, eps: Tensor, levels: list[Rung], t: float) -> dict[str, object]:
    x, below = parts(answer(image, eps, levels, t), ("the noisy image", "the levels that are left")).values()
    times = None if below is None else [float(level.t) for level in below]
    return {"the list of times": times, "the noisy image": x}


def _below(levels: list[Rung], t: float) -> list[Rung]:
    return [level for level in levels if level.t <= t]


def _kept(keep: Callable) -> Callable:
    """A start with these levels, which says nothing about the image."""
    return lambda image, eps, levels, t: (None, keep(levels, t))


def _mixed(alpha: Callable, sigma: Callable) -> Callable:
    """A start with the right levels, where the image has these factors."""

    def start(image, eps, levels, t):
        below = _below(levels, t)
        return alpha(below[0], t) * image + sigma(below[0], t) * eps, below

    return start


edit_start = Check(
    about="Check ``function(image, eps, levels, t)``: the image at the first level at or below t, and those from there.",
    right=_mixed(lambda level, t: level.alpha, lambda level, t: level.sigma),
    cases=lambda: [
        _start(n, where, straight)
        for n, where, straight in ((5, 2.5, False), (6, 3, False), (4, 1.5, True), (5, 0, False), (6, 6, True))
    ],
    mistakes=[
        "The run would begin at pure noise again. Hint: leave out the levels above t.",
        _kept(lambda levels, t: levels),
        "These are the levels above t. Hint: a run goes down, so keep those at or below t.",
        _kept(lambda levels, t: [level for level in levels if level.t >= t]),
        "The level t itself is missing. Hint: a level at t is not above t.",
        _kept(lambda levels, t: [level for level in levels if level.t < t]),
        "The levels rise. Hint: a run goes down to data; keep their order.",
        _kept(lambda levels, t: _below(levels, t)[::-1]),
        "The level to begin at is missing from the list. Hint: it is the first of those that are left.",
        _kept(lambda levels, t: _below(levels, t)[1:]),
        "No noise was added. Hint: the network is told that x is noisy, so it must be.",
        _mixed(lambda level, t: 1, lambda level, t: 0),
        "The image was not made weaker. Hint: its factor is the alpha of the level.",
        _mixed(lambda level, t: 1, lambda level, t: level.sigma),
        "The factors are swapped. Hint: alpha goes with the image, sigma with eps.",
        _mixed(lambda level, t: level.sigma, lambda level, t: level.alpha),
        "The noise is that of t, but the run begins at the next level below. Hint: take alpha and sigma from it.",
        _mixed(lambda level, t: 1 - t, lambda level, t: t),
        "The factors are 1 − t and t, which is one path of many. Hint: take alpha and sigma from the level.",
        _mixed(lambda level, t: 1 - level.t, lambda level, t: level.t),
        "This is the noise of the top level. Hint: take alpha and sigma of the level where the run begins.",
        lambda image, eps, levels, t: (levels[0].alpha * image + levels[0].sigma * eps, _below(levels, t)),
    ],
    says="The run begins with the right noise, and only the levels below are left.",
    hint="the first level that is not above t is where the run begins, with its alpha and its sigma.",
    see=_seen_in_start,
)


def _overwritten(x0: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    image[mask.expand_as(image) == 1] = x0[mask.expand_as(image) == 1]
    return image


def _hole(*mask_shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """An estimate, an image with other values, and a mask with at least one pixel of each kind."""
    mask = (torch.rand(mask_shape) < 0.5).float()
    mask[..., 0, 0], mask[..., -1, -1] = 0, 1
    return torch.randn(3, 1, 4, 4), 3 + torch.randn(3, 1, 4, 4), mask


keep_known = Check(
    about="Check ``function(x0, image, mask)``: x0 where the mask is 1, the image where it is 0, both (B, C, H, W).",
    right=lambda x0, image, mask: torch.where(mask == 1, x0, image),
    cases=lambda: [_hole(1, 1, 4, 4), _hole(3, 1, 4, 4)],
    mistakes=[
        "The mask is turned round. Hint: 1 is where something new is drawn, 0 is where the image is kept.",
        lambda x0, image, mask: mask * image + (1 - mask) * x0,
        "The known part is missing. Hint: add (1 - mask) * image.",
        lambda x0, image, mask: mask * x0,
        "The new part is missing. Hint: add mask * x0.",
        lambda x0, image, mask: (1 - mask) * image,
        "The estimate shows through where the image is known. Hint: the estimate only where the mask is 1.",
        lambda x0, image, mask: x0 + (1 - mask) * image,
        "The image shows through where something new is drawn. Hint: the image only where the mask is 0.",
        lambda x0, image, mask: mask * x0 + image,
        "This is a mean of both. Hint: each pixel comes from one of them.",
        lambda x0, image, mask: (x0 + image) / 2,
        "Nothing was kept. Hint: where the mask is 0, take the image.",
        lambda x0, image, mask: x0,
        "The image that was given has changed. Hint: make a new tensor instead of writing into it.",
        _overwritten,
    ],
    says="Known pixels stay exactly as they are, and all others come from the estimate.",
    hint="each pixel is that of x0 or that of the image, and the mask says which.",
    see=lambda answer, x0, image, mask: {"the estimate": answer(x0, image, mask), "the image that was given": image},
)


def _seen(look: Callable) -> Callable:
    """A view that says nothing about the way back."""
    return lambda x, back: None if back else look(x)


view = Check(
    about="Check ``function(x, back)``: images x (B, C, H, H) turned counter-clockwise by a quarter turn, and turned back.",
    right=lambda x, back: x.rot90(-1 if back else 1, (2, 3)),
    cases=lambda: [(torch.randn(2, 3, 6, 6),), (torch.randn(3, 1, 5, 5),)],
    mistakes=[
        "This view changes nothing. Hint: return the turned images.",
        _seen(lambda x: x),
        "The images are turned clockwise. Hint: a quarter turn counter-clockwise brings the right edge to the top.",
        _seen(lambda x: x.rot90(-1, (2, 3))),
        "This is a mirror image, or half a turn. Hint: a quarter turn brings the right edge to the top.",
        _seen(lambda x: x.transpose(2, 3)),
        _seen(lambda x: x.flip(2)),
        _seen(lambda x: x.flip(3)),
        _seen(lambda x: x.flip(2, 3)),
        "Batch and channels are turned, not the images. Hint: height and width are dims 2 and 3.",
        _seen(lambda x: x.rot90(1, (0, 1))),
        "The way back changes nothing. Hint: undo what the view did.",
        lambda x, back: x if back else None,
        "The way back turns once more in the same direction. Hint: undo it; the other direction.",
        lambda x, back: x.rot90(1, (2, 3)) if back else None,
    ],
    says="The images are turned counter-clockwise by a quarter turn, and back again.",
    hint="every pixel arrives as it is, turned counter-clockwise by a quarter turn; with back=True clockwise.",
    see=lambda answer, x: {
        "what is seen": answer(x.clone(), back=False),
        "what comes back": answer(x.clone(), back=True),
    },
)
