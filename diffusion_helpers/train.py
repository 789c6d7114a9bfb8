"""Training: one loop for every network of the series, written as a generator.

The caller iterates, so a bar, a plot or a picture of samples after each epoch is ordinary code in
the loop body. Nothing is lost on an interrupt: the network is left with its averaged weights.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class Step(NamedTuple):
    """What ``fit`` yields after each update.

    ``step`` counts from 1 to ``steps``; ``epoch`` from 1; ``loss`` is that of this batch; ``lr`` the
    rate it was taken with; ``model`` the averaged model so far, in eval mode, ready to use;
    ``epoch_ends`` is true on the last step of an epoch.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    lr: float
    model: nn.Module
    epoch_ends: bool


def exponential(progress: float) -> float:
    """Learning-rate factor that falls from 1 to 0.1 over the run: the course's, in every step instead of every epoch."""
    return 0.1**progress


def linear(progress: float) -> float:
    """Learning-rate factor that rises over the first 2% of the run, then falls linearly to 0."""
    return min(1.0, progress / 0.02 + 0.01, (1 - progress) / 0.98)


def averaged(model: nn.Module, decay: float = 0.999) -> AveragedModel:
    """An exponential moving average (EMA) of the weights and buffers of ``model``.

    The decay warms up as min(decay, (1 + n) / (10 + n)) at update n, so that the average forgets
    the random start at once. Raises ValueError unless 0 <= decay < 1.
    Source: the warm-up is that of TensorFlow's ExponentialMovingAverage.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay = {decay}: expected 0 <= decay < 1")

    def update(average: list[Tensor], current: list[Tensor], n: Tensor) -> None:
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, current, 1 - min(decay, (1 + int(n)) / (10 + int(n))))
        else:
            torch._foreach_copy_(average, current)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def fit(
    model: nn.Module,
    loss: Callable[..., Tensor],
    data: tuple[Tensor, ...],
    *,
    epochs: int,
    batch: int,
    lr: float,
    decay: Callable[[float], float] = exponential,
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
    ema: float = 0.999,
    clip: float = 1.0,
    seed: int = 0,
    autocast: torch.dtype | None = None,
    accumulate: int = 1,
    checkpoint: str | Path | None = None,
    run: str | None = None,
    bar: bool = True,
) -> Iterator[Step]:
    """Train ``model`` on ``loss(*batch)``, yielding a ``Step`` after each update.

    data: tensors of equal length N on the device of the model, indexed together; each batch is a
    random subset, each epoch visits every image at most once (an incomplete last batch is left out).
    lr is multiplied by ``decay(progress)``, progress in [0, 1); gradients are clipped to norm ``clip``;
    ``ema`` is the decay of the averaged weights; ``autocast`` is torch.bfloat16 for mixed precision.
    A batch is worked through in ``accumulate`` equal parts, one after another, which takes as much less memory.
    The update is that of the whole batch, for a loss that is a mean and draws no random numbers (parts draw others)
    and a network without BatchNorm (which would see the parts).

    When the loop over ``fit(...)`` ends, breaks or is interrupted, ``model`` holds the averaged weights, in eval mode.
    Who keeps the generator (steps = fit(...)) and breaks calls ``steps.close()`` for that; ``step.model`` holds them
    after every step. The loop body may draw random numbers or use the model: training keeps its own random state.

    With a ``checkpoint`` path the state is written there every minute and on leaving, unless a step failed. A later
    call goes on from it and gives what one uninterrupted run would have given. It must be the same run: the numbers
    above, the optimizer and its settings, the learning rates, the precision, the kind of device, and the data (shapes,
    types, checksums) are compared. What ``loss`` computes cannot be, so ``run`` names it, in words of the caller's.

    Raises ValueError for data of unequal lengths or fewer images than ``batch``, for numbers that are not positive,
    for a ``batch`` that ``accumulate`` does not divide, for another ``autocast`` (float16 would need its losses
    scaled), for a checkpoint without ``run``, for a loss that is not finite, and for a checkpoint of another run.
    """
    if isinstance(data, Tensor):
        raise ValueError(f"data is one tensor of shape {tuple(data.shape)}: expected a tuple, such as (images,)")
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError("no weight of the model requires a gradient: expected some (model.requires_grad_(True))")
    N, device = len(data[0]), data[0].device
    for name, value in {"epochs": epochs, "batch": batch, "lr": lr, "clip": clip, "accumulate": accumulate}.items():
        if not value > 0:
            raise ValueError(f"{name} = {value}: expected a positive number")
    if not 0 <= ema < 1:
        raise ValueError(f"ema = {ema}: expected 0 <= ema < 1")
    if any(len(part) != N for part in data):
        raise ValueError(f"data of lengths {[len(part) for part in data]}: expected equal lengths")
    if batch > N:
        raise ValueError(f"batch = {batch}: expected at most the number of images, {N}")
    if batch % accumulate:
        raise ValueError(f"batch = {batch} in {accumulate} parts: expected a multiple of accumulate")
    if autocast not in (None, torch.bfloat16):
        raise ValueError(f"autocast = {autocast}: expected torch.bfloat16 or None")
    if checkpoint is not None and not run:
        raise ValueError(f"run = {run!r} with a checkpoint: expected words that say what is trained on which loss")
    per_epoch = N // batch
    steps = epochs * per_epoch

    def training() -> Iterator[Step]:
        from tqdm.auto import tqdm

        model.to(memory_format=torch.channels_last)  # the order of numbers that convolutions are fastest in
        average = averaged(model, ema).eval()
        optim, random = optimizer(model.parameters(), lr=lr), _Random(seed, device)
        parts = {"model": model, "average": average, "optimizer": optim, "random": random}
        path = None if checkpoint is None else Path(checkpoint)
        same, done, seconds = {}, 0, 0.0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)  # what cannot be written is said before the work
            same = {"run": run, "epochs": epochs, "batch": batch, "seed": seed, "ema": ema, "clip": clip}
            same |= {"accumulate": accumulate, "autocast": str(autocast), "device": device.type}
            same["optimizer"] = f"{type(optim).__name__} {optim.defaults}"
            same["rates"] = [lr * decay(i / 8) for i in range(8)]
            same["data"] = [f"{tuple(part.shape)} {part.dtype} {_checksum(part)}" for part in data]
            if path.exists():
                done, seconds = _restore(path, same, parts)
        begun = saved = time.monotonic()
        half_made = False  # an error within a step leaves it so: that state is not one to go on from

        def save() -> None:
            _save(path, {"run": same, "done": done, "seconds": seconds + time.monotonic() - begun}, parts)

        # In a notebook each redraw is three messages. A front end that reads them only after the cell, as nbval does,
        # holds about 2,000 and loses the rest, the end of the cell among them: so one redraw a second.
        progress = tqdm(total=steps, initial=done, unit="step", mininterval=1.0, disable=not bar)
        try:
            while done < steps:
                epoch, place = divmod(done, per_epoch)
                picked = _order(N, seed, epoch)[place * batch : (place + 1) * batch].to(device)
                with _whole():
                    half_made = True
                    rate = lr * decay(done / steps)
                    for group in optim.param_groups:
                        group["lr"] = rate
                    model.train()
                    optim.zero_grad()
                    shown = 0.0
                    for share in picked.split(batch // accumulate):
                        with random, torch.autocast(device.type, autocast, enabled=autocast is not None):
                            value = loss(*(part[share] for part in data)) / accumulate
                        value.backward()
                        shown += value.item()
                    if not math.isfinite(shown):
                        raise ValueError(
                            f"loss {shown} at step {done + 1}: expected a finite number (is lr = {lr} too high?)"
                        )
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                    optim.step()
                    average.update_parameters(model)
                    done += 1
                    half_made = False
                progress.set_postfix(loss=f"{shown:.4f}", refresh=False)
                progress.update()
                if path is not None and time.monotonic() - saved > 60:
                    save()
                    saved = time.monotonic()
                yield Step(done, steps, epoch + 1, shown, rate, average.module, place == per_epoch - 1)
        finally:
            with _whole():  # a second press of stop waits until the model is usable and the state is written
                progress.close()
                try:
                    if path is not None and not half_made:
                        save()
                finally:  # a full disk costs the checkpoint, not the model
                    model.load_state_dict(average.module.state_dict())
                    model.eval()

    return training()


@lru_cache(maxsize=1)
def _order(N: int, seed: int, epoch: int) -> Tensor:
    """The order of the images in an epoch: a function of seed and epoch, so a resumed run finds it again."""
    return torch.randperm(N, generator=torch.Generator().manual_seed(1_000_003 * seed + epoch))


def _checksum(part: Tensor) -> str:
    return f"{zlib.crc32(part.cpu().contiguous().view(torch.uint8).numpy()):08x}"


class _Random:
    """Within the block the global random state is training's own; outside it is the caller's, untouched."""

    def __init__(self, seed: int, device: torch.device):
        self.device = device
        self.states = {
            each.type: torch.Generator(each).manual_seed(seed).get_state() for each in {torch.device("cpu"), device}
        }

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
def _whole() -> Iterator[None]:
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


def _save(path: Path, facts: dict, parts: dict) -> None:
    partial = path.with_name(path.name + ".part")  # a crash while writing leaves the last whole file
    torch.save(facts | {name: part.state_dict() for name, part in parts.items()}, partial)
    os.replace(partial, path)


def _restore(path: Path, same: dict, parts: dict) -> tuple[int, float]:
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
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: checkpoint of another network ({error})") from None
    return found["done"], found["seconds"]
