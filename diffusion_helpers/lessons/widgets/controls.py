"""Sliders over pure functions, and a pad to draw on.

Each explorer has a function that draws one frame from plain values, and a thin widget that calls it.
A ``Flipbook`` draws all its frames at once and turns them over in the browser, so it also works in a saved notebook
and an exported page, where no kernel answers. An ``Explorer`` draws a frame when its values are asked for.
The picture for the first values is stored beside the widget, so that a page that shows no widgets at all
(GitHub, a PDF) shows it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import anywidget
import ipywidgets
import torch
import traitlets
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .. import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCRIPTS = Path(__file__).parent / "scripts"


class Explorer:
    """Controls above a picture: ``frame(**values)`` draws it again whenever a control changes.

    ``controls`` maps the names of the arguments of ``frame`` to widgets with a ``value``; ``image`` is the picture.
    """

    def __init__(self, frame: Callable[..., Figure], controls: dict[str, ipywidgets.DOMWidget]):
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

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        return _bundle(self.view, self.static, f"Explorer({', '.join(self.controls)})")


class Flipbook(anywidget.AnyWidget):
    """Sliders that turn over frames drawn beforehand: ``frame(**values)`` for every combination of the values.

    ``values`` maps the names of the arguments of ``frame`` to lists, the first with a button that plays it;
    ``start`` gives the values at first; ``labels`` what stands before each slider; ``value`` has the values that are
    shown now. Raises ValueError for a start that is not in its list.
    """

    _esm = SCRIPTS / "flipbook.js"
    axes = traitlets.List().tag(sync=True)  # one {"label", "values"} each, the values as text
    pictures = traitlets.List(traitlets.Unicode()).tag(sync=True)  # PNG in base64, the last axis turning fastest
    place = traitlets.List(traitlets.Int()).tag(sync=True)  # where each slider stands

    def __init__(self, frame: Callable[..., Figure], values: dict[str, list], start: dict, labels: dict[str, str]):
        for name, options in values.items():
            if start[name] not in options:
                raise ValueError(f"{name} starts at {start[name]!r}: expected one of {options}")
        self._values = values
        pictures = [
            _few_colours(plots.png(frame(**dict(zip(values, each, strict=True))))) for each in product(*values.values())
        ]
        axes = [
            {"label": labels[name], "values": [f"{v:g}" if isinstance(v, float) else str(v) for v in options]}
            for name, options in values.items()
        ]
        place = [options.index(start[name]) for name, options in values.items()]
        super().__init__(axes=axes, pictures=[base64.b64encode(p).decode() for p in pictures], place=place)

    @property
    def value(self) -> dict:
        return {name: options[i] for (name, options), i in zip(self._values.items(), self.place, strict=True)}

    @property
    def picture(self) -> bytes:
        """The frame that is shown now, a PNG."""
        sizes = [len(options) for options in self._values.values()]
        index = sum(i * prod(sizes[k + 1 :]) for k, i in enumerate(self.place))
        return base64.b64decode(self.pictures[index])

    _ipython_display_ = None  # ipywidgets 7, which Colab has, would take it in place of the bundle

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        return _bundle(self, self.picture, f"Flipbook({', '.join(self._values)})")


class Canvas(anywidget.AnyWidget):
    """A square to draw on. ``value``: its 28x28 pixels, 0 to 255, row by row, in base64.

    Over a picture ``under``, in the same form, a mask is drawn: 255 where there is ink.
    """

    _esm = SCRIPTS / "pad.js"
    value = traitlets.Unicode().tag(sync=True)
    under = traitlets.Unicode().tag(sync=True)


class Pad(ipywidgets.VBox):
    """A ``canvas``, and a list to choose from where one cannot draw; ``value`` is the picture of both.

    presets: digits or masks, (1, 28, 28) uint8, by name. The first is shown at the start. ``digit(value)`` makes an
    image of a digit, ``mask(value)`` a mask. ``under`` is a picture to draw a mask over, packed as ``value`` is.
    Raises ValueError for presets of another shape or type.
    """

    value = traitlets.Unicode()

    def __init__(self, presets: dict[str, Tensor], under: str = ""):
        options = packed(presets)
        self.canvas = Canvas(value=options[0][1], under=under)
        self.preset = choice([("your own", ""), *options], options[0][1], "draw, or take")
        super().__init__([self.preset, self.canvas])
        traitlets.link((self.canvas, "value"), (self, "value"))
        self.preset.observe(self._take, "value")
        self.canvas.observe(self._drawn, "value")

    def _take(self, change: dict) -> None:
        if change["new"]:
            self.canvas.value = change["new"]

    def _drawn(self, change: dict) -> None:
        if change["new"] != self.preset.value:
            self.preset.value = ""  # so that each digit in the list can be chosen again


def digit(drawing: str) -> Tensor:
    """What is on a pad, ``Pad.value``, as MNIST would show it: (1, 1, 28, 28) in [-1, 1], all -1 where it is empty.

    As in MNIST the ink is scaled to a box of 20x20 pixels, and its centre of mass put in the middle.
    Source: LeCun, Cortes, Burges, the MNIST database. Raises ValueError unless there are 784 bytes.
    """
    ink = unpacked(drawing)[0, 0].float() / 255
    rows, columns = ((ink > 0.2).any(dim).nonzero().flatten() for dim in (1, 0))
    if not len(rows):
        return torch.full((1, 1, 28, 28), -1.0)
    part = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20 / max(part.shape)
    size = [max(1, round(side * scale)) for side in part.shape]
    part = F.interpolate(part[None, None], size=size, mode="bilinear", antialias=True, align_corners=False)[0, 0]
    share = part / part.sum()
    top, left = (
        int((13.5 - (share.sum(1 - dim) * torch.arange(size[dim])).sum()).round().clamp(0, 28 - size[dim]))
        for dim in (0, 1)
    )
    image = torch.zeros(28, 28)
    image[top : top + size[0], left : left + size[1]] = part
    return 2 * image.clamp(0, 1)[None, None] - 1


def mask(drawing: str) -> Tensor:
    """What is on a pad as a mask, (1, 1, 28, 28): 1 where there is ink, else 0. Raises ValueError unless there are 784 bytes."""
    return (unpacked(drawing) > 127).float()


def packed(images: dict[str, Tensor]) -> list[tuple[str, str]]:
    """Each image (1, 28, 28) uint8 by its name, as a pad holds it. Raises ValueError for other shapes and types."""
    for name, image in images.items():
        if image.shape != (1, 28, 28) or image.dtype != torch.uint8:
            raise ValueError(f"preset {name}: {tuple(image.shape)} of {image.dtype}, expected (1, 28, 28) uint8")
    return [(name, base64.b64encode(image.numpy().tobytes()).decode()) for name, image in images.items()]


def unpacked(drawing: str) -> Tensor:
    """What a pad holds, as an image (1, 1, 28, 28) uint8. Raises ValueError unless there are 784 bytes."""
    raw = base64.b64decode(drawing)
    if len(raw) != 784:
        raise ValueError(f"a drawing of {len(raw)} bytes: expected 784")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(1, 1, 28, 28)


def _bundle(view: ipywidgets.DOMWidget, static: bytes, text: str) -> tuple[dict, dict]:
    """The view with a picture for where no widgets are shown, and what Colab needs to be told about the view."""
    data, metadata = anywidget.AnyWidget._repr_mimebundle_(view)  # of any view, since it asks for its model id only
    return data | {"image/png": base64.b64encode(static).decode(), "text/plain": text}, metadata


def _few_colours(png: bytes) -> bytes:
    """The picture in 32 colours, at a third of the size: all frames of a flipbook are kept in the notebook.

    Photographs, which have many more colours than a figure with its smoothed lines, keep 256.
    """
    picture, buffer = Image.open(BytesIO(png)).convert("RGB"), BytesIO()
    photograph = picture.getcolors(10_000) is None
    # Of Pillow's methods the one that keeps the colours of thin lines, and the one that keeps those of areas.
    method = Image.Quantize.MEDIANCUT if photograph else Image.Quantize.MAXCOVERAGE
    few = picture.quantize(256 if photograph else 32, method=method, dither=Image.Dither.NONE)
    few.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def slider(**options):
    """A slider over whole numbers or floats, as its ``value`` is, wide enough for its description."""
    kind = ipywidgets.IntSlider if isinstance(options["value"], int) else ipywidgets.FloatSlider
    style, layout = {"description_width": "initial"}, ipywidgets.Layout(width="420px")
    return kind(**options, style=style, layout=layout, continuous_update=True)


def choice(options: list, value: object, description: str):
    """A list of (name, value) ``options`` to choose from."""
    style = {"description_width": "initial"}
    return ipywidgets.Dropdown(options=options, value=value, description=description, style=style)
