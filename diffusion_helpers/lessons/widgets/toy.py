"""The explorer of the toy density: its walks from noise to data, and where they end."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ... import edits, samplers, schedules
from .. import plots
from ..toy import TOY, Mixture
from .controls import Explorer, choice, slider

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPAN = (-2.6, 2.6)


def tilted(toy: Mixture, x: Tensor, level: schedules.Level, label: int, gamma: float) -> Tensor:
    """The density proportional to p(x) p(y | x)^gamma on an even grid x (N, 1) at the level, (N,): its sum times the step is 1."""
    log = toy.log_density(x, level)
    if label < toy.classes:  # p(y | x) is p(x | y) / p(x), up to a constant: its logarithm is finite everywhere
        log = log + gamma * (toy.log_density(x, level, torch.full((len(x),), label)) - log)
    return (log - log.max()).exp() / (log - log.max()).exp().sum() / (x[1, 0] - x[0, 0])


@cache
def _walks(label: int, steps: int, gamma: float, count: int = 3000) -> samplers.Trajectory:
    """DDIM runs on the flow path from always the same noise, to the label, or to any if it is the null label."""
    toy = TOY.along(0)
    x = torch.randn(count, 1, generator=torch.Generator().manual_seed(0))
    denoise = edits.classifier_free(toy, torch.full((count,), label), gamma if label < toy.classes else 0.0)
    return samplers.Trajectory(samplers.sample(denoise, x, schedules.flow().grid(steps)))


def toy_frame(t: float, steps: int, gamma: float, label: int) -> Figure:
    """The density of the toy's first number over time with 24 walks through it, and all 3,000 walks at time t.

    A walk takes ``steps`` DDIM steps on the flow path. ``label`` is 0 to 2, with guidance ``gamma``, or the null
    label 3. The curve beside the walks is the density at t, p(x) p(y | x)^gamma for a label.
    """
    toy, path = TOY.along(0), schedules.flow()
    x, times = torch.linspace(*SPAN, 261)[:, None], torch.linspace(0, 1, 101)
    walks = _walks(label, steps, gamma)
    at = torch.stack([state.level.t for state in walks])  # (steps + 1,), falling
    places = torch.stack([state.x[:, 0] for state in walks])  # (steps + 1, 3000)
    after = int((at > t).sum())
    before = max(after - 1, 0)
    done = (at[before] - t) / (at[before] - at[after]) if after else 0.0
    now, level = torch.lerp(places[before], places[after], done), path(t)  # on this path a DDIM step is straight
    figure, [[left, right]] = plots.subplots(8.8, 3.2, 1, 2, width_ratios=[1.7, 1], sharey=True)
    shade = torch.stack([tilted(toy, x, path(time.item()), label, gamma) for time in times], 1)
    left.imshow(shade, extent=(0, 1, *SPAN), origin="lower", aspect="auto", cmap="Blues", vmax=1.2)
    left.plot(at, places[:, :24], color=plots.COLOURS[6], lw=0.6)
    left.axvline(t, color=plots.COLOURS[1])
    left.invert_xaxis()
    left.set(xlabel="t, from noise to data", ylabel="x", title=f"24 walks of {steps} steps", ylim=SPAN)
    heights, edges = torch.histogram(now, bins=65, range=SPAN, density=True)
    right.stairs(heights, edges, orientation="horizontal", fill=True, color=plots.COLOURS[5], label="3,000 walks")
    name = "p(x)" if label == toy.classes else f"p(x) p({label} | x)^{gamma:g}"
    right.plot(tilted(toy, x, level, label, gamma), x[:, 0], color=plots.COLOURS[1], label=name)
    right.set(xlabel="density", title=f"at t = {t:.2f}", xlim=(0, 2.2))
    right.legend(frameon=False, loc="upper right", fontsize=8)
    return figure


def toy_explorer(t: float = 0.0, steps: int = 40, gamma: float = 1.0, label: int | None = None) -> Explorer:
    """Sliders over the toy: the time looked at and the number of steps; if a label is given, label and guidance too."""
    controls = {
        "t": slider(value=t, min=0.0, max=1.0, step=0.05, description="time t"),
        "steps": slider(value=steps, min=1, max=60, description="steps"),
    }
    if label is None:
        return Explorer(partial(toy_frame, gamma=gamma, label=TOY.classes), controls)
    controls["gamma"] = slider(value=gamma, min=0.0, max=5.0, step=0.5, description="guidance γ")
    controls["label"] = choice([(str(y), y) for y in range(TOY.classes)], label, "label")
    return Explorer(toy_frame, controls)
