"""What changes a denoiser's answer: guidance, inpainting, anagrams, hybrids; and where a run begins.

Most of them take denoisers and return one, so that they fit into the one sampling loop. The others say what it
starts from: an image (``sdedit``), a path between two noises (``slerp``), a blend of labels (``mix_labels``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .denoise import Denoised, Denoiser, label_weights
from .samplers import Denoise
from .schedules import Level, noise, per_image


class Given(NamedTuple):
    """A denoiser that answers for labels, or for what else its network is given: see ``given``."""

    model: Denoiser
    weights: Tensor  # (B, classes), or (B, words, width) for captions

    def __call__(self, x: Tensor, level: Level) -> Denoised:
        return self.model(x, level, self.rows(x))

    def rows(self, x: Tensor) -> Tensor:
        """The weights, a row for each of the images x (B, ...), in their dtype and on their device."""
        if len(self.weights) != len(x):
            raise ValueError(f"{len(self.weights)} labels for {len(x)} images: expected one each")
        return self.weights.to(x, non_blocking=True)


def given(model: Denoiser, y: Tensor) -> Denoise:
    """The denoiser that ``model`` is with the labels y, (B,) integers or (B, classes) label weights.

    Raises ValueError for a model without classes and for wrong labels and, when called, for other than B images.
    """
    if not model.classes:
        raise ValueError("labels for a denoiser with 0 classes: expected one that was trained with labels")
    return Given(model, label_weights(y.cpu(), model.classes).to(y.device))  # on the CPU, where values are checked


def guide(c: Denoise, u: Denoise, gamma: float) -> Denoise:
    """Guidance: the estimate of x0 on the line from that of u (gamma = 0) through that of c (gamma = 1), and beyond.

    c and u are any denoisers: with a label and without is classifier-free guidance, with two labels a negative prompt,
    a good and a bad network autoguidance. At 0 and 1 one alone is asked; two ``given`` of one model are asked in one
    batch. Sources: Ho and Salimans 2022 (arXiv:2207.12598), equation 6, whose w is gamma - 1; Karras et al. 2024
    (arXiv:2406.02507), equation 1.
    """
    if gamma in (0, 1):
        return c if gamma else u

    def guided(x: Tensor, level: Level) -> Denoised:
        if isinstance(c, Given) and isinstance(u, Given) and c.model is u.model:
            twice = Level(*(torch.cat([part, part]) if part.ndim else part for part in level))
            both = c.model(torch.cat([x, x]), twice, torch.cat([c.rows(x), u.rows(x)])).x0  # (2B, C, H, W)
            to, base = both.chunk(2)
        else:
            to, base = c(x, level).x0, u(x, level).x0
        return Denoised(x, base + gamma * (to - base), level)

    return guided


def classifier_free(model: Denoiser, y: Tensor, gamma: float) -> Denoise:
    """Classifier-free guidance of ``model`` to the labels y: gamma = 0 forgets them, 1 takes them as they are.

    Raises ValueError as ``given`` does. Source: Ho and Salimans 2022 (arXiv:2207.12598), equation 6.
    """
    c = given(model, y)
    return guide(c, Given(model, torch.zeros_like(c.weights)), gamma)  # the null label is a row of zeros


def during(inside: Denoise, outside: Denoise, low: float, high: float) -> Denoise:
    """One denoiser at times low <= t <= high and another before and after.

    Raises ValueError unless 0 <= low <= high <= 1. Guidance within and the labels without is the limited interval
    of Kynkäänniemi et al. 2024 (arXiv:2404.07724).
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"times from {low} to {high}: expected 0 <= low <= high <= 1")

    def answer(x: Tensor, level: Level) -> Denoised:
        within = (low <= level.t) & (level.t <= high)  # () or (B,)
        if bool(within.all()) or not bool(within.any()):
            return (inside if bool(within.any()) else outside)(x, level)
        x0 = torch.where(per_image(within, x), inside(x, level).x0, outside(x, level).x0)
        return Denoised(x, x0, level)

    return answer


def clip(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Keep every estimate of x0 within the range of pixels, [low, high]; eps follows.

    Source: the ``clip_denoised`` of Ho et al. 2020's code.
    """
    return project(denoise, lambda x0: x0.clamp(low, high))


def project(denoise: Denoise, onto: Callable[[Tensor], Tensor]) -> Denoise:
    """Pass every estimate of x0 through ``onto``, which brings images to what is known of them; eps follows.

    ``onto`` takes (B, C, H, W) to the same. Source: the projections of Wang et al. 2022 (arXiv:2212.00490),
    equation 7.
    """

    def projected(x: Tensor, level: Level) -> Denoised:
        return Denoised(x, onto(denoise(x, level).x0), level)

    return projected


def inpaint(denoise: Denoise, image: Tensor, mask: Tensor) -> Denoise:
    """Keep ``image`` (B, C, H, W) in [-1, 1] where ``mask`` is 0, and fill in where it is 1.

    The mask broadcasts to the image. What is known ends up exactly as it was.
    Raises ValueError for a mask that is not made of 0 and 1, or of another shape.
    Source: Lugmayr et al. 2022 (arXiv:2201.09865), equation 8, written on the estimate of x0.
    """
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(
            f"a mask from {mask.min().item():g} to {mask.max().item():g}: expected only 0 (known) and 1 (to fill in)"
        )
    try:
        new = (mask == 1).expand_as(image)
    except RuntimeError:
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} for images of {tuple(image.shape)}: expected one that broadcasts"
        ) from None
    return project(denoise, lambda x0: torch.where(new, x0, image))


def upscale(denoise: Denoise, small: Tensor, factor: int) -> Denoise:
    """Keep the mean of every ``factor`` x ``factor`` pixels as in ``small`` (B, C, H / factor, W / factor).

    Source: Wang et al. 2022 (arXiv:2212.00490), section 3.2. Raises ValueError, when it is used, for images
    of another size.
    """

    def onto(x0: Tensor) -> Tensor:
        if x0.shape[-2:] != (small.shape[-2] * factor, small.shape[-1] * factor):
            raise ValueError(f"{tuple(small.shape)} times {factor} for images of {tuple(x0.shape)}: expected that size")
        off = small - F.avg_pool2d(x0, factor)
        return x0 + F.interpolate(off, scale_factor=factor)

    return project(denoise, onto)


def sdedit(image: Tensor, levels: Sequence[Level], t: float, eps: Tensor) -> tuple[Tensor, Sequence[Level]]:
    """Where to begin from an image instead of from noise: the image with the noise of time t, and the levels below.

    ``image`` and ``eps`` are (B, C, H, W). The start is the first of the falling ``levels`` at or below ``t``: 1 forgets
    the image, 0 leaves it as it is. Raises ValueError unless 0 <= t <= 1, and when no level is so low.
    Source: Meng et al. 2022 (arXiv:2108.01073), algorithm 1.
    """
    if not 0 <= t <= 1:
        raise ValueError(f"t = {t}: expected 0 (the image) to 1 (noise)")
    below = [level for level in levels if level.t <= t + 1e-9]
    if not below:
        raise ValueError(f"no level at or below t = {t}: expected levels that end at data, t = 0")
    return noise(image, below[0], eps), below


class View(NamedTuple):
    """A way to look at images (B, C, H, W), such as turned by half, and the way back.

    It must only move pixels about, or change their sign: noise seen through it is the same kind of noise.
    """

    look: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


UPRIGHT = View(lambda x: x, lambda x: x)
VERTICAL_FLIP = View(lambda x: x.flip(-2), lambda x: x.flip(-2))
HALF_TURN = View(lambda x: x.rot90(2, (-2, -1)), lambda x: x.rot90(2, (-2, -1)))
QUARTER_TURN = View(lambda x: x.rot90(1, (-2, -1)), lambda x: x.rot90(-1, (-2, -1)))


def tiles(size: int, side: int, generator: torch.Generator | None = None) -> View:
    """The view that shuffles the ``side`` x ``side`` tiles of images (B, C, size, size), in an order drawn once.

    Raises ValueError unless the tiles fit. Source: the jigsaw of Geng et al. 2024 (arXiv:2311.17919), section 3.4.
    """
    if size % side:
        raise ValueError(f"tiles of {side} pixels in images of {size}: expected a divisor")
    order = torch.randperm((size // side) ** 2, generator=generator)

    def shuffle(x: Tensor, order: Tensor) -> Tensor:
        parts = F.unfold(x, side, stride=side)  # (B, C side side, tiles)
        return F.fold(parts[..., order.to(x.device)], size, side, stride=side)

    return View(lambda x: shuffle(x, order), lambda x: shuffle(x, order.argsort()))


def anagram(denoisers: Sequence[Denoise], views: Sequence[View]) -> Denoise:
    """One image that each denoiser sees through its view: the mean of their estimates of x0, each brought back.

    Raises ValueError unless there is a view for each denoiser.
    Source: Geng et al. 2024 (arXiv:2311.17919), equation 4; the mean of x0 is that of eps, since views keep x.
    """
    if len(denoisers) != len(views):
        raise ValueError(f"{len(denoisers)} denoisers and {len(views)} views: expected one view for each")

    def seen(x: Tensor, level: Level) -> Denoised:
        estimates = [view.back(denoise(view.look(x), level).x0) for denoise, view in zip(denoisers, views, strict=True)]
        return Denoised(x, torch.stack(estimates).mean(0), level)

    return seen


def hybrid(far: Denoise, near: Denoise, sigma: float) -> Denoise:
    """The low frequencies of one denoiser's estimate of x0 and the high ones of another's.

    ``sigma``, in pixels, is the width of the Gaussian blur that divides them. From afar one sees ``far``.
    Raises ValueError unless sigma is positive and, when called, for one too wide for the images (see ``blur``).
    Source: Geng et al. 2024 (arXiv:2404.11615), section 3.2.
    """
    if not sigma > 0:
        raise ValueError(f"sigma = {sigma}: expected a positive number of pixels")

    def both(x: Tensor, level: Level) -> Denoised:
        low, high = far(x, level).x0, near(x, level).x0
        return Denoised(x, blur(low, sigma) + high - blur(high, sigma), level)

    return both


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of images (B, C, H, W), ``sigma`` in pixels, mirrored at the edge.

    Raises ValueError unless sigma is positive and three of it, rounded up, are less than height and width.
    """
    from torchvision.transforms.functional import gaussian_blur

    reach, side = math.ceil(3 * sigma), min(images.shape[-2:])
    if not 0 < reach < side:
        raise ValueError(f"sigma = {sigma} in images of {side} pixels: expected above 0 and at most {(side - 1) / 3:g}")
    return gaussian_blur(images, 2 * reach + 1, sigma)


def slerp(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Noise on the great circle from one noise to another, (steps, C, H, W) from two of (C, H, W).

    A straight mixture would be too short: its pixels have less variance than noise. Raises ValueError for other
    shapes, opposite noises or fewer than 2 steps.
    Source: Shoemake 1985; for noise, Song et al. 2021 (arXiv:2010.02502), section 5.3.
    """
    if steps < 2:
        raise ValueError(f"{steps} steps: expected at least 2")
    if first.shape != last.shape:
        raise ValueError(f"noise of shapes {tuple(first.shape)} and {tuple(last.shape)}: expected one shape")
    cosine = ((first * last).sum() / (first.norm() * last.norm())).clamp(-1, 1)
    if cosine < -0.9999:
        raise ValueError("opposite noises: expected two between which there is one shortest way")
    share = torch.linspace(0, 1, steps, device=first.device).reshape(-1, *[1] * first.ndim)
    if cosine > 0.9999:  # the arc is as good as straight, and its formula divides by 0
        return (1 - share) * first + share * last
    angle = torch.arccos(cosine)
    return (((1 - share) * angle).sin() * first + (share * angle).sin() * last) / angle.sin()


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
