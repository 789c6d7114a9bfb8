"""Frames are pure functions of their values; widgets show the frame of their values, and nothing else."""

import base64
import sys
from io import BytesIO
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image
from torch import nn

from diffusion_helpers import samplers, schedules
from diffusion_helpers.bench import metrics
from diffusion_helpers.denoise import Denoised, Denoiser
from diffusion_helpers.lessons import plots, widgets
from diffusion_helpers.schedules import linear_beta
from diffusion_helpers.unet import Classifier, ResidualUNet


def picture(figure) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(plots.png(figure))))


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


def test_the_sampler_frame_counts_evaluations_and_eta_matters_to_ddim_alone() -> None:
    model = small_model()
    titles = [widgets.sampler_frame(model, name, 5, 0.5).axes[0].get_title() for name in widgets.SOLVERS]
    assert [title.split(", ")[-1] for title in titles] == ["5 evaluations", "8 evaluations", "5 evaluations"]
    for name in widgets.SOLVERS:
        still, stirred = (picture(widgets.sampler_frame(model, name, 3, eta))[30:] for eta in (0.0, 1.0))
        assert np.array_equal(still, stirred) == (name != "DDIM")


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


# Explorers: a frame is drawn when its values are asked for


def ramp(*corners: int) -> torch.Tensor:
    """A drawing, (1, 28, 28) uint8: a white rectangle from (top, left) to (bottom, right)."""
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    top, left, bottom, right = corners
    image[0, top:bottom, left:right] = 255
    return image


PRESETS = {"bar": ramp(4, 12, 24, 16), "block": ramp(2, 2, 12, 20)}
IMAGES = {"high": ramp(2, 10, 16, 18), "wide": ramp(10, 2, 18, 26)}
EXPLORERS = {
    "guidance": lambda: widgets.guidance_explorer(small_model()),
    "sampler": lambda: widgets.sampler_explorer(small_model()),
    "drawing": lambda: widgets.drawing_explorer(Halve(), Classifier().eval(), PRESETS),
    "edit": lambda: widgets.edit_explorer(small_model(), Classifier().eval(), PRESETS),
    "fill": lambda: widgets.fill_explorer(small_model(), Classifier().eval(), IMAGES, PRESETS),
}


def another(control: ipywidgets.Widget) -> object:
    """A value that the control can take and does not have."""
    if isinstance(control, widgets.Pad):
        return encoded(PRESETS["block"])
    if not hasattr(control, "options"):
        return control.max
    values = [option[1] if isinstance(option, tuple) else option for option in control.options]
    return next(v for v in values if v != control.value)


def encoded(image: torch.Tensor) -> str:
    return base64.b64encode(image.numpy().tobytes()).decode()


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_control_changes_the_picture_and_back(name) -> None:
    explorer = EXPLORERS[name]()
    first = explorer.image.value
    for control in explorer.controls.values():
        before = control.value
        control.value = another(control)
        assert explorer.image.value != first
        control.value = before
        assert explorer.image.value == first


@pytest.mark.parametrize("name", EXPLORERS)
def test_the_first_frame_is_stored_beside_the_widget(name) -> None:
    explorer = EXPLORERS[name]()
    bundle, _ = explorer._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == explorer.image.value
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.view.model_id


def test_two_explorers_do_not_disturb_each_other() -> None:
    one, other = EXPLORERS["guidance"](), EXPLORERS["guidance"]()
    before = other.image.value
    one.controls["digit"].value = 9
    assert other.image.value == before and other.controls["digit"].value == 3


def test_an_error_in_a_frame_is_raised_not_swallowed() -> None:
    def frame(value):
        if value:
            raise RuntimeError("drawn wrongly")
        return widgets.forward_frame(X0, X0, 0, "linear", 10)

    explorer = widgets.Explorer(frame, {"value": ipywidgets.IntSlider(0)})
    with pytest.raises(RuntimeError, match="drawn wrongly"):
        explorer.controls["value"].value = 1


# Flipbooks: every frame is there from the start

FLIPBOOKS = {
    "forward": lambda: widgets.forward_explorer(X0),
    "evaluation": lambda: widgets.evaluation_explorer(SAMPLES, MEASURED),
    "denoise": lambda: widgets.denoise_explorer(Halve(), torch.zeros(2, 1, 28, 28, dtype=torch.uint8)),
    "scrubber": lambda: widgets.scrubber({7: trajectory(0), 8: trajectory(1)}, linear_beta(10), start=4, every=2),
}


@pytest.mark.parametrize("name", FLIPBOOKS)
def test_a_flipbook_holds_a_picture_for_every_combination_and_all_differ(name) -> None:
    book = FLIPBOOKS[name]()
    sizes = [len(axis["values"]) for axis in book.axes]
    assert len(book.pictures) == len(set(book.pictures)) == np.prod(sizes)


def test_a_flipbook_shows_the_frame_of_its_place() -> None:
    runs, schedule = {7: trajectory(0), 8: trajectory(1)}, linear_beta(10)
    book = widgets.scrubber(runs, schedule, start=4, every=2)
    assert book.value == {"i": 4, "seed": 7}
    for place in ([2, 0], [0, 1], [5, 1]):
        book.place = place
        assert book.value == {"i": 2 * place[0], "seed": 7 + place[1]}
        shown = np.asarray(Image.open(BytesIO(book.picture)).convert("RGB")).astype(float)
        drawn = picture(widgets.scrub_frame(runs[book.value["seed"]], schedule, book.value["i"]))[..., :3]
        assert np.abs(shown - drawn).mean() < 3  # 32 colours are close to all of them


def test_a_flipbook_stores_its_first_frame_and_opens_where_it_is_told() -> None:
    book = FLIPBOOKS["scrubber"]()
    bundle, _ = book._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == book.picture
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == book.model_id
    with pytest.raises(ValueError, match=r"i starts at 3: expected one of \[0, 2, 4"):
        widgets.scrubber({7: trajectory(0)}, linear_beta(10), start=3, every=2)


def test_a_photograph_keeps_its_colours_in_a_flipbook() -> None:
    """As of cells: pale areas, some of them violet, under noise."""
    torch.manual_seed(0)
    x = torch.full((2, 3, 64, 64), 0.6)
    x[:, :, 20:44, 20:44] = torch.tensor([0.2, -0.4, 0.7]).reshape(3, 1, 1)
    frames = {"noisy": 0.5 * x + 0.5 * torch.randn_like(x), "clean": x + 0.05 * torch.randn_like(x)}
    figure = plots.rows(frames)
    book = widgets.Flipbook(lambda i: figure, {"i": [0]}, {"i": 0}, {"i": "step"})
    shown = np.asarray(Image.open(BytesIO(book.picture)).convert("RGB")).astype(float)
    drawn = picture(figure)[..., :3]
    clean = np.s_[shown.shape[0] // 2 :, shown.shape[1] // 4 :]
    assert np.abs(shown - drawn)[clean].mean() < 4


# What is published of a widget


VIEW = "application/vnd.jupyter.widget-view+json"
MANAGER = "https://example.org/manager.js"
# As google.colab.output is: it knows the address of its manager once that is enabled. anywidget enables it only once.
COLAB = SimpleNamespace(_widgets=SimpleNamespace(_installed_url=None))
COLAB.enable_custom_widget_manager = lambda: setattr(COLAB._widgets, "_installed_url", MANAGER)


@pytest.mark.parametrize("name", [*EXPLORERS, *FLIPBOOKS])
def test_colab_is_told_where_its_manager_of_widgets_is_and_others_nothing(name, monkeypatch) -> None:
    widget = (EXPLORERS | FLIPBOOKS)[name]()
    elsewhere = DisplayFormatter().format(widget)
    assert set(elsewhere[0]) == {VIEW, "image/png", "text/plain"} and elsewhere[1] == {}
    monkeypatch.setitem(sys.modules, "google.colab.output", COLAB)
    data, metadata = DisplayFormatter().format(widget)
    assert data == elsewhere[0]
    assert metadata == {VIEW: {"colab": {"custom_widget_manager": {"url": MANAGER}}}}


# The pad


def test_a_preset_reaches_the_pad_and_a_drawing_replaces_it() -> None:
    pad = widgets.Pad(PRESETS)
    assert pad.value == pad.canvas.value == encoded(PRESETS["bar"])
    pad.preset.value = encoded(PRESETS["block"])
    assert pad.value == pad.canvas.value == encoded(PRESETS["block"])
    pad.canvas.value = encoded(ramp(0, 0, 28, 28))  # what the browser sends after a stroke
    assert pad.value == encoded(ramp(0, 0, 28, 28)) and pad.preset.label == "your own"
    pad.preset.value = encoded(PRESETS["block"])  # the same digit again
    assert pad.value == encoded(PRESETS["block"]) and pad.preset.label == "block"


def test_a_mask_is_drawn_over_the_image_that_was_chosen() -> None:
    explorer = EXPLORERS["fill"]()
    pad = explorer.controls["drawing"]
    assert pad.canvas.under == encoded(IMAGES["high"])
    explorer.controls["image"].value = encoded(IMAGES["wide"])
    assert pad.canvas.under == encoded(IMAGES["wide"])
    assert torch.equal(widgets.mask(pad.value), (PRESETS["bar"] > 0)[None].float())


@pytest.mark.parametrize("corners", [(4, 12, 24, 16), (0, 0, 8, 8), (20, 0, 28, 28), (3, 3, 5, 4), (0, 0, 28, 28)])
def test_a_drawing_is_brought_to_the_size_and_place_of_mnist(corners) -> None:
    ink = (widgets.digit(encoded(ramp(*corners)))[0, 0] + 1) / 2
    rows, columns = ((ink > 0.2).any(dim).nonzero().flatten() for dim in (1, 0))
    height, width = len(rows), len(columns)
    assert max(height, width) == 20
    assert abs(height / width - (corners[2] - corners[0]) / (corners[3] - corners[1])) < 0.2 * height / width
    for dim in (0, 1):
        centre = (ink.sum(1 - dim) * torch.arange(28)).sum() / ink.sum()
        assert abs(centre - 13.5) <= 0.51


def test_an_empty_pad_is_an_empty_image() -> None:
    assert torch.equal(widgets.digit(encoded(ramp(0, 0, 0, 0))), torch.full((1, 1, 28, 28), -1.0))


def test_the_classifier_reads_real_digits_as_well_after_the_pad_as_before() -> None:
    from diffusion_helpers import data, weights

    test = data.load("mnist", "test")
    images, labels = test.images[-100:], test.labels[-100:]
    drawn = torch.cat([widgets.digit(encoded(image)) for image in images])
    with torch.no_grad():
        right = (weights.load("mnist-classifier")(drawn).argmax(1) == labels).float().mean()
    assert right >= 0.97


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: widgets.digit("AAAA"), "3 bytes: expected 784"),
        (lambda: widgets.Pad({"a": torch.zeros(1, 28, 28)}), r"preset a: .*float32, expected"),
        (lambda: widgets.Pad({"a": torch.zeros(28, 28, dtype=torch.uint8)}), r"preset a: \(28, 28\)"),
    ],
)
def test_bad_input_is_named(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
