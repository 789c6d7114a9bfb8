"""Figures show what they are given, and bad input is named."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_helpers.lessons import plots, widgets


def picture(figure) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(plots.png(figure))))


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_pixels_map_the_range_to_0_and_255_and_clip_outside(low) -> None:
    images = torch.tensor([low - 1, low, (1 + low) / 2, 1.0, 2.0]).reshape(1, 1, 1, 5)
    assert plots.pixels(images, low).flatten().tolist() == [0, 0, 128, 255, 255]


def test_a_colour_image_keeps_its_channels_in_order() -> None:
    red = torch.tensor([1.0, -1.0, -1.0]).reshape(1, 3, 1, 1).expand(2, 3, 4, 6)
    assert plots.pixels(red)[0, 2, 3].tolist() == [255, 0, 0]
    assert plots.tile(red, columns=1).shape == (14, 10, 3)  # 2 pixels around, height before width


def test_tiles_stand_row_by_row() -> None:
    images = torch.arange(4).reshape(4, 1, 1, 1).expand(4, 1, 4, 4) / 3 * 2 - 1
    canvas = plots.tile(images, columns=2)[..., 0]
    assert [canvas[4, 4], canvas[4, 10], canvas[10, 4], canvas[10, 10]] == [0, 85, 170, 255]


def test_an_animation_keeps_every_frame_in_order_and_loops(tmp_path) -> None:
    frames = [np.full((4, 4, 1), value, np.uint8) for value in (0, 100, 200)]
    with Image.open(plots.animation(frames, tmp_path / "a.gif", scale=3)) as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"]) == (3, (12, 12), 0)
        shown = []
        for i in range(3):
            gif.seek(i)
            shown.append(gif.convert("L").getpixel((6, 6)))
    assert shown == [0, 100, 200]


def test_a_logarithmic_axis_names_each_power_of_ten_or_each_of_a_few_points() -> None:
    def named(line) -> list[float]:
        low, high = line.get_view_interval()
        return [tick for tick in line.get_majorticklocs() if low <= tick <= high]

    axis = plots.curves([6, 10, 20, 40], {"a": [1e4, 1, 1e-2, 1e-3]}, "x", "y", log="xy", floor=1e-3).axes[0]
    assert named(axis.xaxis) == [6, 10, 20, 40]
    assert named(axis.yaxis) == pytest.approx([10.0**k for k in range(-3, 5)])
    axis = plots.curves(range(1, 31), {"a": torch.linspace(0.09, 0.6, 30)}, "x", "y", log="y").axes[0]
    assert named(axis.yaxis) == pytest.approx([0.1, 0.2, 0.3, 0.5])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.pixels(torch.zeros(1, 28, 28)), r"\(1, 28, 28\): expected"),
        (lambda: plots.pixels(torch.zeros(1, 2, 28, 28)), r"\(1, 2, 28, 28\): expected"),
        (lambda: plots.rows({"a": torch.zeros(2, 1, 4, 4), "b": torch.zeros(3, 1, 4, 4)}), r"\[2, 3\]: expected one"),
        (lambda: plots.rows({"a": torch.zeros(2, 1, 4, 4)}, titles=["x"]), r"\[1, 2\]: expected one"),
        (lambda: plots.grid(torch.zeros(4, 1, 4, 4), 2, row_labels=["x"]), "1 row labels: expected 2"),
        (lambda: plots.grid(torch.zeros(4, 1, 4, 4), 2, column_labels=["x"]), "1 column labels: expected 2"),
        (lambda: plots.curves([1], {"a": [1]}, "x", "y", errors={"b": [1]}), r"\['b'\]: expected some of \['a'\]"),
        (lambda: plots.animation([], "x.gif"), "0 frames: expected"),
        (lambda: widgets.forward_frame(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), 5, "square", 10), "'square'"),
    ],
)
def test_bad_input_is_named(draw, message) -> None:
    with pytest.raises(ValueError, match=message):
        draw()
