"""A caption typed by the learner, its picture, and where each word of it looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets
import torch
from torch import Tensor

from ...bench.captions import drawn
from ...denoise import Denoiser
from ...words import prompted
from ...words.network import CaptionUNet, CrossAttention
from .. import plots
from .controls import Explorer, slider

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@torch.no_grad()
def looks(model: Denoiser, caption: str, image: Tensor, t: float, seed: int = 0) -> dict[str, Tensor]:
    """How much each pixel of ``image`` (3, 32, 32) looks at each word, at the noise of time t: (32, 32) by word.

    The mean over the parts of the network with 16 x 16 places. A word that stands twice has a number behind it.
    """
    net: CaptionUNet = model.net
    given = prompted(model, [caption])
    found = []
    parts = [part for part in net.modules() if isinstance(part, CrossAttention)]
    hooks = [
        part.register_forward_pre_hook(lambda part, inputs: found.append(part.looks(*inputs)))  # (1, words, H, W)
        for part in parts
    ]
    level = model.schedule(t)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    try:
        given((level.alpha * image + level.sigma * noise)[None].float(), level)
    finally:
        for hook in hooks:
            hook.remove()
    widest = max(each.shape[-1] for each in found)
    mean = torch.stack([each[0] for each in found if each.shape[-1] == widest]).mean(0)
    words = caption.lower().split()
    names = [word if word not in words[:i] else f"{word} ({words[:i].count(word) + 1})" for i, word in enumerate(words)]
    return dict(zip(names, mean[: len(words)], strict=True))


def prompt_frame(model: Denoiser, caption: str, gamma: float, seed: int) -> Figure:
    """The picture of a caption, and under it where each of its words is looked at; or what is wrong with the caption."""
    try:
        image = drawn(model, [caption], gamma, seed)[0]
    except ValueError as error:
        figure, [[axis]] = plots.subplots(8, 1.6)
        axis.text(0, 0.5, str(error)[:160] + " ...", fontsize=9, wrap=True, va="center")
        axis.axis("off")
        return figure
    maps = looks(model, caption, image, t=0.5) if caption.split() else {}
    columns = 1 + len(maps)
    figure, [axes] = plots.subplots(
        max(4.0, min(9.5, 1.0 * columns + 1.2)), 1.9, 1, columns, width_ratios=[2, *[1] * len(maps)]
    )
    plots.show(axes[0], plots.pixels(image[None])[0])
    axes[0].set_title(f"γ = {gamma:g}, noise {seed}", fontsize=9)
    for axis, (word, share) in zip(axes[1:], maps.items(), strict=True):
        axis.imshow(share.numpy(), cmap="gray", vmin=0)
        axis.set(xticks=[], yticks=[])
        axis.set_title(word, fontsize=8)
    return figure


def prompt_explorer(model: Denoiser, caption: str) -> Explorer:
    """A line to type a caption into, and sliders for guidance and noise; each picture is drawn anew."""
    controls = {
        "caption": ipywidgets.Text(value=caption, description="caption", continuous_update=False),
        "gamma": slider(value=3.0, min=0.0, max=8.0, step=0.5, description="guidance γ"),
        "seed": slider(value=0, min=0, max=20, description="noise (seed)"),
    }
    controls["caption"].layout.width = "auto"
    for control in controls.values():
        control.continuous_update = False
    return Explorer(lambda **values: prompt_frame(model, **values), controls)
