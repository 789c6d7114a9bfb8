"""Images by name: a verified copy on this machine, else a download, else the sample that comes with the package."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

from torch import Tensor

from . import cells, mnist
from .images import Images
from .sources import Source

SOURCES = {"mnist": mnist.DIGITS, "fashion": mnist.CLOTHES, "cells": cells.CELLS}
failed: dict[str, str] = {}  # why the download of a set failed in this process, so that nobody waits for it again
_one_at_a_time = threading.Lock()


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise ValueError(f"data set {name!r}: expected one of {', '.join(sorted(SOURCES))}")
    return SOURCES[name]


def classes(name: str) -> tuple[str, ...]:
    """What the labels of the set ``name`` stand for, in their order. Raises ValueError for an unknown name."""
    return _source(name).classes


def cache_folder() -> Path:
    """Where downloads are kept: ``diffusion_helpers`` in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusion_helpers"


def load(name: str, split: str) -> Images:
    """The images of ``name``, ``split`` "train" or "test".

    "mnist", digits, and "fashion", clothes: 60,000 and 10,000 images of (1, 28, 28), ten classes each.
    "cells", blood cells cut out of 364 pictures (see ``cells``): 3,934 and 944 images of (3, 64, 64), no picture in
    both; of the training cells 301 are white, 3,341 red and 292 platelets.
    Whatever else is in ``SOURCES`` is loaded in the same way.

    Looks in this order: the folder that DIFFUSION_DATA names; the cache folder; a download into the cache folder;
    the sample that comes with the package, as many images of each class. All are verified by SHA-256, and the folders
    are laid out as torchvision does (``MNIST/raw``, ``FashionMNIST/raw``) or as the cells' own are
    (``BCCD/BCCD/Annotations``). Where a download fails, one line on stderr says so and how many images there are, and
    it is not tried again in this process. What is not whole in the cache is downloaded anew.

    Raises ValueError for an unknown name or split, and for files below DIFFUSION_DATA that are missing, truncated or
    altered; RuntimeError when there is no copy, no download and no sample.
    """
    found = _source(name)
    if split not in found.sizes:
        raise ValueError(f"split {split!r}: expected {' or '.join(map(repr, found.sizes))}")
    own = os.environ.get("DIFFUSION_DATA")
    if own and not Path(own).is_dir():
        raise ValueError(f"DIFFUSION_DATA is {own!r}: expected a folder that exists")
    if own and (Path(own) / found.folder).exists():
        return Images(*found.read(Path(own), split), "local")
    with _one_at_a_time:
        with suppress(ValueError):
            return Images(*found.read(cache_folder(), split), "local")
        if name not in failed:
            try:
                return Images(*_fetched(found)[split], "download")
            except Exception as error:  # whatever networks, archives and disks raise
                failed[name] = textwrap.shorten(str(error) or type(error).__name__, 200)
                if found.sample:
                    print(f"{name}: {_numbers(found)}, since {_missing(name)}.", file=sys.stderr)
    if not found.sample:
        raise RuntimeError(
            f"{name}: {_missing(name)}; expected a network, or DIFFUSION_DATA to name a folder with {found.folder} in it"
        )
    images, labels = found.sample(split)
    return Images(images, labels, f"sample ({len(images):,} of {found.sizes[split]:,})")


def _missing(name: str) -> str:
    return f"there is no whole copy here and no download ({failed[name]})"


def _numbers(found: Source) -> str:
    counts = (f"{len(found.sample(split)[1]):,} of {size:,} {split}" for split, size in found.sizes.items())
    return f"a sample of the package, {' and '.join(counts)} images"


def _fetched(found: Source) -> dict[str, tuple[Tensor, Tensor]]:
    """Download a set into the cache: images and labels of each split.

    It is downloaded and verified in a folder of its own and then moved into place as a whole, so that neither a
    crash nor another process at the same work leaves a half-made copy there.
    """
    place = cache_folder() / found.folder
    damaged = place.exists()
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="part-", dir=cache_folder()) as part:
        with _quiet_and_bounded():
            found.fetch(Path(part))
        splits = {split: found.read(Path(part), split) for split in found.sizes}
        with suppress(OSError):  # another process was first, and its copy is as good
            if damaged:
                place.rename(Path(part) / "damaged")
            place.parent.mkdir(parents=True, exist_ok=True)
            (Path(part) / found.folder).rename(place)
    return splits


@contextmanager
def _quiet_and_bounded() -> Iterator[None]:
    """Without torchvision's remarks on stdout, and with a limit on how long a silent network is waited for."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
