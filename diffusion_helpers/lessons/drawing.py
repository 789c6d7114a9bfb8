"""A drawing of the course U-Net, with the shapes that a picture really takes on its way through."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from ..unet import CourseUNet
from . import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Where each block stands: column, and row from the finest maps (0) to the single pixel (3).
PLACES = {
    "first": (1, 0),
    "down1": (2, 1),
    "down2": (3, 2),
    "flatten": (4, 3),
    "unflatten": (5, 2),
    "up1": (6, 1),
    "up2": (7, 0),
    "last": (8, 0),
}
BRIDGES = {"down2": "up1", "down1": "up2", "first": "last"}


def shapes(net: CourseUNet) -> dict[str, tuple[int, int]]:
    """(channels, width) of what each block of a plain ``CourseUNet`` makes of one picture, in the order of the blocks."""
    net, found = copy.deepcopy(net).eval(), {}  # the one that was given stays as it is
    for name in PLACES:
        getattr(net, name).register_forward_hook(
            lambda _, given, out, name=name: found.update({name: (out.shape[1], out.shape[3])})
        )
    with torch.no_grad():
        net(torch.zeros(1, net.channels, 28, 28, device=next(net.parameters()).device))
    return found


def unet(net: CourseUNet) -> Figure:
    """The blocks of a plain ``CourseUNet`` as boxes, "channels x width x width" in each, bridges as dashed lines."""
    figure, [[axis]] = plots.subplots(8.8, 3.4)
    sizes = {name: f"{channels}×{width}×{width}" for name, (channels, width) in shapes(net).items()}
    box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": plots.COLOURS[0]}
    texts = {"in": ((0, 0), f"z\n{net.channels}×28×28")}
    texts |= {name: (place, f"{name}\n{sizes[name]}") for name, place in PLACES.items()}
    names = list(texts)
    for place, text in texts.values():
        axis.text(*place, text, ha="center", va="center", fontsize=8, bbox=box, zorder=3)
    for start, end in zip(names, names[1:], strict=False):
        arrow = {"arrowstyle": "->", "shrinkA": 24, "shrinkB": 24, "color": plots.COLOURS[6]}
        axis.annotate("", texts[end][0], texts[start][0], arrowprops=arrow)
    for start, end in BRIDGES.items():
        bend = -0.2 if start == "first" else 0
        arrow = {"arrowstyle": "->", "shrinkA": 20, "shrinkB": 28, "color": plots.COLOURS[1], "linestyle": "--"}
        arrow |= {"connectionstyle": f"arc3,rad={bend}"}
        axis.annotate("", texts[end][0], texts[start][0], arrowprops=arrow)
    axis.set(xlim=(-0.6, 8.6), ylim=(3.5, -1.0))
    axis.axis("off")
    return figure
