"""The explorers of the lessons: for each a function that draws one frame, and the widget over it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
import traitlets
from torch import Tensor

from ... import data, edits, samplers, schedules
from ...bench import metrics
from ...denoise import Denoised, Denoiser
from .. import plots
from .controls import Explorer, Flipbook, Pad, choice, digit, mask, packed, slider, unpacked

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def forward_frame(x0: Tensor, eps: Tensor, percent: int, schedule: str, T: int) -> Figure:
    """A digit x0 (1, 1, H, W) in [-1, 1] noised by eps, its pixel histogram, and the place on the schedule.

    ``percent`` of the T steps are taken; ``schedule`` is "linear" or "cosine".
    """
    path = _path(schedule, T)
    step = round(percent / 100 * T)
    level = path(step / T)
    x = schedules.noise(x0, level, eps)
    # Margins that are given, since to find them for each frame takes longer than to draw it.
    margins = {"left": 0.02, "right": 0.99, "bottom": 0.17, "top": 0.88, "wspace": 0.2}
    figure, [[left, middle, right]] = plots.subplots(8.4, 2.7, 1, 3, layout="none", gridspec_kw=margins)
    plots.show(left, plots.pixels(x)[0])
    left.set_title(f"t = {level.t:g}, step {step} of {T}")
    plots.density(middle, x)
    middle.set_title("its pixels, and N(0, 1)")
    whole = path(torch.linspace(0, 1, 101, dtype=torch.float64))
    right.plot(whole.t, whole.alpha, label="signal α")
    right.plot(whole.t, whole.sigma, "--", label="noise σ")
    right.plot([level.t, level.t], [level.alpha, level.sigma], "o", color="black")
    right.set(title=f"α = {level.alpha:.3f}, SNR = {level.snr:.3g}", ylim=(0, 1.3), xlabel="t")
    right.legend(frameon=False, loc="upper center", ncols=2, handlelength=1.2, columnspacing=1, borderpad=0.1)
    return figure


def _path(schedule: str, T: int) -> schedules.Schedule:
    known = {"linear": schedules.linear_beta, "cosine": schedules.cosine}
    if schedule not in known:
        raise ValueError(f"schedule {schedule!r}: expected one of {', '.join(known)}")
    return known[schedule](T)


def forward_explorer(x0: Tensor, seed: int = 0) -> Flipbook:
    """Sliders over the forward process of one digit x0 (1, 1, H, W) in [-1, 1]: time, schedule and T."""
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed)).to(x0.device)
    values = {"percent": [0, 2, 5, 10, 15, *range(20, 101, 10)], "schedule": ["linear", "cosine"], "T": [50, 300, 1000]}
    labels = {"percent": "t, in % of T", "schedule": "schedule", "T": "number of steps T"}
    return Flipbook(
        lambda percent, schedule, T: forward_frame(x0, eps, percent, schedule, T),
        values,
        {"percent": 30, "schedule": "linear", "T": 1000},
        labels,
    )


def denoise_frame(net: torch.nn.Module, x: Tensor, eps: Tensor, sigma: float) -> Figure:
    """Digits x (N, 1, 28, 28) in [0, 1], noised with sigma * eps, and what ``net`` makes of them in one step."""
    z = x + sigma * eps
    with torch.no_grad():
        x_hat = net(z)
    psnr = {name: -10 * (image - x).square().mean().log10().item() for name, image in (("z", z), ("net(z)", x_hat))}
    names = {"x": x, f"z, {psnr['z']:.1f} dB": z, f"net(z), {psnr['net(z)']:.1f} dB": x_hat}
    return plots.rows(names, low=0.0, title=f"σ = {sigma:.2f} (trained at σ = 0.5)")


def denoise_explorer(net: torch.nn.Module, images: Tensor, seed: int = 0) -> Flipbook:
    """A slider over the noise scale of the one-step denoiser ``net``, on images (N, 1, 28, 28) uint8."""
    x = data.unit(images)
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x.device)
    values = {"sigma": [round(0.05 * i, 2) for i in range(21)]}
    return Flipbook(lambda sigma: denoise_frame(net, x, eps, sigma), values, {"sigma": 0.5}, {"sigma": "noise scale σ"})


def drawing_frame(net: torch.nn.Module, classifier: torch.nn.Module, drawing: str, sigma: float) -> Figure:
    """A drawn digit, noised with ``sigma``, cleaned in one step by ``net``, and what the classifier reads in each."""
    x = ((digit(drawing) + 1) / 2).to(next(classifier.parameters()).device)
    z = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    with torch.no_grad():
        images = torch.cat([x, z, net(z)])
        chances = classifier(2 * images - 1).softmax(1).cpu()
    figure, axes = plots.subplots(8.4, 2.8, 1, 4, width_ratios=[1, 1, 1, 1.6])
    for axis, name, image, chance in zip(
        axes[0], ("yours", "noisy", "cleaned"), plots.pixels(images, 0.0), chances, strict=False
    ):
        plots.show(axis, image)
        axis.set_title(f"{name}\nread as {chance.argmax()}, {chance.max():.0%}", fontsize=10)
    axes[0][3].bar(range(10), chances[2].numpy(), color=plots.COLOURS[0])
    axes[0][3].set(
        title="read from the cleaned one",
        xticks=range(10),
        ylim=(0, 1.05),
        xlabel="digit",
        ylabel="probability",
    )
    return figure


def drawing_explorer(net: torch.nn.Module, classifier: torch.nn.Module, presets: dict[str, Tensor]) -> Explorer:
    """A pad for a digit of your own, which the one-step denoiser ``net`` cleans and the ``classifier`` reads."""
    controls = {
        "drawing": Pad(presets),
        "sigma": slider(value=0.5, min=0.0, max=1.0, step=0.05, description="noise scale σ"),
    }
    return Explorer(lambda drawing, sigma: drawing_frame(net, classifier, drawing, sigma), controls)


def edit_frame(model: Denoiser, classifier: torch.nn.Module, drawing: str, label: int, t: float, seed: int) -> Figure:
    """A drawn digit, the same with the noise of time t, and four runs of SDEdit from there, each as it is read.

    ``label`` is 0 to 9, or the null label 10 for any digit; 20 ancestral steps, guidance 2.
    """
    device = next(model.parameters()).device
    x0 = digit(drawing).to(device)
    generator = torch.Generator().manual_seed(seed)
    eps = torch.randn(4, 1, 28, 28, generator=generator).to(device)
    start, below = edits.sdedit(x0.expand_as(eps), model.schedule.grid(20), t, eps)
    *_, last = samplers.sample(_labelled(model, label, 4), start, below, partial(samplers.ddpm, generator=generator))
    return _read(classifier, {"yours": x0, f"at t = {below[0].t:.2f}": start[:1]}, last.x)


def edit_explorer(model: Denoiser, classifier: torch.nn.Module, presets: dict[str, Tensor]) -> Explorer:
    """A pad for a digit of your own, and a slider for how far up towards noise it is taken before it is denoised."""
    controls = {
        "drawing": Pad(presets),
        "label": _label_choice(model),
        "t": slider(value=0.6, min=0.0, max=1.0, step=0.05, description="start level t"),
        "seed": slider(value=0, min=0, max=20, description="noise (seed)"),
    }
    for name in ("t", "seed"):
        controls[name].continuous_update = False
    return Explorer(lambda **values: edit_frame(model, classifier, **values), controls)


def fill_frame(model: Denoiser, classifier: torch.nn.Module, image: str, drawing: str, label: int, seed: int) -> Figure:
    """An image, the same without what lies under the mask ``drawing``, and four ways to fill it in, each as it is read.

    ``image`` and ``drawing`` are pictures as on a pad; ``label`` is 0 to 9, or the null label 10 for any digit. 20 ancestral
    steps, each taken twice; guidance 2.
    """
    device = next(model.parameters()).device
    x0, new = data.symmetric(unpacked(image)).to(device), mask(drawing).to(device)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(4, 1, 28, 28, generator=generator).to(device)
    denoise = edits.inpaint(_labelled(model, label, 4), x0.expand_as(noise), new)
    step = samplers.resampled(partial(samplers.ddpm, generator=generator), 2, generator)
    *_, last = samplers.sample(denoise, noise, model.schedule.grid(20), step)
    return _read(classifier, {"image": x0, "what is kept": torch.where(new == 1, 0.0, x0)}, last.x)


def fill_explorer(
    model: Denoiser, classifier: torch.nn.Module, images: dict[str, Tensor], masks: dict[str, Tensor]
) -> Explorer:
    """A list of images, and a pad to draw a mask over them: what is painted over is drawn anew.

    Images and masks are (1, 28, 28) uint8 by name. Raises ValueError for other shapes and types.
    """
    options = packed(images)
    controls = {
        "image": choice(options, options[0][1], "image"),
        "drawing": Pad(masks, under=options[0][1]),
        "label": _label_choice(model),
        "seed": slider(value=0, min=0, max=20, description="noise (seed)"),
    }
    traitlets.dlink((controls["image"], "value"), (controls["drawing"].canvas, "under"))
    controls["seed"].continuous_update = False
    return Explorer(lambda **values: fill_frame(model, classifier, **values), controls)


def _label_choice(model: Denoiser):
    any_digit = model.classes  # the null label
    return choice([("any digit", any_digit), *((str(y), y) for y in range(model.classes))], any_digit, "draw it as")


def _labelled(model: Denoiser, label: int, count: int) -> samplers.Denoise:
    """The denoiser for ``count`` images of one label, or for any if it is the null label."""
    return edits.classifier_free(model, torch.full((count,), label), gamma=0.0 if label == model.classes else 2.0)


def _read(classifier: torch.nn.Module, given: dict[str, Tensor], results: Tensor) -> Figure:
    """What was given, one image (1, 1, 28, 28) each, and the results beside it, with what the classifier reads in them."""
    images = torch.cat([*given.values(), results])
    with torch.no_grad():
        chances = classifier(images).softmax(1).cpu()
    figure, axes = plots.subplots(8.6, 1.9, 1, len(images))
    names = [*given, *[""] * len(results)]
    for axis, name, image, chance in zip(axes[0], names, plots.pixels(images), chances, strict=True):
        plots.show(axis, image)
        axis.set_title(f"{name}\nread as {chance.argmax()}, {chance.max():.0%}", fontsize=9)
    return figure


def scrub_frame(trajectory: samplers.Trajectory, schedule: schedules.Schedule, i: int) -> Figure:
    """State i of a sampling run, 0 the noise: x_t, the estimates of x0 and eps, and the place on the schedule."""
    state = trajectory[i]
    tiles = {"x_t": state.x, "x0 estimate": state.x0, "ε estimate": state.eps / 2}  # noise of 2 sigma is white
    figure, axes = plots.subplots(8.6, 3.0, 1, 4, width_ratios=[1, 1, 1, 1.25])
    for axis, (name, images) in zip(axes[0], tiles.items(), strict=False):
        plots.show(axis, plots.tile(images, columns=2))
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


def scrubber(
    trajectories: dict[int, samplers.Trajectory], schedule: schedules.Schedule, start: int, every: int = 1
) -> Flipbook:
    """A flipbook of cached sampling runs, one for each seed: each ``every``-th state, open at step ``start``."""
    seeds = list(trajectories)
    values = {"i": list(range(0, len(trajectories[seeds[0]]), every)), "seed": seeds}
    labels = {"i": "step, from noise to digit", "seed": "seed"}
    return Flipbook(
        lambda i, seed: scrub_frame(trajectories[seed], schedule, i), values, {"i": start, "seed": seeds[0]}, labels
    )


def guidance_frame(model: Denoiser, digit: int, gamma: float, seed: int, steps: int = 20, count: int = 16) -> Figure:
    """``count`` fresh samples of one digit, ``steps`` guided DDIM steps from the noise of ``seed``."""
    device = next(model.parameters()).device
    noise = torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed)).to(device)
    y = torch.full((count,), digit, device=device)
    *_, last = samplers.sample(edits.classifier_free(model, y, gamma=gamma), noise, model.schedule.grid(steps))
    title = f"digit {digit}, γ = {gamma:.1f}, w = {gamma - 1:.1f}, noise {seed}, {steps} steps"
    return plots.grid(last.x, columns=8, title=title)


def guidance_explorer(model: Denoiser) -> Explorer:
    """Live sampling with a slider for the digit, the guidance, the seed of the noise and the number of steps."""
    controls = {
        "digit": slider(value=3, min=0, max=9, description="digit"),
        "gamma": slider(value=2.0, min=0.0, max=10.0, step=0.5, description="guidance γ"),
        "seed": slider(value=0, min=0, max=20, description="noise (seed)"),
        "steps": slider(value=20, min=2, max=60, description="steps"),
    }
    for control in controls.values():
        control.continuous_update = False  # each picture is sampled anew, for about a second
    return Explorer(lambda **values: guidance_frame(model, **values), controls)


SOLVERS = {"DDIM": samplers.ddim, "Heun": samplers.heun, "DPM-Solver++(2M)": samplers.dpmpp_2m}


def sampler_frame(model: Denoiser, sampler: str, steps: int, eta: float) -> Figure:
    """One sample of each class, without guidance, in ``steps`` steps, always from the same noise.

    ``sampler`` is a key of ``SOLVERS``; ``eta`` is the share of fresh noise in DDIM, 1 is DDPM. The others add none.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(model.classes, 1, 28, 28, generator=generator).to(device)
    y = torch.arange(model.classes, device=device)
    step, calls = SOLVERS[sampler], []
    if step is samplers.ddim:
        step = partial(step, eta=eta, generator=generator)

    def counted(x: Tensor, level: schedules.Level) -> Denoised:
        calls.append(level)
        return model(x, level, y)

    *_, last = samplers.sample(counted, noise, model.schedule.grid(steps), step)
    fresh = f", η = {eta:.1f}" if sampler == "DDIM" else ", adds no noise"
    return plots.grid(last.x, columns=5, title=f"{sampler}{fresh}, {steps} steps, {len(calls)} evaluations")


def sampler_explorer(model: Denoiser) -> Explorer:
    """Live sampling with a list of samplers and sliders for the number of steps and for eta."""
    controls = {
        "sampler": choice(list(SOLVERS), "DDIM", "sampler"),
        "steps": slider(value=10, min=1, max=50, description="steps"),
        "eta": slider(value=0.0, min=0.0, max=1.0, step=0.1, description="η of DDIM"),
    }
    for name in ("steps", "eta"):
        controls[name].continuous_update = False
    return Explorer(lambda **values: sampler_frame(model, **values), controls)


def evaluation_frame(
    images: dict[float, Tensor], measured: dict[float, dict[int, metrics.Result]], gamma: float, n: int
) -> Figure:
    """Samples drawn with guidance ``gamma``, and the FID of the first ``n`` of them on its curve over N.

    ``images`` holds (N, 1, H, W) in [-1, 1] for each gamma, ``measured`` the FID for each gamma and N.
    """
    sizes = sorted(measured[gamma])
    figure, axes = plots.subplots(9.2, 3.2, 1, 2, width_ratios=[1, 1.3])
    plots.show(axes[0][0], plots.tile(images[gamma][:36], columns=6))
    axes[0][0].set_title(f"γ = {gamma:g}")
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
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def evaluation_explorer(images: dict[float, Tensor], measured: dict[float, dict[int, metrics.Result]]) -> Flipbook:
    """Sliders over the number of samples and the guidance, on samples and FIDs that are there already."""
    gammas, sizes = list(images), sorted(next(iter(measured.values())))
    values, labels = {"n": sizes, "gamma": gammas}, {"n": "number of samples N", "gamma": "guidance γ"}
    start = {"n": sizes[-1], "gamma": gammas[0]}
    return Flipbook(lambda n, gamma: evaluation_frame(images, measured, gamma, n), values, start, labels)
