"""What test_processes.py starts, in one process or in several: python processes.py WHAT FILE [JSON of options]."""

import itertools
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from diffusion_helpers import data, schedules, train
from diffusion_helpers.bench import evaluate, launch, recipes
from diffusion_helpers.denoise import Denoiser

DATA = (torch.linspace(-1, 1, 132).reshape(44, 3), torch.linspace(-1, 1, 44).square()[:, None])


class Painter(nn.Module):
    """Answers with the label as a brightness, and a part of what it is given, so that every random number counts."""

    classes, channels = 10, 1

    def __init__(self):
        super().__init__()
        self.part = nn.Parameter(torch.tensor(0.3))

    def forward(self, x, t, y):
        label = torch.as_tensor(y).reshape(len(x), -1)[:, :1].float()
        return self.part * x + label.reshape(-1, 1, 1, 1) / 10


def training(engine, noisy=True, accumulate=1, die=None, checkpoint=None):
    """Losses of 20 steps and the averaged weights; the process of the highest rank ends at step ``die``."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 16), nn.GELU(), nn.Linear(16, 1))

    def loss(x, y):
        return F.mse_loss(model(x + 0.1 * torch.randn_like(x) if noisy else x), y)

    if checkpoint:  # written after each step
        train.time = SimpleNamespace(monotonic=itertools.count(step=61).__next__)
    options = {"epochs": 4, "batch": 8, "lr": 0.01, "bar": False, "accumulate": accumulate, "accelerator": engine}
    losses = []
    for step in train.fit(model, loss, DATA, checkpoint=checkpoint, run="toy" if checkpoint else None, **options):
        losses.append(step.loss)
        if step.step == die and engine.process_index == engine.num_processes - 1:
            os._exit(3)
    return {"losses": losses, "weights": model.state_dict()}


def seconds(engine):
    """How many steps each process makes in half a second."""
    model = nn.Linear(3, 1)
    options = {"seconds": 0.5, "batch": 8, "lr": 0.01, "bar": False, "accelerator": engine}
    *_, last = train.fit(model, lambda x, y: F.mse_loss(model(x), y), DATA, **options)
    return {"steps": engine.gather(torch.tensor([last.step]))}


def samples(engine, sampler="ddpm"):
    evaluate.BATCH = 4
    model = Denoiser(Painter(), "x0", schedules.flow())
    run = evaluate.Run(samples=18, sampler=sampler, steps=3, gamma=1.5)
    images, labels, cost = evaluate.generate(model, (1, 4, 4), run, engine)
    return {"images": images, "labels": labels, "cost": cost}


def recipe(engine, folder):
    """The card of a recipe at the size of a toy."""
    digits = data.Images(torch.randint(0, 256, (40, 1, 28, 28)).byte(), torch.arange(40) % 10, "made up")
    small = {"epochs": 2, "batch": 8, "lr": 1e-3, "bar": False}
    recipes.RECIPES["tiny"] = replace(recipes.RECIPES["mnist-denoiser"], fit=small, load=lambda split: digits)
    return {"card": recipes.run("tiny", Path(folder) / "tiny.safetensors", Path(folder), None)}


if __name__ == "__main__":
    from accelerate import Accelerator

    what, file, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}")
    engine = launch.accelerator() or Accelerator()
    found = globals()[what](engine, **options)
    torch.save(found | {"processes": engine.num_processes}, f"{file}.{engine.process_index}")
