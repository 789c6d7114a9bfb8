"""What the shipped models minimise: each function takes a model, and answers with the loss of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import data, schedules
from ..denoise import Denoiser
from ..words import judge


def one_step_loss(net: nn.Module, sigma: float = 0.5) -> Callable[[Tensor], Tensor]:
    """Squared error of net(x + sigma * eps) against x in [0, 1], on uint8 images, sigma = 0.5."""

    def loss(images: Tensor) -> Tensor:
        x = data.unit(images)
        return F.mse_loss(net(x + sigma * torch.randn_like(x)), x)

    return loss


def diffusion_loss(
    model: Denoiser, times: Callable[[int], Tensor] | None = None, augment: Callable[[Tensor], Tensor] | None = None
) -> Callable[..., Tensor]:
    """Loss of a ``Denoiser`` on uint8 images and, if it knows classes, labels.

    ``times`` draws the t of a batch; ``augment`` changes its images, such as ``data.flip``.
    """

    def loss(images: Tensor, labels: Tensor | None = None) -> Tensor:
        images = images if augment is None else augment(images)
        t = None if times is None else times(len(images))
        return model.loss(data.symmetric(images), labels, t)

    return loss


def stratified_loss(model: Denoiser, augment: Callable[[Tensor], Tensor] | None = None) -> Callable[..., Tensor]:
    """Squared error of the prediction at stratified uniform times; labels, if any, dropped with p = 0.1."""
    return diffusion_loss(model, model.schedule.stratified, augment)


def logit_normal_loss(model: Denoiser, augment: Callable[[Tensor], Tensor] | None = None) -> Callable[..., Tensor]:
    """Squared error of the prediction at stratified logit-normal times; labels, if any, dropped with p = 0.1."""
    return diffusion_loss(model, schedules.logit_normal, augment)


def noisy_end_loss(model: Denoiser, augment: Callable[[Tensor], Tensor] | None = None) -> Callable[..., Tensor]:
    """Squared error of the prediction at stratified times 1 - u²; labels, if any, dropped with p = 0.1."""
    return diffusion_loss(model, schedules.noisy_end, augment)


def classifier_loss(
    net: nn.Module, augment: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy, label smoothing 0.05, on uint8 images turned, scaled and moved by up to 10 degrees, 10%, width / 14.

    What comes in from outside goes on as the edge is. ``augment`` changes the images before, such as ``data.flip``.
    """

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        images = images if augment is None else augment(images)
        angle, scale, dx, dy = (2 * torch.rand(4, len(images), device=images.device) - 1).unbind()
        angle, scale = 0.175 * angle, 1 + 0.1 * scale
        turn = torch.stack([angle.cos() * scale, -angle.sin() * scale, dx / 7], 1)
        rise = torch.stack([angle.sin() * scale, angle.cos() * scale, dy / 7], 1)
        grid = F.affine_grid(torch.stack([turn, rise], 1), images.shape, align_corners=False)
        bright = data.symmetric(images) + 1  # black is 0, which interpolation keeps exactly
        moved = F.grid_sample(bright, grid, padding_mode="border", align_corners=False) - 1
        return F.cross_entropy(net(moved), labels, label_smoothing=0.05)

    return loss


def scene_loss(net: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy of every field of a scene, on pictures moved by up to 2 pixels."""

    def loss(images: Tensor, scenes: Tensor) -> Tensor:
        dx, dy = torch.randint(5, (2,)).tolist()
        padded = F.pad(images.float(), (2, 2, 2, 2), mode="replicate").to(torch.uint8)
        return judge.loss(net, padded[..., dy : dy + images.shape[2], dx : dx + images.shape[3]], scenes)

    return loss
