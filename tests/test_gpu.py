"""What only a GPU can show: the lessons' training cells in the full budget, exact resume, and that nothing waits.

Skipped where there is no CUDA. With it: ``pytest -m gpu tests/test_gpu.py``.
"""

import math
from contextlib import contextmanager
from itertools import islice

import pytest
import torch
from torch.nn import functional as F

from diffusion_helpers import data, edits, samplers, schedules, train, weights
from diffusion_helpers.bench import evaluate, losses
from diffusion_helpers.denoise import Denoiser
from diffusion_helpers.unet import CourseUNet, ResidualUNet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA"),
    pytest.mark.filterwarnings("ignore:FID of"),
]
CUDA = torch.device("cuda")
COURSE = schedules.linear_beta(300)


def images(n, *shape):
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, device=CUDA)


def pairs(n, classes, *shape):
    return images(n, *shape), torch.arange(n, device=CUDA) % classes


def pure_noise_loss(net):
    return lambda pixels: F.mse_loss(net(torch.randn(pixels.shape, device=CUDA)), data.unit(pixels))


def course_loss(model):
    return losses.diffusion_loss(model)


def stratified_loss(model):
    return losses.diffusion_loss(model, schedules.logit_normal)


def turned_loss(model):
    return losses.diffusion_loss(model, schedules.logit_normal, data.turn)


# The network, loss, data and settings of each training cell in the full budget, by lesson.
CELLS = {
    "02": (lambda: CourseUNet(128), losses.one_step_loss, (1, 28, 28), 0, {"batch": 256, "lr": 1e-4}),
    "02 pure noise": (lambda: CourseUNet(128), pure_noise_loss, (1, 28, 28), 0, {"batch": 256, "lr": 1e-4}),
    "03 and 05": (
        lambda: Denoiser(CourseUNet(64, time=True), "eps", COURSE),
        course_loss,
        (1, 28, 28),
        0,
        {"batch": 128, "lr": 1e-3},
    ),
    "04": (
        lambda: Denoiser(CourseUNet(64, time=True, classes=10), "eps", COURSE),
        course_loss,
        (1, 28, 28),
        10,
        {"batch": 128, "lr": 1e-3},
    ),
    "09 clothes": (
        lambda: Denoiser(ResidualUNet((24, 48), classes=10), "flow", schedules.flow()),
        stratified_loss,
        (1, 28, 28),
        10,
        {"batch": 64, "lr": 4e-3, "decay": train.linear, "ema": 0.98},
    ),
    "09 pictures": (
        lambda: Denoiser(ResidualUNet((24, 48), classes=3, channels=3), "flow", schedules.flow()),
        turned_loss,
        (3, 32, 32),
        3,
        {"batch": 64, "lr": 4e-3, "ema": 0.98},
    ),
}
every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


@contextmanager
def no_wait():
    """Within the block an operation that makes the CPU wait for the GPU is a RuntimeError."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def begun(cell, **options):
    """The steps of a training cell on random images, and its model."""
    make, loss, shape, classes, settings = cell
    torch.manual_seed(0)
    model = make().to(CUDA)
    torch.manual_seed(0)
    given = pairs(1024, classes, *shape) if classes else (images(1024, *shape),)
    return train.fit(model, loss(model), given, epochs=2, bar=False, **settings | options), model


@every_cell
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_the_training_cells_of_the_lessons_run_and_leave_finite_weights(cell, autocast):
    steps, model = begun(cell, autocast=autocast)
    losses = [step.loss for step in islice(steps, 3)]
    steps.close()
    assert len(losses) == 3 and all(map(math.isfinite, losses))
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_a_run_that_resumes_on_the_gpu_equals_the_uninterrupted_run(autocast, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    options = {"autocast": autocast, "checkpoint": tmp_path / "run", "run": "lesson 04"}
    whole = [step.loss for step in begun(CELLS["04"], autocast=autocast)[0]]
    first, _ = begun(CELLS["04"], **options)
    losses = []
    for step in islice(first, 5):
        losses.append(step.loss)
        torch.rand(3, device=CUDA)  # the caller's own numbers do not matter
    first.close()
    assert losses + [step.loss for step in begun(CELLS["04"], **options)[0]] == whole


@pytest.mark.parametrize("name", ["03 and 05", "04", "09 clothes"])
@pytest.mark.parametrize("t", [0.5, torch.linspace(0.1, 0.9, 8)], ids=["one level", "a level each"])
def test_no_forward_pass_waits_for_the_gpu(name, t):
    make, _, shape, classes, _ = CELLS[name]
    model, x = make().to(CUDA), torch.randn(8, *shape, device=CUDA)
    y = torch.arange(8, device=CUDA) % classes if classes else None
    level = model.schedule(t)
    with torch.no_grad():
        _ = model(x, level, y).eps  # the first call may set things up
        with no_wait():
            d = model(x, level, y)
            assert d.eps.shape == x.shape


@pytest.mark.parametrize("step", [samplers.ddim, samplers.ddpm, samplers.heun, samplers.dpmpp_2m])
def test_no_guided_run_waits_for_the_gpu(step):
    model = weights.load("mnist-guided-residual", CUDA)
    x, levels = torch.randn(4, 1, 28, 28, device=CUDA), model.schedule.grid(5)
    denoise = edits.clip(edits.classifier_free(model, torch.arange(4, device=CUDA), 2.0))
    list(samplers.sample(denoise, x, levels, step))
    with no_wait():
        *_, last = samplers.sample(denoise, x, levels, step)
    assert bool(last.x.isfinite().all())


def test_a_report_on_a_few_samples(monkeypatch):
    def few(name, split):
        return data.Images(images(60, 1, 28, 28).cpu(), torch.arange(60) % 10, "made up")

    monkeypatch.setattr(evaluate.data, "load", few)
    found = evaluate.evaluate("mnist-guided-residual", evaluate.Run(samples=20, steps=4, gamma=1.5))
    assert found["hardware"] == torch.cuda.get_device_name()
    assert all(math.isfinite(result["value"]) for result in found["metrics"].values())


def test_the_gpu_draws_what_the_cpu_draws_up_to_rounding():
    x, y = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    ends = []
    for device in ("cpu", CUDA):
        model = weights.load("mnist-guided-residual", device)
        denoise = edits.classifier_free(model, y.to(device), 1.5)
        *_, last = samplers.sample(denoise, x.to(device), model.schedule.grid(10))
        ends.append(last.x.cpu())
    assert (ends[0] - ends[1]).abs().median() < 0.02  # TF32 keeps ten bits of each factor
