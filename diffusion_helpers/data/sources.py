"""What a data set is: where its files lie, how a copy is read and fetched, and a sample for when there is none."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SAMPLES = Path(__file__).with_name("samples")


@dataclass(frozen=True)
class Source:
    """A data set.

    ``folder``: where a copy lies, below a root. ``classes``: what the labels 0, 1, ... stand for. ``sizes``: how many
    images each split has, as {"train": 60_000, "test": 10_000}. ``licence``: of the images, in a line.
    ``read(root, split)``: the images (N, C, H, W) uint8 and labels (N,) int64 of the copy below ``root``; raises
    ValueError where that is missing, not whole or altered, which ``verified`` does. ``fetch(root)``: download a copy
    to below ``root``, an empty folder, or raise. ``sample(split)``: a few of the images and labels of each split,
    which need no network; None where there are none.
    """

    folder: str
    classes: tuple[str, ...]
    sizes: Mapping[str, int]
    licence: str
    read: Callable[[Path, str], tuple[Tensor, Tensor]]
    fetch: Callable[[Path], None]
    sample: Callable[[str], tuple[Tensor, Tensor]] | None = None


def checksum(files: Mapping[str, bytes]) -> str:
    """SHA-256 of one file's content; of several files that of the list that ``sha256sum`` prints of them, by name."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if len(digests) == 1:
        return digests.popitem()[1]
    return hashlib.sha256("".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()).hexdigest()


def verified(folder: Path, names: Iterable[str], sha256: str) -> dict[str, bytes]:
    """Names and contents of these files in ``folder``, whose ``checksum`` together is ``sha256``.

    Raises ValueError, which names the file or the folder, for what is missing, truncated or altered.
    """
    try:
        files = {name: (folder / name).read_bytes() for name in names}
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename}: missing; expected the whole data set, or no {folder}") from None
    found = checksum(files)
    if found != sha256:
        where = folder / next(iter(files)) if len(files) == 1 else folder
        raise ValueError(
            f"{where}: truncated or altered ({len(files)} files, {sum(map(len, files.values())):,} bytes, "
            f"SHA-256 {found[:12]}...): expected SHA-256 {sha256[:12]}..."
        )
    return files


def mosaic(name: str, sha256: str, columns: int, training: int, split: str) -> tuple[Tensor, Tensor]:
    """The images (N, C, H, H) uint8 and labels (N,) int64 of a split in the sample of this name, a PNG.

    It has a column for each class, and its first ``training`` rows are for training, the others for tests; so the
    classes come in turn: 0, 1, 2, ..., 0, 1, 2, ... Raises ValueError for an altered file.
    """
    pixels = np.array(Image.open(io.BytesIO(verified(SAMPLES, [name], sha256)[name])))
    size = pixels.shape[1] // columns
    tiles = torch.from_numpy(pixels).reshape(-1, size, columns, size, pixels[0, 0].size)  # (rows, H, classes, H, C)
    tiles = tiles[:training] if split == "train" else tiles[training:]
    images = tiles.permute(0, 2, 4, 1, 3).flatten(0, 1).contiguous()
    return images, torch.arange(len(images)) % columns
