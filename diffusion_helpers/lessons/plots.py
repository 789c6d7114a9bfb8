"""Figures made for reading: image rows with their level printed, grids, curves, animations.

Every function returns a matplotlib ``Figure`` that is closed already: it shows once, as the last
line of a cell or through ``display``, and can be kept with ``figure.savefig``.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito 2008: eight colours that colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")


def subplots(width: float, height: float, rows: int = 1, columns: int = 1, layout: str = "constrained", **options):
    """A figure of ``width`` x ``height`` inches in the style of the lessons, and its axes, (rows, columns)."""
    import matplotlib.pyplot as plt

    style = {"axes.prop_cycle": plt.cycler(color=COLOURS), "font.size": 9, "figure.dpi": 100}
    with plt.rc_context(style):
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout=layout, **options)
    plt.close(figure)
    return figure, axes


def pixels(images: Tensor, low: float = -1.0) -> np.ndarray:
    """Images (N, C, H, W) in [low, 1] as uint8 (N, H, W, C) for display; values outside are clipped.

    Raises ValueError unless there are four dimensions and 1 or 3 channels.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images of shape {tuple(images.shape)}: expected (N, 1 or 3, H, W)")
    scaled = (images.detach().float().cpu() - low) / (1 - low)
    return (scaled.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def show(axis, image: np.ndarray) -> None:
    """An image (H, W, 1 or 3) uint8 in ``axis``, without ticks and frame."""
    axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
    axis.set(xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set_visible(False)


def rows(images: dict[str, Tensor], titles: Sequence[str] = (), low: float = -1.0, title: str = "") -> Figure:
    """One row of images per entry, its name on the left; ``titles`` stand above the columns.

    Each entry is (N, C, H, W) in [low, 1], the same N. Raises ValueError when the counts differ.
    """
    counts = {len(row) for row in images.values()} | ({len(titles)} if titles else set())
    if len(counts) != 1:
        raise ValueError(f"rows and titles of lengths {sorted(counts)}: expected one length")
    n = counts.pop()
    size = min(1.1, 9 / n)
    figure, axes = subplots(size * n + 0.9, (size + 0.08) * len(images) + 0.5, len(images), n)
    for line, (name, row) in zip(axes, images.items(), strict=True):
        for axis, image in zip(line, pixels(row, low), strict=True):
            show(axis, image)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axis, text in zip(axes[0], titles, strict=False):
        axis.set_title(text, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def tile(images: Tensor, columns: int, low: float = -1.0) -> np.ndarray:
    """Images (N, C, H, W) in [low, 1] side by side on one canvas, (height, width, C) uint8, 2 pixels apart."""
    from torchvision.utils import make_grid

    canvas = make_grid(torch.from_numpy(pixels(images, low)).permute(0, 3, 1, 2), columns, padding=2, pad_value=128)
    return canvas[: images.shape[1]].permute(1, 2, 0).numpy()


def grid(
    images: Tensor,
    columns: int = 8,
    low: float = -1.0,
    title: str = "",
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> Figure:
    """All images (N, C, H, W) in [low, 1] on one canvas, row by row, ``columns`` to a row.

    Labels name the rows and columns. Raises ValueError for images that cannot be shown, and when the
    labels are not as many as the rows or columns.
    """
    lines = -(-len(images) // columns)
    for labels, count, what in ((row_labels, lines, "row"), (column_labels, columns, "column")):
        if labels and len(labels) != count:
            raise ValueError(f"{len(labels)} {what} labels: expected {count}")
    canvas = tile(images, columns, low)
    size = min(0.62 * columns, 8.5)
    figure, [[axis]] = subplots(size + 0.4, size * canvas.shape[0] / canvas.shape[1] + 0.4)
    show(axis, canvas)
    pitch, offset = images.shape[-1] + 2, images.shape[-1] / 2 + 1.5
    axis.set_xticks([offset + pitch * i for i in range(len(column_labels))], column_labels)
    axis.set_yticks([offset + pitch * i for i in range(len(row_labels))], row_labels)
    axis.tick_params(length=0, top=False, labeltop=bool(column_labels), labelbottom=False)
    axis.set_title(title, fontsize=10)
    return figure


def curves(
    x: Sequence[float] | Tensor,
    lines: dict[str, Sequence[float] | Tensor],
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: str = "",
    floor: float | None = None,
    errors: dict[str, Sequence[float] | Tensor] | None = None,
) -> Figure:
    """Lines over a shared x, named in a legend.

    ``log`` names the logarithmic axes: "", "x", "y" or "xy"; ``floor`` is where the y axis begins; ``errors`` gives
    the half length of the error bars of some of the lines. Raises ValueError for errors of a line that is not there.
    """
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter

    errors = errors or {}
    if errors.keys() - lines.keys():
        raise ValueError(f"errors of {sorted(errors.keys() - lines.keys())}: expected some of {sorted(lines)}")
    figure, [[axis]] = subplots(6.4, 3.2)
    styles = ["-", "--", "-.", ":"]
    for i, (name, y) in enumerate(lines.items()):
        x_, y_ = torch.as_tensor(x).cpu(), torch.as_tensor(y).cpu()
        if name in errors:
            axis.errorbar(x_, y_, torch.as_tensor(errors[name]).cpu(), fmt="o" + styles[i % 4], capsize=3, label=name)
        else:
            axis.plot(x_, y_, styles[i % 4], label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    for name, line in (("x", axis.xaxis), ("y", axis.yaxis)):
        if name in log:
            getattr(axis, f"set_{name}scale")("log")
            line.set_major_formatter("{x:g}")
            line.set_minor_formatter(NullFormatter())
    axis.set_ylim(bottom=floor)
    for name, line in (("x", axis.xaxis), ("y", axis.yaxis)):
        low, high = line.get_view_interval()
        if name == "x" and "x" in log and len(x) <= 8:
            line.set_major_locator(FixedLocator([float(value) for value in x]))
        elif name in log:
            line.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if high < 1000 * low else (1,), numticks=12))
    axis.grid(alpha=0.25)
    if len(lines) > 1:
        axis.legend(frameon=False)
    return figure


def density(axis, numbers: Tensor) -> None:
    """Draw the histogram of the numbers, a tensor of any shape, on a matplotlib axis, and N(0, 1) over it."""
    x = np.linspace(-3.5, 3.5, 200)
    heights, edges = np.histogram(numbers.cpu().numpy(), bins=70, range=(x[0], x[-1]), density=True)
    axis.stairs(heights, edges, fill=True, color=COLOURS[5])
    axis.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=COLOURS[1], lw=1.5, label="N(0, 1)")
    axis.set_ylim(0, 1.2)


def histograms(values: dict[str, Tensor], title: str = "") -> Figure:
    """The distribution of the numbers of each tensor, side by side, with the density of N(0, 1) drawn over it."""
    n = len(values)
    figure, axes = subplots(min(2.2 * n, 9), 2.3, 1, n, sharey=True)
    for axis, (name, numbers) in zip(axes[0], values.items(), strict=True):
        density(axis, numbers)
        axis.set(title=name, xlabel="pixel value")
    axes[0][0].set_ylabel("density")
    axes[0][-1].legend(frameon=False, loc="upper right")
    figure.suptitle(title, fontsize=10)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes: what a widget shows."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def animation(frames: Sequence[np.ndarray], path: str | Path, seconds: float = 4.0, scale: int = 2) -> Path:
    """Write canvases (height, width, C) uint8, such as ``tile`` gives, as a looping GIF; the path.

    ``seconds`` is the length of one loop, in which the last frame rests for a second more; ``scale``
    enlarges each pixel. Raises ValueError when there is no frame.
    """
    from PIL import Image

    if not len(frames):
        raise ValueError("an animation of 0 frames: expected at least 1")
    pictures = []
    for frame in frames:
        picture = Image.fromarray(frame.squeeze(-1) if frame.shape[-1] == 1 else frame)
        pictures.append(picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST))
    pause = [max(20, round(1000 * seconds / len(frames)))] * len(frames)
    pause[-1] += 1000
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=pause, loop=0, optimize=True)
    return Path(path)
