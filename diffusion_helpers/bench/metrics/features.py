"""From images to what a feature network makes of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...denoise import evaluating


@dataclass(frozen=True)
class Features:
    """What a feature network makes of N images, float64 on the CPU.

    values: (N, D); logits: (N, classes); network: its name; labels: (N,), the class that each image shows or should
    show, if known.
    """

    values: Tensor
    logits: Tensor
    network: str
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: Tensor) -> Features:
        """The images at ``index``, integers (n,)."""
        labels = None if self.labels is None else self.labels[index]
        return Features(self.values[index], self.logits[index], self.network, labels)


@torch.no_grad()
def extract(images: Tensor, network: nn.Module, labels: Tensor | None = None) -> Features:
    """The features and logits of images (N, C, H, W) in [-1, 1], in eval mode, 100 at a time.

    ``network`` is a module with ``features`` (N, C, H, W) to (N, D) and ``head`` (N, D) to (N, classes), such as
    ``weights.load("mnist-classifier")``. Raises ValueError for images that are not finite or not in [-1, 1], and
    unless there are at least 2 and a label for each. Warns of copies and of images without a negative pixel.
    """
    _check_images(images)
    if labels is not None and labels.shape != (len(images),):
        raise ValueError(f"labels of shape {tuple(labels.shape)}: expected ({len(images)},), one per image")
    name = getattr(network, "name", type(network).__name__)
    device = next(network.parameters()).device
    values, logits = [], []
    with evaluating(network):
        for part in images.split(100):
            features = network.features(part.to(device))
            values.append(features.cpu().double())
            logits.append(network.head(features).cpu().double())
    return Features(torch.cat(values), torch.cat(logits), name, None if labels is None else labels.cpu())


def _check_images(images: Tensor) -> None:
    """Raise ValueError unless images are floats (N, C, H, W) in [-1, 1], N >= 2; warn of what looks wrong."""
    if images.ndim != 4 or not images.is_floating_point() or len(images) < 2:
        raise ValueError(f"images {tuple(images.shape)} of {images.dtype}: expected floats (N, C, H, W), N at least 2")
    low, high = images.min().item(), images.max().item()
    if not -1 <= low <= high <= 1:  # also false for NaN
        raise ValueError(f"images from {low:.4g} to {high:.4g}: expected [-1, 1] (clamp samples first)")
    if low >= 0:
        warnings.warn(
            f"no pixel is below 0 (lowest: {low:.4g}): are the images in [0, 1]? Expected [-1, 1]", stacklevel=3
        )
    copies = len(images) - len({image.tobytes() for image in images.cpu().numpy()})
    if copies:
        warnings.warn(f"{copies} of {len(images)} images are exact copies of others in the set", stacklevel=3)
