"""What should the network predict, and on which path? ``python tools/measure_objectives.py`` compares at equal steps.

One network, ``ResidualUNet((16, 32))``, is trained anew for each pair of objective and path and each seed, on the 5,000
digits that come with the package. Everything else is the same for all: the order of the images, stratified uniform
times, Muon with its rate falling to 0, the averaged weights, and for drawing 20 steps of DDIM with the labels as they
are and x0 clipped to [-1, 1]. The learning rates were chosen by the loss of flow on the flow path, with another seed;
nothing was searched for the others. FID and the share of digits read as asked are through ``mnist-classifier``, on
N = 500; the error of x0 is at each log SNR the mean over 300 test digits. The results go to a JSON file after each run,
and a second start goes on from there.
"""

from __future__ import annotations

from functools import partial

import runs
import torch

from diffusion_helpers import data, edits, samplers, schedules, train, weights
from diffusion_helpers.bench import metrics, speedrun
from diffusion_helpers.denoise import Denoiser

CHOICES = {
    "flow, flow": ("flow", {"name": "flow"}),
    "ε, cosine": ("eps", {"name": "cosine"}),
    "v, cosine": ("v", {"name": "cosine"}),
    "x₀, cosine": ("x0", {"name": "cosine"}),
    "ε, linear β": ("eps", {"name": "linear_beta"}),
    "flow, cosine": ("flow", {"name": "cosine"}),
}  # target and path; the most asked for first, if time runs out
PROTOCOL = {"widths": [16, 32], "images": 5000, "epochs": 3, "batch": 32, "lr": 1e-2, "rest": 1e-2, "ema": 0.999}
LOG_SNR = [-8, -6, -4, -2, 0, 2, 4, 6]
PROTOCOL |= {
    "log_snr": LOG_SNR,
    "optimizer": "Muon",
    "times": "stratified",
    "sampler": "ddim, x0 clipped",
    "evaluations": 20,
    "N": 500,
}


def trained(kind: str, schedule: dict, seed: int, training: data.Images) -> tuple[Denoiser, int, float]:
    """The denoiser, the number of steps, and the mean training loss over its last tenth of them."""
    torch.manual_seed(seed)
    config = {"widths": PROTOCOL["widths"], "classes": 10}
    model = weights.build({"network": "ResidualUNet", "config": config, "kind": kind, "schedule": schedule})

    def loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return model.loss(data.symmetric(images), labels, model.schedule.stratified(len(images)))

    options = {name: PROTOCOL[name] for name in ("epochs", "batch", "lr", "ema")}
    options |= {
        "optimizer": partial(train.Muon, rest=PROTOCOL["rest"]),
        "decay": train.linear,
        "seed": seed,
        "bar": False,
    }
    losses = [step.loss for step in train.fit(model, loss, (training.images, training.labels), **options)]
    last = losses[-len(losses) // 10 :]
    return model, len(losses), sum(last) / len(last)


def drawn(model: Denoiser, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Digits (N, 1, 28, 28) in [-1, 1] and their labels, from the same noise for every model."""
    y = torch.arange(PROTOCOL["N"]) % 10
    noise = torch.randn(len(y), 1, 28, 28, generator=torch.Generator().manual_seed(1000 + seed))
    levels, images = model.schedule.grid(PROTOCOL["evaluations"]), []
    for x, labels in zip(noise.split(250), y.split(250), strict=True):
        *_, last = samplers.sample(edits.clip(edits.given(model, labels)), x, levels)
        images.append(last.x.clamp(-1, 1))
    return torch.cat(images), y


@torch.no_grad()
def errors(model: Denoiser, test: data.Images) -> list[float]:
    """Mean squared error of x0, clipped as for drawing, at each of the log SNR: the same noise for every model."""
    x0, y = data.symmetric(test.images[:300]), test.labels[:300]
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    known = model.schedule(torch.linspace(0.001, 0.9999, 20_000, dtype=torch.float64))
    levels = [model.schedule(known.t[(known.snr.log() - at).abs().argmin()]) for at in LOG_SNR]
    denoise = edits.clip(edits.given(model, y))
    found = [denoise(schedules.noise(x0, level, eps), level).x0 - x0 for level in levels]
    return [round(error.square().mean().item(), 5) for error in found]


def main() -> None:
    parser = runs.parser(__doc__, "objectives")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    try:
        found = runs.Runs(chosen.json, PROTOCOL)
    except ValueError as error:
        parser.error(str(error))
    judge, full, test = weights.load("mnist-classifier"), data.load("mnist", "train"), data.load("mnist", "test")
    reference = metrics.extract(data.symmetric(test.images), judge, test.labels)
    real = metrics.extract(data.symmetric(full.images[: 6 * PROTOCOL["N"]]), judge, full.labels[: 6 * PROTOCOL["N"]])
    found.facts["reference"] = {"test images": len(test.images), "training images for the floor": len(real)}

    for name, (kind, schedule) in CHOICES.items():
        for seed in chosen.seeds:
            if not found.missing(name=name, seed=seed):
                continue
            model, steps, loss = trained(kind, schedule, seed, speedrun.sample())
            images, y = drawn(model, seed)
            report = metrics.report(metrics.extract(images, judge, y), reference, real)
            run = {"name": name, "kind": kind, "schedule": schedule["name"], "seed": seed, "steps": steps}
            run |= {"loss": round(loss, 5), "x0_errors": errors(model, test)}
            run |= {key: report[key]._asdict() for key in ("fid", "label_agreement")}
            found.keep(run)
            print(
                f"{name}, seed {seed}: FID {run['fid']['value']:.2f} {run['label_agreement']['value']:.3f}", flush=True
            )


if __name__ == "__main__":
    main()
