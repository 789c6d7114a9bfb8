"""Notebook 02: the one-step denoiser."""

from __future__ import annotations

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


def _line(
    variance=lambda images: images.var(0, unbiased=False),
    factor=lambda v, sigma: v / (v + sigma**2),
    rest=lambda a, m: (1 - a) * m,
    mean=lambda images: images.mean(0),
):
    """The best line of each pixel, right but for what is given."""

    def answer(images, sigma):
        a = factor(variance(images), sigma)
        return a, rest(a, mean(images))

    return answer


best_line = Check(
    about="Check ``function(images, sigma)``: per pixel the a and b of the best a * z + b, with z = x + sigma * eps.",
    right=_line(),
    cases=lambda: [(torch.rand(n, 1, 2, 3).square(), between(0.2, 0.6)) for n in (400, 600, 900)],
    mistakes=[
        "σ is added to a variance. Hint: the noise has the variance σ².",
        _line(factor=lambda v, sigma: v / (v + sigma)),
        "The two shares are swapped: where pixels vary much, a must be near 1. Hint: a is the share of the signal.",
        _line(factor=lambda v, sigma: sigma**2 / (v + sigma**2)),
        "This is a ratio of standard deviations. Hint: the error is a sum of variances.",
        _line(factor=lambda v, sigma: v.sqrt() / (v.sqrt() + sigma)),
        "This is the signal-to-noise ratio, which can be above 1. Hint: set the derivative of (1−a)² v + a² σ² to 0.",
        _line(factor=lambda v, sigma: v / sigma**2),
        "a is not the best factor, but 1: nothing is taken away. Hint: a smaller a keeps less noise.",
        _line(factor=lambda v, sigma: torch.ones_like(v)),
        "b is the mean itself. Hint: a z brings a m already; the error is 0 on average for b = (1 − a) m.",
        _line(rest=lambda a, m: m),
        "b is missing: the answer is drawn to black. Hint: the error must be 0 on average.",
        _line(rest=lambda a, m: torch.zeros_like(m)),
        "b is a m. Hint: a m + b must be m.",
        _line(rest=lambda a, m: a * m),
        "There is one a for all pixels. Hint: take mean and variance over the images only, dim 0.",
        _line(variance=lambda images: images.var(unbiased=False).expand(images.shape[1:])),
        "The spread is measured around 0, not around the mean. Hint: v is a variance, E[x²] − m².",
        _line(variance=lambda images: images.square().mean(0)),
    ],
    says="a = v / (v + σ²), the share of the signal, and b = (1 − a) m, in each pixel.",
    hint="for each pixel, (1 − a)² v + a² σ² must be least, and a m + b = m.",
    what=("a", "b"),
    tolerance={"a": 2e-3, "b": 2e-3},  # of hundreds of images; so a variance divided by N − 1 passes too
)


def _exact(
    log=lambda z, images, sigma: -torch.cdist(z.flatten(1), images.flatten(1)).square() / (2 * sigma**2),
    share=lambda log: log.softmax(1),
):
    def answer(z, images, sigma):
        return (share(log(z, images, sigma)) @ images.flatten(1)).reshape(z.shape)

    return answer


def _distance(z: Tensor, images: Tensor) -> Tensor:
    return torch.cdist(z.flatten(1), images.flatten(1))


def _few_images() -> tuple[Tensor, Tensor, float]:
    images, sigma = torch.rand(int(between(4, 8)), 1, 2, 3), between(0.3, 0.6)
    return images[torch.randint(len(images), (3,))] + sigma * torch.randn(3, 1, 2, 3), images, sigma


exact_denoiser = Check(
    about="Check ``function(z, images, sigma)``: E[x | z] if x is one of the images (N, 1, H, W), each as likely.",
    right=_exact(),
    cases=lambda: [_few_images() for _ in range(3)],
    mistakes=[
        "This is the nearest image. Hint: the others count too, each as often as it is likely: softmax, not argmin.",
        _exact(share=lambda log: F.one_hot(log.argmax(1), log.shape[1]).float()),
        "The far images count most. Hint: the logarithm of the likelihood is minus the squared distance.",
        _exact(lambda z, images, sigma: _distance(z, images).square() / (2 * sigma**2)),
        "The distances are not squared. Hint: the exponent of a normal density is −d² / 2σ².",
        _exact(lambda z, images, sigma: -_distance(z, images) / (2 * sigma**2)),
        _exact(lambda z, images, sigma: -_distance(z, images) / sigma),
        "The 2 is missing. Hint: the exponent of a normal density is −d² / 2σ².",
        _exact(lambda z, images, sigma: -_distance(z, images).square() / sigma**2),
        "The distance is divided by σ, not by σ². Hint: the exponent of a normal density is −d² / 2σ².",
        _exact(lambda z, images, sigma: -_distance(z, images).square() / (2 * sigma)),
        "σ is left out. Hint: the more noise, the more images fit: d² / 2σ².",
        _exact(lambda z, images, sigma: -_distance(z, images).square()),
        _exact(lambda z, images, sigma: -_distance(z, images).square() / 2),
        "The mean over pixels stands where the sum belongs. Hint: the likelihoods of the pixels multiply.",
        _exact(lambda z, images, sigma: -_distance(z, images).square() / (2 * sigma**2) / z[0].numel()),
        "The shares add up to 1 over the noisy pictures. Hint: for each z over the images, softmax(1).",
        _exact(share=lambda log: log.softmax(0)),
        "The likelihoods do not add up to 1. Hint: Bayes' rule divides by their sum; softmax does.",
        _exact(share=lambda log: log.exp()),
        "All images count alike. Hint: this is the answer for a z that says nothing.",
        _exact(share=lambda log: torch.ones_like(log) / log.shape[1]),
    ],
    says="The mean of all images, each weighted by how likely it is to have given z.",
    hint="the weight of an image is softmax of −‖z − x‖² / 2σ², over the images.",
    what="the estimate",
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
