"""The reference of the marks for trained models: ``python tools/measure_bands.py denoiser ddpm guided``.

Trains the model of lesson 02, 03 or 04 in its quick budget with five seeds, measures each on the test digits, and
writes mean and spread to tools/bands.json. Prints the seconds: the three kinds take very unlike times.
"""

import argparse
import json
import statistics
import time

import bands
import torch

from diffusion_helpers import data, schedules, train
from diffusion_helpers.bench import losses
from diffusion_helpers.denoise import Denoiser
from diffusion_helpers.unet import CourseUNet

SEEDS = range(5)
# As the lessons say: digits, epochs, batch and learning rate; the width D is 16.
QUICK = {"denoiser": (6000, 5, 64, 2e-3), "ddpm": (3000, 20, 32, 4e-3), "guided": (2500, 20, 32, 4e-3)}


def trained(kind: str, seed: int, training: data.Images) -> torch.nn.Module:
    count, epochs, batch, rate = QUICK[kind]
    torch.manual_seed(seed)
    if kind == "denoiser":
        model = CourseUNet(D=16)
        loss, inputs = losses.one_step_loss(model), (training.images[:count],)
    else:
        net = CourseUNet(D=16, time=True, classes=10 * (kind == "guided"))
        model = Denoiser(net, "eps", schedules.linear_beta(300))
        loss = losses.diffusion_loss(model)
        inputs = (training.images[:count], training.labels[:count])[: 1 + (kind == "guided")]
    *_, last = train.fit(model, loss, inputs, epochs=epochs, batch=batch, lr=rate, bar=False)
    return last.model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", choices=list(QUICK), nargs="+")
    kinds = parser.parse_args().kinds
    training, test = data.load("mnist", "train"), data.load("mnist", "test")
    for kind in kinds:
        start, errors = time.perf_counter(), []
        for seed in SEEDS:
            errors.append(round(bands.error(kind, trained(kind, seed, training), test), 5))
            print(f"{kind}, seed {seed}: {errors[-1]:.5f}   {time.perf_counter() - start:.0f} s", flush=True)
        stored = bands.stored()
        mean, sd = round(statistics.mean(errors), 5), round(statistics.stdev(errors), 5)
        stored[kind] = {"mean": mean, "sd": sd, "errors": errors, "N": len(test.images), "data": test.source}
        bands.FILE.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
