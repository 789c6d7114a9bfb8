"""Blood cells one by one: the annotated boxes of the BCCD pictures, cut out and resized.

The set is 364 pictures of stained blood under a microscope, with a box around each white cell, red cell and
platelet. Source: github.com/Shenggan/BCCD_Dataset, MIT licence; boxes are in the format of Pascal VOC.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from torch import Tensor

LABELS = {"WBC": 0, "RBC": 1, "Platelets": 2}
SIZE = 64
CONTEXT = 1.15  # a crop over the longer side of its box
_LISTS = {"train": "trainval", "test": "test"}
_URL = "https://codeload.github.com/Shenggan/BCCD_Dataset/zip/d272fb14cdff6e473fafeeeba32aba5f560e9e43"
_SHA256 = "9358971741c3024a99b84f230651fabb7f0d28dad10b752e0732c9798b99391a"


def present(root: Path) -> bool:
    """Whether there is a copy below ``root``, as the repository has it: ``BCCD/BCCD/Annotations`` and so on."""
    return _folder(root).exists()


def read(root: Path, split: str) -> tuple[Tensor, Tensor]:
    """The cells of the split's pictures, (N, 3, 64, 64) uint8, and their labels (N,) int64.

    The set's own lists of pictures decide, so that no picture is in both splits. A box that ``boxes`` leaves out
    is not cut. Raises ValueError for a copy that is not whole or altered.
    """
    folder = _folder(root)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files = {name: content for name, content in files.items() if _wanted(name)}
    found = _checksum(files)
    if found != _SHA256:
        raise ValueError(
            f"{folder}: truncated or altered ({len(files)} files, SHA-256 {found[:12]}...): "
            f"expected SHA-256 {_SHA256[:12]}...; delete it to download it again"
        )
    images, labels = [], []
    for name in files[f"ImageSets/Main/{_LISTS[split]}.txt"].decode().split():
        picture = Image.open(io.BytesIO(files[f"JPEGImages/{name}.jpg"])).convert("RGB")
        for label, box in boxes(files[f"Annotations/{name}.xml"].decode()):
            images.append(crop(picture, box))
            labels.append(label)
    return torch.stack(images), torch.tensor(labels)


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


def download(root: Path) -> None:
    """Fetch the pictures and boxes to ``BCCD`` below ``root``, about 10 MB.

    What arrives is checked by content, since a zip made on demand may differ in its bytes.
    Raises OSError or HTTPException when the network fails, and ValueError when the content is not the expected.
    """
    with urllib.request.urlopen(_URL) as answer:
        packed = answer.read()
    try:
        files = dict(_unpack(packed))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{_URL}: expected a whole zip file ({error})") from None
    if _checksum(files) != _SHA256:
        raise ValueError(f"{_URL}: {len(files)} files of another content; expected SHA-256 {_SHA256[:12]}...")
    partial = root / "BCCD.part"  # a crash while writing leaves no half-made copy
    shutil.rmtree(partial, ignore_errors=True)
    for name, content in files.items():
        path = partial / "BCCD" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    shutil.rmtree(root / "BCCD", ignore_errors=True)  # what a learner who deleted a damaged copy may have left
    os.replace(partial, root / "BCCD")


def _folder(root: Path) -> Path:
    return root / "BCCD" / "BCCD"


def _wanted(name: str) -> bool:
    """Whether the set's file of this name, relative to its folder, is one of those that ``read`` needs."""
    folder, _, file = name.rpartition("/")
    return (folder, Path(file).suffix) in {("Annotations", ".xml"), ("JPEGImages", ".jpg"), ("ImageSets/Main", ".txt")}


def _unpack(packed: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each wanted file in the zip; its names begin with the repository's and ``BCCD``."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        for full in archive.namelist():
            name = full.partition("/BCCD/")[2]
            if _wanted(name):
                yield name, archive.read(full)


def _checksum(files: dict[str, bytes]) -> str:
    """SHA-256 of names and contents, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return digest.hexdigest()
