"""Notebook 07: editing."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ...denoise import Denoised
from ...schedules import Level, flow
from .engine import Check, Mistake, between, parts


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


def _steps(n: int, *mask_shape: int) -> tuple:
    """A step that joins all pixels, a way to make an image noisy, noise, an image, a mask, and n + 1 falling levels."""
    x, image, mask = _hole(*mask_shape)
    scale, eps, other = torch.randn(3, *image.shape)
    times = [1.0, *(1 - torch.arange(1, n) / n + (torch.rand(n - 1) - 0.5) / (2 * n)).tolist(), 0.0]
    levels = [Rung(t, 1 - t, t) for t in times]
    return (
        lambda x, at, to: torch.tanh(scale * x) * (1 + at.t) + to.alpha * x.mean((2, 3), keepdim=True),
        lambda image, level: level.alpha * image + level.sigma * (eps + level.t * other),
        x,
        image,
        mask,
        levels,
    )


def _pasted(known: Callable = lambda noisy, image, at, to: noisy(image, to), turned: bool = False) -> Callable:
    """The loop, with ``known`` (noisy, image, at, to) where the mask is 0, or where it is 1."""

    def loop(step, noisy, x, image, mask, levels):
        m = 1 - mask if turned else mask
        for at, to in pairwise(levels):
            x = m * step(x, at, to) + (1 - m) * known(noisy, image, at, to)
        return x

    return loop


def _pasted_first(step, noisy, x, image, mask, levels):
    for at, to in pairwise(levels):
        x = step(mask * x + (1 - mask) * noisy(image, at), at, to)
    return x


def _pasted_also_first(step, noisy, x, image, mask, levels):
    return _pasted()(step, noisy, mask * x + (1 - mask) * noisy(image, levels[0]), image, mask, levels)


def _pasted_last(step, noisy, x, image, mask, levels):
    for at, to in pairwise(levels):
        x = step(x, at, to)
    return mask * x + (1 - mask) * noisy(image, levels[-1])


def _never_pasted(step, noisy, x, image, mask, levels):
    for at, to in pairwise(levels):
        x = step(x, at, to)
    return x


def _one_noise(step, noisy, x, image, mask, levels):
    known = noisy(image, levels[0])
    return _pasted(lambda noisy, image, at, to: known)(step, noisy, x, image, mask, levels)


def _from_the_start(step, noisy, x, image, mask, levels):
    for at, to in pairwise(levels):
        found = mask * step(x, at, to) + (1 - mask) * noisy(image, to)
    return found


def _shown_through(step, noisy, x, image, mask, levels):
    for at, to in pairwise(levels):
        x = step(x, at, to) + (1 - mask) * noisy(image, to)
    return x


def _only_known(step, noisy, x, image, mask, levels):
    return (1 - mask) * noisy(image, levels[-1])


fill_loop = Check(
    about="Check ``function(step, noisy, x, image, mask, levels)``: a run in which each step is followed by what is known.",
    right=_pasted(),
    cases=lambda: [_steps(4, 1, 1, 4, 4), _steps(3, 3, 1, 4, 4), _steps(5, 1, 1, 4, 4)],
    mistakes=[
        "The known part has the noise of the level before the step. Hint: which level will the network be told next?",
        _pasted(lambda noisy, image, at, to: noisy(image, at)),
        "The known part is clean, but the network is told that its input is noisy. Hint: noisy(image, level).",
        _pasted(lambda noisy, image, at, to: image),
        "The known part has the noise of one level all the way. Hint: it has to lose its noise as x does.",
        _one_noise,
        "The mask is turned round. Hint: 1 is where something new is drawn.",
        _pasted(turned=True),
        "The known part goes in before each step, so the last step changes it. Hint: first the step, then the known part.",
        _pasted_first,
        "The known part goes in before the first step, too. Hint: it follows each step; at first x is noise, as it should.",
        _pasted_also_first,
        "The known part goes in only at the end, when nothing can fit to it. Hint: after each step.",
        _pasted_last,
        "The known part never goes in. Hint: after each step x gives way to it where the mask is 0.",
        _never_pasted,
        "The loop ends after one step. Hint: does return stand in the loop?",
        lambda step, noisy, x, image, mask, levels: _pasted()(step, noisy, x, image, mask, levels[:2]),
        "The last step is missing. Hint: n + 1 levels have n steps between them.",
        lambda step, noisy, x, image, mask, levels: _pasted()(step, noisy, x, image, mask, levels[:-1]),
        "Each step begins at the noise again. Hint: it goes on from what the one before it left.",
        _from_the_start,
        "x shows through where the image is known. Hint: x only where the mask is 1.",
        _shown_through,
        "Nothing new is drawn. Hint: where the mask is 1, x stays as the step left it.",
        _only_known,
    ],
    says="Each step is followed by what is known, with the noise of the level that was reached.",
    hint="for each two neighbours of the levels: a step, then the known part with the noise of the level it ends at.",
    what="the image",
)


def _network() -> Callable:
    """A denoiser of images (2, 1, 4, 4) that treats each place in its own way, and heeds the level."""
    scale, shift = torch.randn(2, 4, 4)
    return lambda x, level: Denoised(
        x, torch.tanh(scale * x + shift) * (1 + level.t) + x.mean((2, 3), keepdim=True), level
    )


def _two_views() -> list[tuple]:
    """An image, its level, two denoisers, and a view with its way back: a quarter turn, a shift, tiles in new order."""
    order = torch.tensor([2, 0, 3, 1])
    views = [
        (lambda z: z.rot90(1, (2, 3)), lambda z: z.rot90(-1, (2, 3))),
        (lambda z: z.roll(1, 3), lambda z: z.roll(-1, 3)),
        (lambda z: _tiled(z, order), lambda z: _tiled(z, order.argsort())),
    ]
    level = flow()(between(0.3, 0.7))
    return [(torch.randn(2, 1, 4, 4), level, _network(), _network(), *view) for view in views]


def _tiled(z: Tensor, order: Tensor) -> Tensor:
    """The four tiles of images (B, 1, 4, 4), 2 x 2 pixels each, in this order."""
    tiles = z.unflatten(3, (2, 2)).unflatten(2, (2, 2)).transpose(3, 4).flatten(2, 3)  # (B, 1, 4, 2, 2)
    return tiles[:, :, order].unflatten(2, (2, 2)).transpose(3, 4).flatten(4, 5).flatten(2, 3)


def _seen_as_denoised(answer, x: Tensor, level: Level, *given) -> dict[str, object]:
    found = answer(x, level, *given)
    if not isinstance(found, Denoised):
        kind = type(found).__name__
        raise Mistake(f"The answer is a {kind}. Hint: a denoiser returns Denoised(x, x0, level). Did you return it?")
    return {"the estimate of x0": found.x0, "the x in Denoised": found.x, "the level in Denoised": found.level.t}


def _estimated(x0: Callable, noisy: Callable = lambda x, look: x) -> Callable:
    """A denoiser with this estimate, of two functions from an image to Denoised."""

    def denoise(x, level, first, second, look, back):
        return Denoised(noisy(x, look), x0(x, lambda z: first(z, level), lambda z: second(z, level), look, back), level)

    return denoise


two_views = Check(
    about="Check ``function(x, level, first, second, look, back)``: Denoised with the mean of two, one seen through a view.",
    right=_estimated(lambda x, first, second, look, back: (first(x).x0 + back(second(look(x)).x0)) / 2),
    cases=_two_views,
    mistakes=[
        "The second network has to see the image through the view. Hint: look first, then ask.",
        _estimated(lambda x, first, second, look, back: (first(x).x0 + back(second(x).x0)) / 2),
        "The second estimate is still turned. Hint: bring it to where the first one is.",
        _estimated(lambda x, first, second, look, back: (first(x).x0 + second(look(x)).x0) / 2),
        "The second estimate was turned once more. Hint: look again undoes a half turn, but not a quarter turn.",
        _estimated(lambda x, first, second, look, back: (first(x).x0 + look(second(look(x)).x0)) / 2),
        "look and back are swapped. Hint: the network sees what look gives.",
        _estimated(lambda x, first, second, look, back: (first(x).x0 + look(second(back(x)).x0)) / 2),
        "This is a mean of the noisy images, and so x itself. Hint: the mean is of what the networks answer.",
        _estimated(lambda x, first, second, look, back: (first(x).x + back(second(look(x)).x)) / 2),
        "This is a mean of the estimates of the noise. Hint: Denoised wants the estimate of the clean image.",
        _estimated(lambda x, first, second, look, back: (first(x).eps + back(second(look(x)).eps)) / 2),
        "The view has no part in it. Hint: the second network sees the image through it.",
        _estimated(lambda x, first, second, look, back: (first(x).x0 + second(x).x0) / 2),
        "The first network sees the view, too. Hint: it sees x as it is.",
        _estimated(lambda x, first, second, look, back: back(first(look(x)).x0 + second(look(x)).x0) / 2),
        "The first estimate was turned, though its network saw x as it is. Hint: only what was turned comes back.",
        _estimated(lambda x, first, second, look, back: back(first(x).x0 + second(look(x)).x0) / 2),
        "The two networks are swapped. Hint: the second one sees through the view.",
        _estimated(lambda x, first, second, look, back: (second(x).x0 + back(first(look(x)).x0)) / 2),
        "This is the sum. Hint: two images on top of each other are twice as bright.",
        _estimated(lambda x, first, second, look, back: first(x).x0 + back(second(look(x)).x0)),
        "Only one of the two was asked. Hint: the mean of both.",
        _estimated(lambda x, first, second, look, back: first(x).x0),
        _estimated(lambda x, first, second, look, back: back(second(look(x)).x0)),
        "The first estimate went into the second. Hint: both networks see the same x.",
        _estimated(lambda x, first, second, look, back: back(second(look(first(x).x0)).x0)),
        "The estimate is right, but Denoised got the turned x. Hint: its noise would be that of another image.",
        _estimated(
            lambda x, first, second, look, back: (first(x).x0 + back(second(look(x)).x0)) / 2, lambda x, look: look(x)
        ),
    ],
    says="Each network sees the image in its own way, and the mean is taken where x is.",
    hint="two estimates of x0, each from what its network sees; both brought to where x is, then their mean.",
    see=_seen_as_denoised,
)


def _two_frequencies(size: int) -> tuple[Tensor, Tensor, Callable]:
    """Two estimates, and a blur: each pixel becomes a weighted mean of its row."""
    weights = (torch.rand(size, size) + 2 * torch.eye(size)).softmax(0)
    return *torch.randn(2, 2, 1, size, size), lambda z: z @ weights


near_and_far = Check(
    about="Check ``function(far, near, blur)``: the coarse part of one estimate with the fine part of another.",
    right=lambda far, near, blur: blur(far) + near - blur(near),
    cases=lambda: [_two_frequencies(4), _two_frequencies(6)],
    mistakes=[
        "Far and near are swapped. Hint: from afar one sees what a blur leaves.",
        lambda far, near, blur: blur(near) + far - blur(far),
        "The coarse part of the near one is still in it. Hint: the fine part is what its blur takes away.",
        lambda far, near, blur: blur(far) + near,
        "The fine part of the far one is still in it. Hint: blur it.",
        lambda far, near, blur: far + near - blur(near),
        "This is one of the two with its own blur taken away. Hint: the coarse part is that of the far one.",
        lambda far, near, blur: far - blur(far),
        lambda far, near, blur: near - blur(near),
        "This is one of the two as it was. Hint: the fine part of far goes, the coarse part of near, too.",
        lambda far, near, blur: far,
        lambda far, near, blur: near,
        "The fine part of the near one is missing. Hint: what does a blur take away?",
        lambda far, near, blur: blur(far),
        lambda far, near, blur: blur(far) + blur(near),
        "The fine part is that of the far one. Hint: from near one sees the near one.",
        lambda far, near, blur: blur(near) + near - blur(far),
        "This is the mean of both. Hint: they share the frequencies, each gives its own.",
        lambda far, near, blur: (far + near) / 2,
        lambda far, near, blur: (blur(far) + near - blur(near)) / 2,
    ],
    says="The coarse part of one and the fine part of the other, and nothing twice.",
    hint="an image is what a blur keeps of it and what it takes away; here each of the two gives one part.",
    what="the estimate",
)
