"""Notebook 02: the one-step denoiser."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .engine import Check, Mistake, between, number, tensor
from .noise import LOOSE, RATIO, Probe, spread

NEVER = "The network was never called. Hint: net(z)."


def _seen_in_loss(answer, net: Probe, x: Tensor, sigma: float) -> dict[str, object]:
    loss = answer(net, x.clone(), sigma)
    if net.x is None:
        raise Mistake(NEVER)
    z = tensor(net.x, x.shape, "what the network sees")
    return spread((z - x) / sigma) | {RATIO: number(loss, "the loss") / F.mse_loss(net.scale * z, x).item()}


def _loss(
    power=1.0, draw=torch.randn_like, target=lambda x, z, eps: x, see=lambda z: z, error=lambda d: d.square().mean()
):
    """A loss with noise scaled by this power of sigma."""

    def loss(net, x, sigma):
        eps = draw(x)
        z = see(x + sigma**power * eps)
        return error(net(z) - target(x, z, eps))

    return loss


denoising_loss = Check(
    about="Check ``function(net, x, sigma)``: the mean squared error of net(x + sigma * eps) against x.",
    right=_loss(),
    cases=lambda: [(Probe(0.3), torch.rand(64, 1, 28, 28), between(low, low + 0.15)) for low in (0.2, 0.45, 0.7)],
    mistakes=[
        NEVER,
        lambda net, x, sigma: x.mean(),
        "The network sees the clean image. Hint: give it z = x + σ·eps.",
        _loss(draw=torch.zeros_like),
        "The noisy image is clamped to [0, 1]. Hint: leave it as it is; clamping bends the noise.",
        _loss(see=lambda z: z.clamp(0, 1)),
        "The noise is never negative: it is uniform. Hint: randn_like, with an n for normal, not rand_like.",
        _loss(draw=torch.rand_like),
        "The noise is scaled by σ². Hint: σ is a standard deviation; multiply the noise by σ itself.",
        _loss(power=2),
        "The noise is scaled by √σ. Hint: σ is a standard deviation already, not a variance.",
        _loss(power=0.5),
        "The noise has full strength. Hint: σ·eps.",
        _loss(power=0),
        "The answer is compared with the noisy image. Hint: that teaches the network to copy; the target is clean.",
        _loss(target=lambda x, z, eps: z),
        "The answer is compared with the noise. Hint: this network predicts the clean image; the target is x.",
        _loss(target=lambda x, z, eps: eps),
        "The squares are summed. Hint: take their mean, so that the learning rate does not depend on the size.",
        _loss(error=lambda d: d.square().sum()),
        _loss(error=lambda d: d.square().sum() / len(d)),
        "This is the mean absolute error. Hint: square the difference.",
        _loss(error=lambda d: d.abs().mean()),
        "This is the root of the mean square. Hint: leave the root away; MSE has none.",
        _loss(error=lambda d: d.square().mean().sqrt()),
    ],
    says="The loss is the mean of (net(x + σ·eps) − x)², with normal noise of standard deviation σ.",
    hint="z is x, not scaled, with normal noise of standard deviation σ, for any σ; the loss is a mean.",
    see=_seen_in_loss,
    tolerance=LOOSE | {RATIO: 1e-3},
    slack=0.12,
)


def _decibel(estimate: Tensor, x: Tensor) -> float:
    return -10 * (estimate - x).square().mean().log10().item()


def _pairs() -> list[tuple[Tensor, Tensor]]:
    """Estimates with errors of unlike size in each image, and their images."""
    images = [0.9 * torch.rand(n, 1, 5, 5) for n in (2, 3, 4)]
    return [(x + torch.rand(len(x), 1, 1, 1) * torch.randn_like(x), x) for x in images]


psnr = Check(
    about="Check ``function(estimate, x)``: the peak signal-to-noise ratio in dB, for a peak of 1.",
    right=_decibel,
    cases=_pairs,
    mistakes=[
        "The sign is turned. Hint: a smaller error must give more decibels.",
        lambda estimate, x: -_decibel(estimate, x),
        "The factor is 5, or a root was taken. Hint: the factor is 10, of the logarithm of the mean square itself.",
        lambda estimate, x: _decibel(estimate, x) / 2,
        "The factor is 20. Hint: 20 goes with an amplitude; for a mean square it is 10.",
        lambda estimate, x: 2 * _decibel(estimate, x),
        "This is the natural logarithm. Hint: decibels use log10.",
        lambda estimate, x: math.log(10) * _decibel(estimate, x),
        "The factor 10 is missing. Hint: a decibel is a tenth.",
        lambda estimate, x: _decibel(estimate, x) / 10,
        "The peak is 255 here. Hint: these images run from 0 to 1, so the peak is 1.",
        lambda estimate, x: _decibel(estimate, x) + 20 * math.log10(255),
        "The peak is taken from the images. Hint: the highest value that they could have is 1.",
        lambda estimate, x: _decibel(estimate, x) + 20 * x.max().log10().item(),
        "The images are averaged after the logarithm. Hint: one mean over everything, then the logarithm.",
        lambda estimate, x: sum(map(_decibel, estimate, x)) / len(x),
    ],
    says="PSNR = −10·log10(mse): 20 dB is an error of a tenth of the range.",
    hint="one mean square over all images and pixels, then its logarithm to base 10.",
    what="the PSNR",
)

TWO = "A network that copies its input has a gain that is not 0. Hint: use one z for both PSNRs."
GAIN = "the gain, divided by the right one,"


def _seen_in_gain(answer, net: Probe, x: Tensor, sigma: float) -> dict[str, object]:
    if abs(number(answer(Probe(1.0), x.clone(), sigma), "the gain")) > 1e-3:
        raise Mistake(TWO)
    found = number(answer(net, x.clone(), sigma), "the gain")
    if net.x is None:
        raise Mistake(NEVER)
    z = tensor(net.x, x.shape, "what the network sees")
    return spread((z - x) / sigma) | {GAIN: found / (_decibel(net.scale * z, x) - _decibel(z, x))}


def _gain(sign=1, again=lambda z, x, sigma: z):
    def gained(net, x, sigma):
        z = x + sigma * torch.randn_like(x)
        return sign * (_decibel(net(z), x) - _decibel(again(z, x, sigma), x))

    return gained


gain = Check(
    about="Check ``function(net, x, sigma)``: how many dB the network adds to the noisy image (negative if it harms).",
    right=_gain(),
    cases=lambda: [  # one network that helps, and one that harms
        (Probe(between(0.4, 0.7)), torch.rand(64, 1, 28, 28), between(0.6, 0.9)),
        (Probe(between(0.05, 0.2)), torch.rand(64, 1, 28, 28), between(0.2, 0.3)),
    ],
    mistakes=[
        TWO,
        _gain(again=lambda z, x, sigma: x + sigma * torch.randn_like(x)),
        NEVER,
        lambda net, x, sigma: 0.0,
        "The sign is turned. Hint: denoised minus noisy, so that a good network has a positive gain.",
        _gain(sign=-1),
    ],
    says="The gain is PSNR(net(z)) − PSNR(z): above 0 the network helps, below 0 it harms.",
    hint="both PSNRs are against x, and z is x with noise of standard deviation σ.",
    see=_seen_in_gain,
    tolerance=LOOSE | {GAIN: 1e-3},
)


def _seen_constant(answer, images: Tensor) -> dict[str, object]:
    found = answer(images)
    kept = isinstance(found, Tensor) and found.shape == (1, *images.shape[1:])  # as with keepdim=True
    return {"the image": found[0] if kept else found}


best_constant = Check(
    about="Check ``function(images)``: the one image with the least mean squared error to all of (N, 1, H, W).",
    right=lambda images: images.mean(0),
    cases=lambda: [(torch.rand(n, 1, 1, 2),) for n in (3, 5, 8)],
    mistakes=[
        "This is one number. Hint: the answer is an image; take the mean over the images only, dim 0.",
        Tensor.mean,
        "This is the median, which is best for absolute errors. Hint: squares are least at the mean.",
        lambda images: images.median(0).values,
        "This is one of the images. Hint: no single digit is closest to all the others.",
        lambda images: images[0],
        lambda images: images[torch.cdist(images.flatten(1), images.flatten(1)).square().sum(1).argmin()],
    ],
    says="The constant answer with the least squared error is the mean image.",
    hint="set the derivative of the sum of squares to 0.",
    see=_seen_constant,
)
