"""Any folder of pictures as a set of images."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .images import Images

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no PDF or EPS, which are programs


def from_folder(path: str | Path, size: int) -> Images:
    """The pictures in a folder, as RGB, resized with antialiasing and cropped at the centre: (N, 3, size, size).

    Each folder in it is a class, whatever lies deeper in it (as ``images`` in TinyImageNet's training set), and its
    label is its place among the sorted names, which ``folder_classes`` gives; a folder without folders is one class.
    Transparency is laid on white, a camera's turn is undone, and 16-bit greys are scaled to 8 bits. ``source`` is the path.
    Files that cannot be read are left out, and one line on stderr names and counts them.

    Raises ValueError for a size below 1, a path that is not a folder, and a folder without a single readable picture.
    """
    from torchvision.datasets.folder import make_dataset

    if size < 1:
        raise ValueError(f"size = {size}: expected at least 1 pixel")
    numbers = {name: label for label, name in enumerate(folder_classes(path))}
    images, labels, bad = [], [], []
    for file, label in make_dataset(path, numbers, is_valid_file=_is_picture, allow_empty=True):
        try:
            images.append(_picture(file, size))
        except Exception:  # whatever Pillow's many readers raise
            bad.append(os.path.relpath(file, path))
        else:
            labels.append(label)
    if bad:
        several = f"{len(bad)} of {len(bad) + len(images)} pictures"
        print(f"{path}: {several} cannot be read and are left out: {', '.join(bad)}", file=sys.stderr)
    if not images:
        raise ValueError(f"{path}: no picture that can be read; expected files such as .jpg and .png")
    return Images(torch.stack(images), torch.tensor(labels), str(path))


def folder_classes(path: str | Path) -> tuple[str, ...]:
    """The classes of a folder of pictures: the sorted names of the folders in it, or "." if it has none.

    Raises ValueError for a path that is not a folder, and for pictures beside the folders, whose class is unclear.
    """
    if not Path(path).is_dir():
        raise ValueError(f"{path}: expected a folder that exists")
    names = tuple(sorted(p.name for p in Path(path).iterdir() if p.is_dir() and not p.name.startswith(".")))
    loose = [p.name for p in Path(path).iterdir() if _is_picture(p)]
    if names and loose:
        raise ValueError(f"{path}: {loose[0]} lies beside the folder {names[0]}; expected all in folders, or none")
    return names or (".",)


def _is_picture(file: str | Path) -> bool:
    path = Path(file)
    known = Image.registered_extensions().get(path.suffix.lower()) in _FORMATS
    return known and path.is_file() and not path.name.startswith(".")


def _picture(file: str, size: int) -> Tensor:
    with Image.open(file, formats=_FORMATS) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
    image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()  # (3, size, size)
