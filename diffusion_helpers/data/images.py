"""A set of images as whole tensors: small enough to live on the device, so no loader workers. And its scales and turns."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor


class Images(NamedTuple):
    """A set of images: ``images`` (N, C, H, W) uint8 in 0 ... 255, ``labels`` (N,) int64.

    ``source`` says where it came from: "local", "download", such as "sample (5,000 of 60,000)", or a folder's path.
    """

    images: Tensor
    labels: Tensor
    source: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the pixels and labels: the same images in the same order, the same checksum."""
        digest = hashlib.sha256(self.images.cpu().numpy().tobytes())
        digest.update(self.labels.cpu().numpy().tobytes())
        return digest.hexdigest()

    def balanced(self, fewest: bool = False) -> Images:
        """Every class as often as the most frequent, its images repeated in turn; with ``fewest`` as often as the rarest.

        The classes come one after another, the images of each in their order.
        """
        counts = self.labels.unique(return_counts=True)[1]
        size = int(counts.min() if fewest else counts.max())
        members = [(self.labels == label).nonzero().flatten() for label in self.labels.unique()]
        index = torch.cat([images[torch.arange(size) % len(images)] for images in members])
        return Images(self.images[index], self.labels[index], self.source)

    def to(self, device: torch.device | str) -> Images:
        """The same set with both tensors on ``device``."""
        return Images(self.images.to(device), self.labels.to(device), self.source)


def unit(images: Tensor) -> Tensor:
    """Pixels 0 ... 255, uint8, as float32 in [0, 1]: the range of the one-step denoiser."""
    _check_uint8(images)
    return images.float() / 255


def symmetric(images: Tensor) -> Tensor:
    """Pixels 0 ... 255, uint8, as float32 in [-1, 1]: the range of every diffusion model here."""
    _check_uint8(images)
    return images.float() / 127.5 - 1


def _check_uint8(images: Tensor) -> None:
    if images.dtype != torch.uint8:
        raise ValueError(f"images of {images.dtype}: expected torch.uint8, 0 to 255 (are they scaled already?)")


def _some(changed: Tensor, images: Tensor) -> Tensor:
    """Each image in its changed form or as it was, with the same chance."""
    return torch.where(torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5, changed, images)


def flip(images: Tensor) -> Tensor:
    """Each image (B, C, H, W), with a chance of one half, mirrored left to right: for what has no handedness."""
    return _some(images.flip(3), images)


def turn(images: Tensor) -> Tensor:
    """Each image (B, C, H, H) in one of the 8 positions of a square, drawn evenly: for what has no up and no handedness.

    Raises ValueError for images that are not square.
    """
    if images.shape[2] != images.shape[3]:
        raise ValueError(f"images of {images.shape[2]}x{images.shape[3]} pixels: expected squares")
    images = flip(images)
    images = _some(images.flip(2), images)
    return _some(images.transpose(2, 3), images)
