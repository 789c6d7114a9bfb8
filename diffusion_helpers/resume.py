"""What keeps a training run whole: the order of its images, its own random state, interrupts, and its checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor


@lru_cache(maxsize=1)
def order(N: int, seed: int, epoch: int) -> Tensor:
    """The order of the images in an epoch: a function of seed and epoch, so a resumed run finds it again."""
    return torch.randperm(N, generator=torch.Generator().manual_seed(1_000_003 * seed + epoch))


def checksum(part: Tensor) -> str:
    return f"{zlib.crc32(part.cpu().contiguous().view(torch.uint8).numpy()):08x}"


class Random:
    """Within the block the global random state is training's own; outside it is the caller's, untouched."""

    def __init__(self, seed: int, device: torch.device):
        self.device = device
        self.states = {
            each.type: torch.Generator(each).manual_seed(seed).get_state() for each in {torch.device("cpu"), device}
        }

    def begin(self, *numbers: int) -> None:
        """Begin anew, at a place that these numbers name."""
        mixed = zlib.crc32(repr(numbers).encode())
        for kind in self.states:
            self.states[kind] = torch.Generator(self.device if kind != "cpu" else kind).manual_seed(mixed).get_state()

    def _swap(self, *error: object) -> None:
        for kind, kept in self.states.items():  # torch itself has that of the CPU, torch.cuda and torch.mps the others
            module = torch if kind == "cpu" else getattr(torch, kind)
            where = (self.device,) if kind == "cuda" else ()
            self.states[kind] = module.get_rng_state(*where)
            module.set_rng_state(kept, *where)

    __enter__ = __exit__ = _swap

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.states)

    def load_state_dict(self, states: dict[str, Tensor]) -> None:
        self.states = dict(states)


@contextmanager
def whole() -> Iterator[None]:
    """Hold back Ctrl-C (the notebook's stop button) until the block is done, so that no update is half made."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return
    pressed = []
    previous = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if pressed:
        raise KeyboardInterrupt


def save_state(path: Path, facts: dict, parts: dict) -> None:
    partial = path.with_name(path.name + ".part")  # a crash while writing leaves the last whole file
    torch.save(facts | {name: part.state_dict() for name, part in parts.items()}, partial)
    os.replace(partial, path)


def restore_state(path: Path, same: dict, parts: dict) -> tuple[int, float]:
    """Bring ``parts`` to where the checkpoint of this very run left them: the steps done, and their seconds."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        other = {key: value for key, value in same.items() if found["run"].get(key) != value}
    except Exception as error:  # a damaged file can end in any
        raise ValueError(f"{path}: expected a whole checkpoint, but it cannot be read ({error})") from None
    if other:
        was = {key: found["run"].get(key) for key in other}
        raise ValueError(f"{path}: checkpoint of another run with {was}, expected {other}; delete it to begin anew")
    try:
        for name, part in parts.items():
            part.load_state_dict(found[name])
        return found["done"], found["seconds"]
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: checkpoint of another network ({error})") from None
