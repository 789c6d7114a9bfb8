"""Any folder of pictures as a set of images."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from .images import Images

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no PDF or EPS, which are programs
_NOTHING = "no picture that can be read; expected files such as .jpg and .png"
AT_ONCE = 100  # files that are read ahead, so that no more pictures wait in memory


def from_folder(path: str | Path, size: int) -> Images:
    """The pictures in a folder, as RGB, resized with antialiasing and cropped at the centre: (N, 3, size, size).

    Each folder in it is a class, whatever lies deeper in it (as ``images`` in TinyImageNet's training set), and its
    label is its place among the sorted names, which ``folder_classes`` gives; a folder without folders is one class.
    Transparency is laid on white, a camera's turn is undone, and 16-bit greys are scaled to 8 bits. ``source`` is the path.
    Files that cannot be read are left out, and one line on stderr names and counts them.

    Raises ValueError for a size below 1, a path that is not a folder, and a folder without a single readable picture.
    """
    images, labels = zip(*_pictures(path, _files(path, size), size), strict=True)
    return Images(torch.from_numpy(np.stack(images)), torch.tensor(labels), str(path))


def pack(path: str | Path, size: int, to: str | Path) -> Images:
    """The pictures of ``from_folder``, written to the folder ``to`` one after another, for more than memory holds.

    What comes back is ``packed(to)``, which is all that later runs need. An interrupted ``pack`` begins anew.
    Raises ValueError as ``from_folder`` does, and for a folder that holds a pack already.
    """
    to = Path(to)
    if (to / "labels.npy").exists():
        raise ValueError(f"{to} holds a pack already: expected another folder, or packed({str(to)!r}) to read it")
    files = _files(path, size)
    to.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(to / "images.npy", "w+", np.uint8, (len(files), 3, size, size))
    labels = []
    for picture, label in _pictures(path, files, size):
        images[len(labels)] = picture
        labels.append(label)
    images.flush()
    np.save(to / "labels.npy", np.array(labels))  # last, so that who finds it finds all
    return packed(to)


def packed(to: str | Path) -> Images:
    """What ``pack`` wrote to ``to``. The images stay on the disk: only those that are indexed are read.

    ``train.fit`` trains on them as on any tensors. They are not to be written to: the system ends a process that does.
    Raises ValueError where there is no pack.
    """
    if not (Path(to) / "labels.npy").exists():
        raise ValueError(f"{to}: expected a folder that pack has written to the end")
    labels = torch.from_numpy(np.load(Path(to) / "labels.npy"))
    mapped = np.load(Path(to) / "images.npy", mmap_mode="r")[: len(labels)]
    with warnings.catch_warnings():  # torch has no tensors that only can be read, and says so
        warnings.simplefilter("ignore", UserWarning)
        return Images(torch.from_numpy(mapped), labels, str(to))


def _files(path: str | Path, size: int) -> list[tuple[str, int]]:
    from torchvision.datasets.folder import make_dataset

    if size < 1:
        raise ValueError(f"size = {size}: expected at least 1 pixel")
    numbers = {name: label for label, name in enumerate(folder_classes(path))}
    found = make_dataset(path, numbers, is_valid_file=_is_picture, allow_empty=True)
    if not found:
        raise ValueError(f"{path}: {_NOTHING}")
    return found


def _pictures(path: str | Path, files: list[tuple[str, int]], size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Each picture and its label, in the order of ``files``, without those that cannot be read."""

    def read(file: str) -> np.ndarray | None:
        try:
            return _picture(file, size)
        except MemoryError:  # no fault of the file
            raise
        except Exception:  # whatever Pillow's many readers raise
            return None

    bad = []
    with ThreadPoolExecutor() as pool:  # Pillow's work is done outside the interpreter's lock
        for start in range(0, len(files), AT_ONCE):
            names, labels = zip(*files[start : start + AT_ONCE], strict=True)
            for name, label, picture in zip(names, labels, pool.map(read, names), strict=True):
                if picture is None:
                    bad.append(os.path.relpath(name, path))
                else:
                    yield picture, label
    if bad:
        several = f"{len(bad)} of {len(files)} pictures"
        print(f"{path}: {several} cannot be read and are left out: {', '.join(bad)}", file=sys.stderr)
    if len(bad) == len(files):
        raise ValueError(f"{path}: {_NOTHING}")


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


def _picture(file: str, size: int) -> np.ndarray:
    with Image.open(file, formats=_FORMATS) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
    image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))  # (3, size, size)
