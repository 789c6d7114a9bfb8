"""Loss, path, training times, learning rate and average, at equal steps: ``python tools/measure_choices.py``.

One network, ``ResidualUNet((16, 32))``, learns to draw the 3,000 clothes that come with the package, anew for each
choice and each seed. Everything else is the same for all: the target eps - x0, the order of the images, stratified
times, Muon, and for drawing DDIM with the labels as they are and x0 clipped to [-1, 1]. A choice changes one thing of
the base (squared error, flow path, its uniform times, a rate falling to 0):

- the loss;
- the path, with uniform times of its own, so that the noise levels trained on change as well; or with the levels that
  the flow has at uniform times, so that the path alone changes;
- the rate, constant in place of falling.

Each network is measured as it is and as its running average. On the other paths the steps of drawing are even in the
time of the path, or go through the noise levels of the flow's even steps. The learning rate was chosen on the base with
seed 10 among 0.0025, 0.005 and 0.01; nothing was searched for the others. FID is through ``fashion-classifier``. The
results go to a JSON file after each run, and a second start goes on from there.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import runs
import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_helpers import data, edits, samplers, schedules, train, weights
from diffusion_helpers.bench import metrics
from diffusion_helpers.denoise import Denoiser
from diffusion_helpers.schedules import Level, Schedule

LOSSES = {"L2": F.mse_loss, "L1": F.l1_loss, "Huber": F.huber_loss}
BASE = {"loss": "L2", "path": "flow", "times": "own", "rate": "falling"}
CHOICES = {
    "base": {},
    "L1": {"loss": "L1"},
    "Huber": {"loss": "Huber"},
    "linear": {"path": "linear_beta"},
    "cosine": {"path": "cosine"},
    "linear, levels of the flow": {"path": "linear_beta", "times": "flow"},
    "cosine, levels of the flow": {"path": "cosine", "times": "flow"},
    "constant rate": {"rate": "constant"},
}
PROTOCOL = {"widths": [16, 32], "images": 3000, "epochs": 6, "batch": 32, "lr": 5e-3, "rest": 5e-3, "ema": 0.98}
PROTOCOL |= {"optimizer": "Muon", "sampler": "ddim, x0 clipped", "N": 500, "steps": [10, 50]}
BY_EPOCH = ("base", "constant rate")  # measured after each epoch
LONG = ("base", "linear", "cosine")  # drawn with both numbers of steps


def same_level(path: Schedule, t: Tensor) -> Tensor:
    """The times of ``path`` at which sigma / alpha is what the flow has at the times t."""
    known = path(torch.linspace(0, 1, (path.T or 20_000) + 1, dtype=torch.float64)[1:])
    ratios, wanted = (known.sigma / known.alpha.clamp(min=1e-9)).log(), torch.logit(t.double(), 1e-9)
    return torch.from_numpy(np.interp(wanted, ratios, known.t))


def grids(path: Schedule, steps: int) -> dict[str, list[Level]]:
    """Levels to draw through: even in the time of the path, and at the noise levels of even steps of the flow."""
    even = path.grid(steps)
    if path.T is None:
        return {"even": even}
    inner = same_level(path, torch.linspace(1, 0, steps + 1, dtype=torch.float64)[1:-1])
    return {"even": even, "levels of the flow": [even[0], *map(path, inner.tolist()), even[-1]]}


def trained(choice: dict, seed: int, training: data.Images):
    """The denoiser, and a generator that trains it and yields ``train.Step``."""
    torch.manual_seed(seed)
    config = {"widths": PROTOCOL["widths"], "classes": 10}
    spec = {"network": "ResidualUNet", "config": config, "kind": "flow", "schedule": {"name": choice["path"]}}
    model = weights.build(spec)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        if choice["times"] == "own":
            t = model.schedule.stratified(len(images))
        else:
            t = same_level(model.schedule, schedules.flow().stratified(len(images)))
        return model.loss(data.symmetric(images), labels, t, distance=LOSSES[choice["loss"]])

    options = {name: PROTOCOL[name] for name in ("epochs", "batch", "lr", "ema")}
    options |= {"optimizer": partial(train.Muon, rest=PROTOCOL["rest"]), "seed": seed, "bar": False}
    options["decay"] = train.linear if choice["rate"] == "falling" else lambda progress: min(1, progress / 0.02 + 0.01)
    return model, train.fit(model, loss, (training.images, training.labels), **options)


def drawn(model: Denoiser, seed: int, levels: list[Level]) -> tuple[Tensor, Tensor]:
    """Clothes (N, 1, 28, 28) in [-1, 1] and their labels, from the same noise for every model."""
    y = torch.arange(PROTOCOL["N"]) % 10
    noise, images = torch.randn(len(y), 1, 28, 28, generator=torch.Generator().manual_seed(1000 + seed)), []
    for x, labels in zip(noise.split(250), y.split(250), strict=True):
        *_, last = samplers.sample(edits.clip(edits.given(model, labels)), x, levels)
        images.append(last.x.clamp(-1, 1))
    return torch.cat(images), y


def main() -> None:
    parser = runs.parser(__doc__, "choices")
    parser.add_argument("--choices", nargs="+", default=list(CHOICES), choices=list(CHOICES), help="(default: all)")
    parser.add_argument("--lr", type=float, default=PROTOCOL["lr"], help="to choose it (default: %(default)s)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    PROTOCOL["lr"] = PROTOCOL["rest"] = chosen.lr
    try:
        found = runs.Runs(chosen.json, PROTOCOL)
    except ValueError as error:
        parser.error(str(error))
    judge, full, test = weights.load("fashion-classifier"), data.load("fashion", "train"), data.load("fashion", "test")
    reference = metrics.extract(data.symmetric(test.images), judge, test.labels)
    real = metrics.extract(data.symmetric(full.images[: 6 * PROTOCOL["N"]]), judge, full.labels[: 6 * PROTOCOL["N"]])
    training = data.Images(*data.SOURCES["fashion"].sample("train"), "sample")

    def measured(images: Tensor, y: Tensor) -> dict:
        report = metrics.report(metrics.extract(images, judge, y), reference, real)
        return {key: report[key]._asdict() for key in ("fid", "label_agreement")}

    noise = torch.randn(PROTOCOL["N"], 1, 28, 28, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    found.facts["noise"] = measured(noise, torch.arange(PROTOCOL["N"]) % 10)
    found.facts["reference"] = {"test images": len(test.images), "training images for the floor": len(real)}
    for seed in chosen.seeds:
        for name in chosen.choices:
            if not found.missing(name=name, seed=seed):
                continue
            run = {"name": name, "seed": seed} | BASE | CHOICES[name]
            model, steps = trained(run, seed, training)
            first, epochs = model.schedule.grid(PROTOCOL["steps"][0]), []
            for step in steps:
                if step.step == step.steps:
                    run["steps"] = step.steps
                    run["weights"] = measured(*drawn(model, seed, first))
                if step.epoch_ends and name in BY_EPOCH:
                    both = {"weights": model, "average": step.model}
                    epochs.append({key: measured(*drawn(of, seed, first))["fid"] for key, of in both.items()})
            run["by epoch"] = epochs
            run["average"] = {
                f"{count} steps, {key}": measured(*drawn(model, seed, levels))
                for count in PROTOCOL["steps"][: 2 if name in LONG else 1]
                for key, levels in grids(model.schedule, count).items()
            }
            found.keep(run)
            shown = {key: round(value["fid"]["value"], 2) for key, value in run["average"].items()}
            print(f"{name}, seed {seed}: {shown}, weights {run['weights']['fid']['value']:.2f}", flush=True)


if __name__ == "__main__":
    main()
