"""Sliders over pure functions.

Each explorer has a function that draws one frame from plain values, and a thin widget that calls it.
The picture for the first values is stored beside the widget, so that a page without a kernel
(GitHub, a PDF) shows it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import data, edits, metrics, plots, samplers, schedules
from .denoise import Denoiser

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure


class Explorer:
    """Controls above a picture: ``frame(**values)`` draws it again whenever a control changes.

    ``controls`` maps the names of the arguments of ``frame`` to ipywidgets; ``image`` is the picture.
    """

    def __init__(self, frame: Callable[..., Figure], controls: dict[str, ipywidgets.ValueWidget]):
        import ipywidgets

        self.frame, self.controls = frame, controls
        self.image = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="auto", align_self="flex-start"))
        # What was drawn is kept for a while: going back over a slider costs nothing.
        self._png = lru_cache(512)(lambda *values: plots.png(frame(**dict(zip(controls, values, strict=True)))))
        self.update()
        self.static = self.image.value
        self.view = ipywidgets.VBox([*controls.values(), self.image])
        for control in controls.values():
            control.observe(self.update, names="value")

    def update(self, change: object = None) -> None:
        """Show the frame of the present values."""
        self.image.value = self._png(*(control.value for control in self.controls.values()))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.view.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "image/png": base64.b64encode(self.static).decode(),
            "text/plain": f"Explorer({', '.join(self.controls)})",
        }


def _slider(**options):
    import ipywidgets

    style = {"description_width": "initial"}
    layout = ipywidgets.Layout(width="420px")
    kind = ipywidgets.IntSlider if isinstance(options["value"], int) else ipywidgets.FloatSlider
    return kind(**options, style=style, layout=layout, continuous_update=True)


def _choice(options: list, value: object, description: str):
    import ipywidgets

    return ipywidgets.Dropdown(
        options=options, value=value, description=description, style={"description_width": "initial"}
    )


def _steps(options: list, value: object, description: str):
    import ipywidgets

    style, layout = {"description_width": "initial"}, ipywidgets.Layout(width="420px")
    return ipywidgets.SelectionSlider(options=options, value=value, description=description, style=style, layout=layout)


def forward_frame(x0: Tensor, eps: Tensor, percent: int, schedule: str, T: int) -> Figure:
    """A digit x0 (1, 1, H, W) in [-1, 1] noised by eps, its pixel histogram, and the place on the schedule.

    ``percent`` of the T steps are taken; ``schedule`` is "linear" or "cosine".
    """
    path = _path(schedule, T)
    step = round(percent / 100 * T)
    level = path(step / T)
    x = schedules.noise(x0, level, eps)
    figure, [[left, middle, right]] = plots._figure(8.4, 2.7, 1, 3)
    plots._show(left, plots.pixels(x)[0])
    left.set_title(f"t = {step} of {T}")
    plots.density(middle, x)
    middle.set_title("its pixels, and N(0, 1)")
    whole = path(torch.linspace(0, 1, 101, dtype=torch.float64))
    right.plot(whole.t * T, whole.alpha, label="signal √ᾱ")
    right.plot(whole.t * T, whole.sigma, "--", label="noise √(1−ᾱ)")
    right.plot([step, step], [level.alpha, level.sigma], "o", color="black")
    right.set(title=f"√ᾱ = {level.alpha:.3f}, SNR = {level.snr:.3g}", ylim=(0, 1.05), xlabel="t")
    right.legend(frameon=False, loc="center right")
    return figure


def _path(schedule: str, T: int) -> schedules.Schedule:
    known = {"linear": schedules.linear_beta, "cosine": schedules.cosine}
    if schedule not in known:
        raise ValueError(f"schedule {schedule!r}: expected one of {', '.join(known)}")
    return known[schedule](T)


def forward_explorer(x0: Tensor, seed: int = 0) -> Explorer:
    """Sliders over the forward process of one digit x0 (1, 1, H, W) in [-1, 1]: time, schedule and T."""
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed)).to(x0.device)
    controls = {
        "percent": _slider(value=30, min=0, max=100, description="t, in % of T"),
        "schedule": _choice(["linear", "cosine"], "linear", "schedule"),
        "T": _choice([50, 200, 300, 400, 500, 1000], 1000, "T"),
    }
    return Explorer(lambda percent, schedule, T: forward_frame(x0, eps, percent, schedule, T), controls)


def denoise_frame(net: torch.nn.Module, x: Tensor, eps: Tensor, sigma: float) -> Figure:
    """Digits x (N, 1, 28, 28) in [0, 1], noised with sigma * eps, and what ``net`` makes of them in one step."""
    z = x + sigma * eps
    with torch.no_grad():
        x_hat = net(z)
    psnr = {name: -10 * (image - x).square().mean().log10().item() for name, image in (("z", z), ("net(z)", x_hat))}
    names = {"x": x, f"z, {psnr['z']:.1f} dB": z, f"net(z), {psnr['net(z)']:.1f} dB": x_hat}
    return plots.rows(names, low=0.0, title=f"σ = {sigma:.2f} (trained at σ = 0.5)")


def denoise_explorer(net: torch.nn.Module, images: Tensor, seed: int = 0) -> Explorer:
    """A slider over the noise scale of the one-step denoiser ``net``, on images (N, 1, 28, 28) uint8."""
    x = data.unit(images)
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x.device)
    controls = {"sigma": _slider(value=0.5, min=0.0, max=1.0, step=0.05, description="noise scale σ")}
    return Explorer(lambda sigma: denoise_frame(net, x, eps, sigma), controls)


def scrub_frame(trajectory: samplers.Trajectory, schedule: schedules.Schedule, i: int) -> Figure:
    """State i of a sampling run, 0 the noise: x_t, the estimates of x0 and eps, and the place on the schedule."""
    state = trajectory[i]
    tiles = {"x_t": state.x, "x0 estimate": state.x0, "ε estimate": state.eps / 2}  # noise of 2 sigma is white
    figure, axes = plots._figure(8.6, 3.0, 1, 4, width_ratios=[1, 1, 1, 1.25])
    for axis, (name, images) in zip(axes[0], tiles.items(), strict=False):
        plots._show(axis, plots.tile(images, columns=2))
        axis.set_title(name, fontsize=10)
    curve = axes[0][3]
    whole = schedule(torch.linspace(0, 1, 101, dtype=torch.float64))
    curve.plot(whole.t, whole.alpha, label="signal α")
    curve.plot(whole.t, whole.sigma, "--", label="noise σ")
    curve.plot([state.level.t] * 2, [state.level.alpha, state.level.sigma], "o", color="black")
    curve.set(
        title=f"t = {state.level.t:.2f}, step {i} of {len(trajectory) - 1}", ylim=(0, 1.05), xlabel="t", box_aspect=0.8
    )
    curve.legend(frameon=False, loc="center right", fontsize=8)
    return figure


def scrubber(trajectories: dict[int, samplers.Trajectory], schedule: schedules.Schedule, start: int) -> Explorer:
    """A slider over the steps of cached sampling runs, one for each seed, that opens at step ``start``."""
    seeds = list(trajectories)
    last = len(trajectories[seeds[0]]) - 1
    controls = {
        "i": _slider(value=start, min=0, max=last, description="step, from noise to digit"),
        "seed": _choice(seeds, seeds[0], "seed"),
    }
    return Explorer(lambda i, seed: scrub_frame(trajectories[seed], schedule, i), controls)


def guidance_frame(model: Denoiser, digit: int, gamma: float, seed: int, steps: int = 20, count: int = 16) -> Figure:
    """``count`` fresh samples of one digit, ``steps`` guided DDIM steps from the noise of ``seed``."""
    device = next(model.parameters()).device
    noise = torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed)).to(device)
    y = torch.full((count,), digit, device=device)
    *_, last = samplers.sample(edits.guide(model, y, gamma=gamma), noise, model.schedule.grid(steps))
    return plots.grid(last.x, columns=8, title=f"digit {digit}, γ = {gamma:.1f}, w = {gamma - 1:.1f}, noise {seed}")


def guidance_explorer(model: Denoiser) -> Explorer:
    """Live sampling with a slider for the digit, the guidance and the seed of the noise."""
    controls = {
        "digit": _slider(value=3, min=0, max=9, description="digit"),
        "gamma": _slider(value=2.0, min=0.0, max=10.0, step=0.5, description="guidance γ"),
        "seed": _slider(value=0, min=0, max=20, description="noise (seed)"),
    }
    for control in controls.values():
        control.continuous_update = False  # each picture is sampled anew, for about a second
    return Explorer(lambda digit, gamma, seed: guidance_frame(model, digit, gamma, seed), controls)


def evaluation_frame(
    images: dict[float, Tensor], measured: dict[float, dict[int, metrics.Result]], gamma: float, n: int
) -> Figure:
    """Samples drawn with guidance ``gamma``, and the FID of the first ``n`` of them on its curve over N.

    ``images`` holds (N, 1, H, W) in [-1, 1] for each gamma, ``measured`` the FID for each gamma and N.
    """
    sizes = sorted(measured[gamma])
    figure, axes = plots._figure(8.6, 3.2, 1, 2, width_ratios=[1, 1.5])
    plots._show(axes[0][0], plots.tile(images[gamma][:36], columns=6))
    axes[0][0].set_title(f"γ = {gamma:g}, w = {gamma - 1:g}")
    axis, now = axes[0][1], measured[gamma][n]
    for i, (name, results) in enumerate(measured.items()):
        own = name == gamma
        axis.plot(
            sizes,
            [results[size].value for size in sizes],
            ["-", "--", "-.", ":"][i % 4],
            lw=2.5 if own else 1,
            alpha=1 if own else 0.5,
            label=f"γ = {name:g}",
        )
    axis.plot(sizes, [measured[gamma][size].floor for size in sizes], color="black", lw=1, label="floor: real digits")
    axis.errorbar([n], [now.value], [now.error], fmt="o", color="black", capsize=4)
    title = f"N = {n}: FID {now.value:.2f} ± {now.error:.2f}, {now.value / now.floor:.1f} times the floor"
    axis.set(title=title, xlabel="N", ylabel="FID", ylim=(0, None))
    axis.legend(frameon=False)
    return figure


def evaluation_explorer(images: dict[float, Tensor], measured: dict[float, dict[int, metrics.Result]]) -> Explorer:
    """Sliders over the guidance and the number of samples, on samples and FIDs that are there already."""
    gammas, sizes = list(images), sorted(next(iter(measured.values())))
    controls = {
        "gamma": _steps(gammas, gammas[0], "guidance γ"),
        "n": _steps(sizes, sizes[-1], "number of samples N"),
    }
    return Explorer(lambda gamma, n: evaluation_frame(images, measured, gamma, n), controls)
