"""What a model is worth on images that it was not trained on: the figures of the cards."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .. import data
from ..denoise import Denoiser
from ..words import judge


@torch.no_grad()
def one_step(net: nn.Module, test: data.Images, sigma: float = 0.5) -> dict:
    """MSE and PSNR (dB, peak 1) of ``net`` on noisy test images, one noise draw each, seed 0."""
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    for images in test.images.split(500):
        x = data.unit(images)
        z = x + sigma * torch.randn(x.shape, generator=generator).to(x)
        total += F.mse_loss(net(z), x, reduction="sum").item()
    mse = total / test.images.numel()
    return {
        "mse": mse,
        "psnr": -10 * torch.tensor(mse).log10().item(),
        "sigma": sigma,
        "N": len(test.images),
        "seed": 0,
    }


@torch.no_grad()
def diffusion(model: Denoiser, test: data.Images) -> dict:
    """Loss of ``model`` on the test images with their labels: one uniform t and one noise draw each, seed 0."""
    total = 0.0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for images, labels in zip(test.images.split(500), test.labels.split(500), strict=True):
            y = labels if model.classes or model.words else None
            total += model.eval().loss(data.symmetric(images), y, drop=0.0).item() * len(images)
    return {f"{model.kind}_mse": total / len(test.images), "N": len(test.images), "seed": 0}


@torch.no_grad()
def classifier(net: nn.Module, test: data.Images) -> dict:
    """Share of the test images that ``net`` names rightly, and the mean of that share over the classes."""
    right = torch.cat([net(data.symmetric(images)).argmax(1) for images in test.images.split(500)]) == test.labels
    shares = [right[test.labels == label].double().mean() for label in test.labels.unique()]
    return {
        "accuracy": right.double().mean().item(),
        "balanced_accuracy": torch.stack(shares).mean().item(),
        "N": len(test.images),
    }


@torch.no_grad()
def scenes(net: nn.Module, test: data.Images) -> dict:
    """Share of the pictures of which ``net`` reads every field rightly, and that of each field."""
    found = torch.cat([judge.read(net, data.symmetric(images)) for images in test.images.split(500)])
    right = (found == test.labels) | ~judge.counts(test.labels)
    each = dict(zip(judge.FIELDS, right.double().mean(0).tolist(), strict=True))
    return {"accuracy": right.all(1).double().mean().item(), "fields": each, "N": len(test.images)}
