"""Figures show what they are given, frames are pure functions of their values, and widgets redraw."""

import base64
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from diffusion_helpers import metrics, plots, samplers, schedules, widgets
from diffusion_helpers.denoise import Denoised, Denoiser
from diffusion_helpers.schedules import linear_beta
from diffusion_helpers.unet import ResidualUNet


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


X0 = torch.linspace(-1, 1, 28 * 28).reshape(1, 1, 28, 28)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("T", [50, 1000])
def test_the_forward_frame_draws_over_its_whole_range_and_changes_with_time(schedule, T) -> None:
    eps = torch.randn_like(X0)
    drawn = [picture(widgets.forward_frame(X0, eps, percent, schedule, T)) for percent in (0, 50, 100)]
    again = picture(widgets.forward_frame(X0, eps, 50, schedule, T))
    assert np.array_equal(drawn[1], again)
    assert not np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[1], drawn[2])


class Halve(nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z / 2


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
def test_the_denoise_frame_draws_over_its_whole_range(sigma) -> None:
    x, eps = (X0 + 1) / 2, torch.randn_like(X0)
    frame = widgets.denoise_frame(Halve(), x, eps, sigma)
    assert not np.array_equal(picture(frame), picture(widgets.denoise_frame(Halve(), x, eps, sigma + 0.3)))


def trajectory(seed: int) -> samplers.Trajectory:
    def shrink(x, level):
        return Denoised(x, x / 2, level)

    noise = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return samplers.Trajectory(samplers.sample(shrink, noise, linear_beta(10).grid(10)))


def test_the_scrub_frame_draws_every_state() -> None:
    run = trajectory(0)
    frames = [picture(widgets.scrub_frame(run, linear_beta(10), i)) for i in range(len(run))]
    assert all(not np.array_equal(a, b) for a, b in zip(frames, frames[1:], strict=False))


def small_model() -> Denoiser:
    torch.manual_seed(0)
    model = Denoiser(ResidualUNet((8,), attention=(), classes=10), "flow", schedules.flow())
    for weights in model.parameters():  # a fresh network answers 0 to everything
        nn.init.normal_(weights, std=0.2)
    return model


def test_the_guidance_frame_depends_on_digit_guidance_and_seed() -> None:
    model = small_model()
    values = [(3, 2.0, 0), (4, 2.0, 0), (3, 5.0, 0), (3, 2.0, 1)]
    frames = [picture(widgets.guidance_frame(model, *value, steps=2, count=8)) for value in values]
    assert all(not np.array_equal(frames[0], other) for other in frames[1:])


SAMPLES = {gamma: torch.linspace(-1, 1, 8 * 784).reshape(8, 1, 28, 28) * gamma / 5 for gamma in (1.0, 2.0, 5.0)}
MEASURED = {
    gamma: {n: metrics.Result(gamma + 100 / n, 0.1, 50 / n, 0.01) for n in (100, 200, 500)} for gamma in SAMPLES
}


@pytest.mark.parametrize("gamma", SAMPLES)
def test_the_evaluation_frame_states_fid_error_floor_and_their_ratio(gamma) -> None:
    for n in (100, 200, 500):
        figure = widgets.evaluation_frame(SAMPLES, MEASURED, gamma, n)
        value, floor = gamma + 100 / n, 50 / n
        assert figure.axes[1].get_title() == f"N = {n}: FID {value:.2f} ± 0.10, {value / floor:.1f} times the floor"
        names = [line.get_text() for line in figure.axes[1].get_legend().get_texts()]
        assert names == ["γ = 1", "γ = 2", "γ = 5", "floor: real digits"]


EXPLORERS = {
    "evaluation": lambda: widgets.evaluation_explorer(SAMPLES, MEASURED),
    "forward": lambda: widgets.forward_explorer(X0),
    "denoise": lambda: widgets.denoise_explorer(Halve(), torch.zeros(2, 1, 28, 28, dtype=torch.uint8)),
    "scrubber": lambda: widgets.scrubber({0: trajectory(0), 1: trajectory(1)}, linear_beta(10), start=4),
    "guidance": lambda: widgets.guidance_explorer(small_model()),
}


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_control_changes_the_picture_and_back(name) -> None:
    explorer = EXPLORERS[name]()
    first = explorer.image.value
    for control in explorer.controls.values():
        before = control.value
        other = next(v for v in control.options if v != before) if hasattr(control, "options") else control.max
        control.value = other
        assert explorer.image.value != first
        control.value = before
        assert explorer.image.value == first


@pytest.mark.parametrize("name", EXPLORERS)
def test_the_first_frame_is_stored_beside_the_widget(name) -> None:
    explorer = EXPLORERS[name]()
    bundle = explorer._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == explorer.image.value
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.view.model_id


def test_an_error_in_a_frame_is_raised_not_swallowed() -> None:
    import ipywidgets

    def frame(value):
        if value:
            raise RuntimeError("drawn wrongly")
        return widgets.forward_frame(X0, X0, 0, "linear", 10)

    explorer = widgets.Explorer(frame, {"value": ipywidgets.IntSlider(0)})
    with pytest.raises(RuntimeError, match="drawn wrongly"):
        explorer.controls["value"].value = 1
