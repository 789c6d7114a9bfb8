"""The held-out noise MSE that the README quotes: ``python tests/measure_noise_loss.py [N]``.

The shipped networks at the levels of the course (T = 300, linear beta), each t as likely, one noise draw each, on
pixels in [-1, 1] as this package trains and on [0, 1] as the course does. On [-1, 1] the same noise hides half as much,
and is harder to predict. An image in [0, 1] is an image in [-1, 1] with twice the noise, so the same networks answer
both. About a quarter of the course's levels are then noisier than the last that the course networks know: there they are
asked at their last, and what they score is an upper bound.
"""

import sys

import torch
from torch import Tensor

from diffusion_helpers import data, schedules, weights
from diffusion_helpers.denoise import Denoiser

test = data.load("mnist", "test")
N = int(sys.argv[1]) if len(sys.argv) > 1 else len(test.images)
course = schedules.linear_beta(300)


def estimate(model: Denoiser, x: Tensor, level: schedules.Level, y: Tensor, scale: float) -> Tensor:
    """The estimate of x0 for x = alpha * x0 + sigma / scale * eps, by a network of either path."""
    y = y if model.classes else None
    if model.kind == "eps":
        known = course(torch.arange(1, 301) / 300)
        wanted = (level.sigma / scale / level.alpha).log()
        nearest = ((known.sigma / known.alpha).log() - wanted[:, None]).abs().argmin(1)
        own = course((nearest + 1) / 300)
        return model(x * own.like(x).alpha / level.like(x).alpha, own, y).x0
    _, alpha, sigma = level.like(x)
    total = alpha + sigma / scale  # on this network's own path alpha + sigma = 1
    return model(x / total, model.schedule((sigma / scale / total).flatten()), y).x0


@torch.no_grad()
def noise_mse(name: str, scale: float = 1.0) -> float:
    """Mean squared error of the noise estimate, for images in [-1, 1] times ``scale``."""
    model, total = weights.load(name), 0.0
    torch.manual_seed(0)
    for images, labels in zip(test.images[:N].split(500), test.labels[:N].split(500), strict=True):
        x0, level = data.symmetric(images), course(course.draw(len(images)))
        _, alpha, sigma = level.like(x0)
        sigma, eps = sigma / scale, torch.randn_like(x0)
        x = alpha * x0 + sigma * eps
        x0_hat = estimate(model, x, level, labels, scale)
        total += ((x - alpha * x0_hat) / sigma - eps).square().mean().item() * len(images)
    return total / N


print(f"N = {N}, seed 0, {torch.get_num_threads()} threads")
for name in ("mnist-ddpm", "mnist-guided", "mnist-guided-residual"):
    print(f"{name:24} pixels in [-1, 1]: {noise_mse(name):.4f}   in [0, 1]: {noise_mse(name, 0.5):.4f}")
