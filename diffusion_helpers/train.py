"""Training: one loop for every network of the series, written as a generator.

The caller iterates, so a bar, a plot or a picture of samples after each epoch is ordinary code in
the loop body. Nothing is lost on an interrupt: the network is left with its averaged weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .resume import Random, checksum, order, restore_state, save_state, whole

if TYPE_CHECKING:
    from accelerate import Accelerator


class Step(NamedTuple):
    """What ``fit`` yields after each update.

    ``step`` counts from 1 to ``steps``, None in a run of seconds; ``epoch`` from 1; ``loss`` is that of this batch;
    ``lr`` the rate it was taken with; ``model`` the averaged model so far, in eval mode, ready to use; ``epoch_ends``
    is true on the last step of an epoch; ``seconds`` have gone into training so far, without the body of the loop.
    """

    step: int
    steps: int | None
    epoch: int
    loss: float
    lr: float
    model: nn.Module
    epoch_ends: bool
    seconds: float


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


def orthogonal(x: Tensor) -> Tensor:
    """About the nearest orthogonal matrix to each of x (..., R, C), by five steps of Newton and Schulz.

    A step takes every singular value s to 3.4445 s - 4.775 s³ + 2.0315 s⁵: those above 0.2% of the norm end at 0.68 to 1.21.
    """
    if x.shape[-2] > x.shape[-1]:
        return orthogonal(x.mT).mT
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (2.0315 * square @ square - 4.775 * square) @ x
    return x


class Muon(torch.optim.AdamW):
    """Muon at the rate ``lr`` for the hidden weights, AdamW (betas 0.9, 0.99) at the rate ``rest`` for all others.

    Hidden are weights of 16 inputs and outputs or more: pixels and labels are fewer. Their step is ``orthogonal`` of
    the Nesterov momentum (0.95), flattened to (out, in * k * k), times 0.2 sqrt(max(rows, columns)), as large as
    AdamW's, so that rates compare. Sources: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the scale:
    Liu et al. 2025 (arXiv:2502.16982), equation 4.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 2e-3, rest: float = 1e-3):
        groups = [{"params": []}, {"params": [], "lr": rest}]
        for weight in parameters:
            groups[weight.ndim < 2 or min(weight.shape[:2]) < 16]["params"].append(weight)
        super().__init__(groups, lr, betas=(0.9, 0.99))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        hidden, alike = self.param_groups[0], {}
        for weight in (weight for weight in hidden["params"] if weight.grad is not None):
            state, grad = self.state[weight], weight.grad
            state.setdefault("step", torch.tensor(0.0))  # AdamW looks for it in every state that it loads
            momentum = state.setdefault("momentum", torch.zeros_like(grad)).lerp_(grad, 0.05)
            alike.setdefault(weight.flatten(1).shape, []).append((weight, grad.lerp(momentum, 0.95).flatten(1)))
            weight.grad = None  # so that AdamW passes over it
        for shape, pairs in alike.items():  # those of one shape together, which is what makes it fast
            steps = orthogonal(torch.stack([ahead for _, ahead in pairs])) * (0.2 * hidden["lr"] * max(shape) ** 0.5)
            for (weight, _), step in zip(pairs, steps, strict=True):
                weight.mul_(1 - hidden["lr"] * hidden["weight_decay"]).sub_(step.reshape(weight.shape))
        super().step()


class Objective(nn.Module):
    """A loss as the forward pass of a module that holds its model, so that what wraps it sees each pass."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *batch: Tensor) -> Tensor:
        return self.loss(*batch)


def fit(
    model: nn.Module,
    loss: Callable[..., Tensor],
    data: tuple[Tensor, ...],
    *,
    batch: int,
    lr: float,
    epochs: int | None = None,
    seconds: float | None = None,
    decay: Callable[[float], float] = exponential,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    ema: float = 0.999,
    clip: float = 1.0,
    seed: int = 0,
    autocast: torch.dtype | None = None,
    accumulate: int = 1,
    checkpoint: str | Path | None = None,
    run: str | None = None,
    bar: bool = True,
    accelerator: Accelerator | None = None,
) -> Iterator[Step]:
    """Train ``model`` on ``loss(*batch)``, yielding a ``Step`` after each update.

    data: tensors of equal length N, indexed together, on the device of the model or on the CPU, from where each batch
    is brought (as from ``data.packed``, on the disk); each batch is a random subset, each epoch visits every image at
    most once (an incomplete last batch is left out).
    The run takes so many ``epochs``, or steps until so many ``seconds`` are used up, the body of the loop not counted.
    lr is multiplied by ``decay(progress)``, progress in [0, 1) being the share of either that is done; ``optimizer``
    is a class of torch's, or ``Muon``, whose other rates are multiplied alike; gradients are clipped to norm ``clip``;
    ``ema`` is the decay of the averaged weights; ``autocast`` is torch.bfloat16 for mixed precision.
    A batch is worked through in ``accumulate`` equal parts, one after another, which takes as much less memory.
    The update is that of the whole batch, for a loss that is a mean and draws no random numbers (parts draw others)
    and a network without BatchNorm (which would see the parts).

    With an ``accelerator`` of accelerate each of its processes works through its share of the batch, again in
    ``accumulate`` parts, and the gradients are averaged: W processes with A parts make the same updates as one with
    W * A. Every process holds the same averaged weights; the first alone draws the bar and writes the checkpoint.

    When the loop over ``fit(...)`` ends, breaks or is interrupted, ``model`` holds the averaged weights, in eval mode.
    Who keeps the generator (steps = fit(...)) and breaks calls ``steps.close()`` for that; ``step.model`` holds them
    after every step. The loop body may draw random numbers or use the model: training keeps its own random state.

    With a ``checkpoint`` path the state is written there every minute and on leaving, unless a step failed. A later
    call goes on from it and gives what one uninterrupted run would have given. It must be the same run: the numbers
    above, the optimizer and its settings, the learning rates, the precision, the kind of device, and the data (shapes,
    types, checksums) are compared. What ``loss`` computes cannot be, so ``run`` names it, in words of the caller's.
    A run of seconds goes on with those that are left; how many steps they hold is up to the machine. One with an
    ``accelerator`` goes on in any number of processes.

    Raises ValueError unless one of epochs and seconds is given, for data of unequal lengths or fewer images than
    ``batch``, for numbers that are not positive, for a ``batch`` that the parts do not divide, for another
    ``autocast`` (float16 would need its losses scaled), for a checkpoint without ``run``, for a loss that is not
    finite, and for a checkpoint of another run.
    """
    if isinstance(data, Tensor):
        raise ValueError(f"data is one tensor of shape {tuple(data.shape)}: expected a tuple, such as (images,)")
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError("no weight of the model requires a gradient: expected some (model.requires_grad_(True))")
    N, device = len(data[0]), next(model.parameters()).device
    if (epochs is None) == (seconds is None):
        raise ValueError(f"epochs = {epochs} and seconds = {seconds}: expected one of the two")
    length = {"epochs": epochs} if seconds is None else {"seconds": seconds}
    for name, value in (length | {"batch": batch, "lr": lr, "clip": clip, "accumulate": accumulate}).items():
        if not value > 0:
            raise ValueError(f"{name} = {value}: expected a positive number")
    if not 0 <= ema < 1:
        raise ValueError(f"ema = {ema}: expected 0 <= ema < 1")
    if any(len(part) != N for part in data):
        raise ValueError(f"data of lengths {[len(part) for part in data]}: expected equal lengths")
    if batch > N:
        raise ValueError(f"batch = {batch}: expected at most the number of images, {N}")
    rank, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    if batch % (accumulate * processes):
        among = f" for each of {processes} processes" if accelerator else ""
        raise ValueError(f"batch = {batch} in {accumulate} parts{among}: expected a multiple of their number")
    if autocast not in (None, torch.bfloat16):
        raise ValueError(f"autocast = {autocast}: expected torch.bfloat16 or None")
    if checkpoint is not None and not run:
        raise ValueError(f"run = {run!r} with a checkpoint: expected words that say what is trained on which loss")
    per_epoch = N // batch
    steps = None if epochs is None else epochs * per_epoch

    def training() -> Iterator[Step]:
        from tqdm.auto import tqdm

        model.to(memory_format=torch.channels_last)  # the order of numbers that convolutions are fastest in
        average = averaged(model, ema).eval()
        optim, random = optimizer(model.parameters(), lr=lr), Random(seed, device)
        parts = {"model": model, "average": average, "optimizer": optim, "random": random}
        path, first = None if checkpoint is None else Path(checkpoint), rank == 0
        rates = [group["lr"] for group in optim.param_groups]
        same, done, spent, since = {}, 0, 0.0, time.monotonic()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)  # what cannot be written is said before the work
            same = {"run": run, "batch": batch, "seed": seed, "ema": ema, "clip": clip} | length
            same |= {
                "accumulate": None if accelerator else accumulate,
                "autocast": str(autocast),
                "device": device.type,
            }
            same["optimizer"] = f"{type(optim).__name__} {optim.defaults}"
            same["rates"] = [rate * decay(i / 8) for rate in rates for i in range(8)]
            same["data"] = [f"{tuple(part.shape)} {part.dtype} {checksum(part)}" for part in data]
            if path.exists():
                done, spent = restore_state(path, same, parts)
        objective = Objective(model, loss)
        if accelerator:
            objective, optim = accelerator.prepare(objective, optim)
        saved = since
        half_made = False  # an error within a step leaves it so: that state is not one to go on from

        def agreed(number: float) -> float:
            """The mean over the processes, which would not end together if each went by its own."""
            if accelerator is None:
                return number
            return accelerator.reduce(torch.tensor(number, dtype=torch.float64, device=device), "mean").item()

        def save() -> None:
            save_state(path, {"run": same, "done": done, "seconds": spent}, parts)

        # In a notebook each redraw is three messages. A front end that reads them only after the cell, as nbval does,
        # holds about 2,000 and loses the rest, the end of the cell among them: so one redraw a second.
        unit = {"unit": "step", "initial": done} if seconds is None else {"unit": "s", "initial": int(spent)}
        shown = tqdm(total=steps or seconds, mininterval=1.0, disable=not (bar and first), **unit)
        try:
            while (progress := spent / seconds if steps is None else done / steps) < 1:
                epoch, place = divmod(done, per_epoch)
                picked = order(N, seed, epoch)[place * batch : (place + 1) * batch]
                with whole():
                    half_made = True
                    factor = decay(progress)
                    for group, rate in zip(optim.param_groups, rates, strict=True):
                        group["lr"] = rate * factor
                    model.train()
                    optim.zero_grad()
                    total = 0.0
                    own = picked.chunk(processes)[rank].chunk(accumulate)
                    for i, share in enumerate(own):
                        if accelerator:  # the random numbers of a part are its own, whichever process has it
                            random.begin(seed, done, rank * accumulate + i)
                        alone = accelerator and i + 1 < accumulate
                        with accelerator.no_sync(objective) if alone else nullcontext():
                            with random, torch.autocast(device.type, autocast, enabled=autocast is not None):
                                given = (part[share.to(part.device)].to(device) for part in data)
                                value = objective(*given) / accumulate
                            value.backward()
                        total += value.item()
                    total = agreed(total)
                    if not math.isfinite(total):
                        raise ValueError(
                            f"loss {total} at step {done + 1}: expected a finite number (is lr = {lr} too high?)"
                        )
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                    optim.step()
                    average.update_parameters(model)
                    done += 1
                    half_made = False
                    spent = agreed(spent + time.monotonic() - since)
                shown.set_postfix(loss=f"{total:.4f}", refresh=False)
                shown.update((int(spent) if steps is None else done) - shown.n)
                if path is not None and first and time.monotonic() - saved > 60:
                    save()
                    saved = time.monotonic()
                yield Step(done, steps, epoch + 1, total, lr * factor, average.module, place == per_epoch - 1, spent)
                since = time.monotonic()
        finally:
            with whole():  # a second press of stop waits until the model is usable and the state is written
                shown.close()
                try:
                    if path is not None and first and not half_made:
                        save()
                finally:  # a full disk costs the checkpoint, not the model
                    model.load_state_dict(average.module.state_dict())
                    model.eval()

    return training()
