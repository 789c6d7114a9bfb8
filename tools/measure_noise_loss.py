"""The held-out noise MSE that the README quotes: ``python tools/measure_noise_loss.py [--train EPOCHS]``.

The shipped networks at the levels of the course (T = 300, linear beta), each t as likely, one noise draw each, on
pixels in [-1, 1] as this package trains and on [0, 1] as the course does. On [-1, 1] the same noise hides half as much,
and is harder to predict. An image in [0, 1] is an image in [-1, 1] with twice the noise, so the same networks answer
both. About a quarter of the course's levels are then noisier than the last that the course networks know: there they are
asked at their last, and what they score is an upper bound.

With ``--train`` the recipes of the two course networks are run for some epochs on pixels in [0, 1] instead, as the
course has them, and measured on what they were trained on.
"""

import argparse

import torch
from torch import Tensor

from diffusion_helpers import data, schedules, train, weights
from diffusion_helpers.bench import recipes
from diffusion_helpers.denoise import Denoiser

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--train", type=int, metavar="EPOCHS", help="train on pixels in [0, 1] first")
parser.add_argument("--bfloat16", action="store_true", help="train in mixed precision")
chosen = parser.parse_args()
test = data.load("mnist", "test")
N = len(test.images)
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
    for images, labels in zip(test.images.split(500), test.labels.split(500), strict=True):
        x0, level = data.symmetric(images), course(course.draw(len(images)))
        _, alpha, sigma = level.like(x0)
        sigma, eps = sigma / scale, torch.randn_like(x0)
        x = alpha * x0 + sigma * eps
        x0_hat = estimate(model, x, level, labels, scale)
        total += ((x - alpha * x0_hat) / sigma - eps).square().mean().item() * len(images)
    return total / N


def trained(name: str, epochs: int) -> float:
    """Held-out noise MSE of a network that the recipe ``name`` trained from scratch, both on pixels in [0, 1]."""
    recipe, training = recipes.RECIPES[name], data.load("mnist", "train")
    torch.manual_seed(0)
    model = weights.build(recipe.spec)

    def loss(images: Tensor, labels: Tensor | None = None) -> Tensor:
        return model.loss(data.unit(images), labels, model.schedule.stratified(len(images)))

    given = (training.images, training.labels) if recipe.labels else (training.images,)
    options = recipe.fit | {"epochs": epochs, "autocast": torch.bfloat16 if chosen.bfloat16 else None}
    for _ in train.fit(model, loss, given, **options):
        pass
    total = 0.0
    torch.manual_seed(0)
    with torch.no_grad():
        for images, labels in zip(test.images.split(500), test.labels.split(500), strict=True):
            y = labels if model.classes else None
            total += model.loss(data.unit(images), y, drop=0.0).item() * len(images)
    return total / N


print(f"N = {N}, seed 0, {torch.get_num_threads()} threads")
if chosen.train is not None:
    for name in ("mnist-ddpm", "mnist-guided"):
        mse = trained(name, chosen.train)
        print(f"{name:24} pixels in [0, 1], for {chosen.train} epochs: {mse:.4f}", flush=True)
else:
    for name in ("mnist-ddpm", "mnist-guided", "mnist-guided-residual"):
        print(f"{name:24} pixels in [-1, 1]: {noise_mse(name):.4f}   in [0, 1]: {noise_mse(name, 0.5):.4f}")
