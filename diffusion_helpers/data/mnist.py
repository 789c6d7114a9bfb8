"""Digits, and clothes in the same form: MNIST (LeCun, Cortes, Burges 1998) and Fashion-MNIST (arXiv:1708.07747)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .sources import Source, mosaic, verified

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def read(folder: str, sha256: dict[str, tuple[str, str]], root: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28) uint8 and labels (N,) int64 of a split in MNIST's idx format.

    ``sha256``: of the unpacked files of images and labels. Raises ValueError for a missing or altered file.
    """
    contents = (
        verified(root / folder, [name], digest)[name] for name, digest in zip(_FILES[split], sha256[split], strict=True)
    )
    images, labels = (torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents)
    return images[16:].reshape(-1, 1, 28, 28), labels[8:].long()  # after the headers: kind and sizes


def fetch(name: str, root: Path) -> None:
    """torchvision's download of MNIST or its like, about 12 and 31 MB."""
    from torchvision import datasets

    getattr(datasets, name)(root, download=True)


def _source(name: str, classes: tuple[str, ...], licence: str, sha256: dict, sample: tuple) -> Source:
    return Source(
        folder=f"{name}/raw",
        classes=classes,
        sizes={"train": 60_000, "test": 10_000},
        licence=licence,
        read=partial(read, f"{name}/raw", sha256),
        fetch=partial(fetch, name),
        sample=partial(mosaic, *sample),
    )


DIGITS = _source(
    "MNIST",
    classes=tuple("0123456789"),
    licence="Yann LeCun, Corinna Cortes, Christopher J. C. Burges; CC BY-SA 3.0",
    sha256={
        "train": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        "test": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    },
    sample=("mnist.png", "370e951565f7887e95e17e7d0a6db4aeaf4dbe24f89210e4c6fb09e6b2bb5ffc", 10, 500),
)
CLOTHES = _source(
    "FashionMNIST",
    classes=("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    licence="Zalando SE; MIT",
    sha256={
        "train": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        "test": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    },
    sample=("fashion.png", "b9d918e8127e79fe33bf66288354a255443563a5e7a9e1ee5e0f3d9cb488be0f", 10, 300),
)
