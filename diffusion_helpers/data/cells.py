"""Blood cells one by one: the annotated boxes of the BCCD pictures, cut out and resized.

The set is 364 pictures of stained blood under a microscope, with a box around each white cell, red cell and
platelet. Source: github.com/Shenggan/BCCD_Dataset, MIT licence; boxes are in the format of Pascal VOC.
"""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .sources import Source, mosaic, verified

LABELS = {"WBC": 0, "RBC": 1, "Platelets": 2}
SIZE = 64
CONTEXT = 1.15  # a crop over the longer side of its box
FOLDER = "BCCD/BCCD"
FILES = ("Annotations/*.xml", "ImageSets/Main/*.txt", "JPEGImages/*.jpg")
SHA256 = "debd2d76b13c300a3999f96a08cbe9ada5f231c3f882f9877a65a01a695872d1"
_LISTS = {"train": "trainval", "test": "test"}
URL = "https://codeload.github.com/Shenggan/BCCD_Dataset/zip/d272fb14cdff6e473fafeeeba32aba5f560e9e43"


def read(root: Path, split: str) -> tuple[Tensor, Tensor]:
    """The cells of the split's pictures, (N, 3, 64, 64) uint8, and their labels (N,) int64.

    The set's own lists of pictures decide, so that no picture is in both splits. A box that ``boxes`` leaves out
    is not cut. Raises ValueError for a copy that is not whole or altered.
    """
    folder = root / FOLDER
    names = (path.relative_to(folder).as_posix() for pattern in FILES for path in folder.glob(pattern))
    files = verified(folder, names, SHA256)
    images, labels = [], []
    for name in files[f"ImageSets/Main/{_LISTS[split]}.txt"].decode().split():
        picture = Image.open(io.BytesIO(files[f"JPEGImages/{name}.jpg"])).convert("RGB")
        for label, box in boxes(files[f"Annotations/{name}.xml"].decode()):
            images.append(crop(picture, box))
            labels.append(label)
    return torch.stack(images), torch.tensor(labels)


def fetch(root: Path) -> None:
    """The set's repository as a zip, about 10 MB, unpacked to ``BCCD`` below ``root``."""
    from torchvision.datasets.utils import download_and_extract_archive

    download_and_extract_archive(URL, root, filename="BCCD.zip", remove_finished=True)
    next(root.iterdir()).rename(root / "BCCD")  # the one folder, which is named after the commit


def boxes(annotation: str) -> list[tuple[int, tuple[int, int, int, int]]]:
    """The label and box (left, top, right, bottom) of each cell in a Pascal VOC annotation.

    Left out are boxes without an area, and those that cover a cell of the same label again (intersection over
    union above 0.8): 2 and 8 of the 4,888 in the whole set.
    """
    found: list[tuple[int, tuple[int, int, int, int]]] = []
    for cell in ElementTree.fromstring(annotation).iter("object"):
        label = LABELS[cell.findtext("name")]
        left, top, right, bottom = (int(cell.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
        box = (left, top, right, bottom)
        if left < right and top < bottom and not any(label == other and _overlap(box, b) > 0.8 for other, b in found):
            found.append((label, box))
    return found


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes."""
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (a, b)]
    return shared / (sum(areas) - shared)


def crop(picture: Image.Image, box: tuple[int, int, int, int]) -> Tensor:
    """A square around the box with a little context, resized with antialiasing: (3, 64, 64) uint8.

    At the edge of the picture the square is shifted inwards, so that no pixel is made up.
    """
    left, top, right, bottom = box
    side = min(CONTEXT * max(right - left, bottom - top), *picture.size)
    x, y = (
        min(max((low + high - side) / 2, 0), most - side)
        for low, high, most in zip((left, top), (right, bottom), picture.size, strict=True)
    )
    square = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (x, y, x + side, y + side))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


CELLS = Source(
    folder=FOLDER,
    classes=("white cell", "red cell", "platelet"),
    sizes={"train": 3934, "test": 944},
    licence="Shenggan; MIT",
    read=read,
    fetch=fetch,
    sample=partial(mosaic, "cells.png", "5bc03113da21467a2ec0d382e36dc3330c961faf4e1dd3ac182442b3017bdcba", 3, 162),
)
