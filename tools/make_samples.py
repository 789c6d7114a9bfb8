"""The samples that come with the package, from the full sets below DIFFUSION_DATA: ``python tools/make_samples.py``.

Draws from training and test images by a fixed seed, as many of each class, and writes one picture for each set as
``sources.mosaic`` reads it. Prints the checksums, which stand with the sources: the pixels are the same every time, but
another Pillow may pack them differently.
"""

import hashlib

import torch
from PIL import Image
from torch import Tensor

from diffusion_helpers import data
from diffusion_helpers.data.sources import SAMPLES

EACH = {"mnist": (500, 100), "fashion": (300, 100), "cells": (162, 69)}  # of each class, to train and to test


def rows(name: str, split: str, each: int) -> Tensor:
    """Images drawn from a split, one of each class in a row: (each, classes, C, H, W)."""
    found = data.load(name, split)
    if found.source != "local" or len(found.images) < data.SOURCES[name].sizes[split]:
        raise SystemExit(f"{name} from {found.source}: expected the full set below DIFFUSION_DATA")
    order = torch.randperm(len(found.labels), generator=torch.Generator().manual_seed(0))
    drawn = [order[found.labels[order] == label][:each] for label in range(len(data.classes(name)))]
    return found.images[torch.stack(drawn, 1)]


for name, (training, test) in EACH.items():
    tiles = torch.cat([rows(name, "train", training), rows(name, "test", test)])
    pixels = tiles.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (rows * H, classes * W, C)
    path = SAMPLES / f"{name}.png"
    Image.fromarray(pixels.squeeze(2).numpy()).save(path, optimize=True)
    content = path.read_bytes()
    print(
        f"{path.name}: {len(content):,} bytes, {training} training rows, SHA-256 {hashlib.sha256(content).hexdigest()}"
    )
