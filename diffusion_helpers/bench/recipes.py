"""The recipes of the shipped models, and the command that retrains each of them:

    python -m diffusion_helpers.bench.recipes mnist-guided

Training can be stopped at any time (Ctrl-C) and goes on from ``runs/NAME.checkpoint`` when the same
command is given again. The finished model goes to ``runs/NAME.safetensors``, or where ``--to`` says; the shipped ones
are in ``diffusion_helpers/shipped``. The card of each model holds its recipe, data checksum, hardware and held-out loss.
On several processes, devices or machines: ``accelerate launch -m diffusion_helpers.bench.recipes mnist-guided``.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import getdoc, signature
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import data, train, weights
from ..words import Scenes, judge, make
from . import held_out, launch
from .losses import (
    classifier_loss,
    logit_normal_loss,
    noisy_end_loss,
    one_step_loss,
    scene_loss,
    stratified_loss,
)


@dataclass(frozen=True)
class Recipe:
    """How a model is built (``spec``), what it minimises, on which data, and how it is trained (``fit``)."""

    spec: dict
    loss: Callable[..., Callable[..., Tensor]]
    held_out: Callable[[nn.Module, data.Images], dict]
    fit: dict
    augment: Callable[[Tensor], Tensor] | None = None
    labels: bool = False
    data_set: str = "mnist"
    balanced: bool = False  # each class drawn as often as the others
    then: tuple[dict, ...] = ()  # what changes of ``fit``, or the ``loss``, in each further training of the same model
    load: Callable[[str], data.Images] | None = None  # by split, where the images are made of those of data sets

    def images(self, split: str) -> data.Images:
        """What the model is trained and tested on. Raises ValueError where this machine has only a part of it."""
        if self.load:
            return self.load(split)
        return whole(self.data_set) if split == "train" else data.load(self.data_set, split)

    def objective(self, model: nn.Module, loss: Callable | None = None) -> Callable[..., Tensor]:
        """What ``train.fit`` minimises: the loss of ``model`` on a batch, by ``loss`` if another is given."""
        loss = loss or self.loss
        return loss(model) if self.augment is None else loss(model, augment=self.augment)

    @property
    def stages(self) -> list[dict]:
        """What ``train.fit`` is given, for one training after another."""
        return [self.fit, *(self.fit | {"epochs": None} | more for more in self.then)]

    @property
    def text(self) -> str:
        """The recipe in words, for the card: what is not in ``spec``, nor a number of its own there."""
        usual = {name: option.default for name, option in signature(train.fit).parameters.items()}
        chosen = usual | self.fit
        words = ["classes drawn evenly"] if self.balanced else []
        words += [getdoc(self.loss).split("\n")[0].rstrip(".")]
        words += [f"images changed by {self.augment.__name__}"] if self.augment else []
        optimizer, more = chosen["optimizer"], ""
        if isinstance(optimizer, partial):
            optimizer, more = optimizer.func, "".join(f", {name} {value}" for name, value in optimizer.keywords.items())
        words += [f"{optimizer.__name__}{more}, {chosen['decay'].__name__} rate", f"EMA {chosen['ema']}"]
        for more in self.then:
            words += [
                "then " + ", ".join(f"{name} {getattr(value, '__name__', value)}" for name, value in more.items())
            ]
        return "; ".join(words)


def _scenes(n: int, split: str, seed: int, held_out: bool = False) -> Scenes:
    """``n`` training scenes, or 5,000 for tests. Raises ValueError unless both data sets are whole."""
    for name in ("mnist", "fashion"):
        whole(name)
    return make(n if split == "train" else 5_000, seed, split, held_out=held_out)


def captioned(split: str) -> data.Images:
    """Scenes with their captions as tokens."""
    return _scenes(262_144, split, seed=0).captioned()


def described(split: str) -> data.Images:
    """Scenes with what is in them, as many with pairs of colour and kind that are held out as without."""
    parts = [_scenes(60_000, split, seed, held_out) for seed, held_out in ((0, False), (1, True))]
    return data.Images(torch.cat([p.images for p in parts]), torch.cat([p.scenes for p in parts]), parts[0].source)


def hardware(device: torch.device) -> str:
    """How cards and reports name what a model ran on: the GPU, or the number of CPU threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def _course(classes: int, D: int) -> dict:
    config = {"D": D, "time": True, "classes": classes}
    return {"network": "CourseUNet", "config": config, "kind": "eps", "schedule": {"name": "linear_beta", "T": 300}}


def _residual(config: dict) -> dict:
    return {"network": "ResidualUNet", "config": config, "kind": "flow", "schedule": {"name": "flow"}}


_RESIDUAL_FIT = {
    "epochs": 6,
    "batch": 64,
    "lr": 1e-3,
    "decay": train.linear,
    "optimizer": torch.optim.AdamW,
    "ema": 0.9995,
}
MUON = partial(train.Muon, rest=2e-3)
RECIPES: dict[str, Recipe] = {
    "mnist-denoiser": Recipe(
        spec={"network": "CourseUNet", "config": {"D": 32}},
        loss=one_step_loss,
        held_out=held_out.one_step,
        fit={"epochs": 5, "batch": 256, "lr": 1e-3},
    ),
    "mnist-classifier": Recipe(
        spec={"network": "Classifier", "config": {}},
        loss=classifier_loss,
        held_out=held_out.classifier,
        fit={"epochs": 12, "batch": 128, "lr": 2e-3, "decay": train.linear, "optimizer": torch.optim.AdamW},
        labels=True,
    ),
    "mnist-ddpm": Recipe(
        spec=_course(0, 32),
        loss=stratified_loss,
        held_out=held_out.diffusion,
        fit={"epochs": 24, "batch": 64, "lr": 2e-3},
    ),
    "mnist-guided": Recipe(
        spec=_course(10, 32),
        loss=stratified_loss,
        held_out=held_out.diffusion,
        fit={"epochs": 24, "batch": 64, "lr": 2e-3},
        labels=True,
    ),
    "mnist-guided-residual": Recipe(
        spec=_residual({"widths": [64, 96], "classes": 10}),
        loss=logit_normal_loss,
        held_out=held_out.diffusion,
        fit=_RESIDUAL_FIT,
        labels=True,
    ),
    "fashion-classifier": Recipe(
        spec={"network": "Classifier", "config": {}},
        loss=classifier_loss,
        augment=data.flip,
        held_out=held_out.classifier,
        fit={"epochs": 12, "batch": 128, "lr": 2e-3, "decay": train.linear, "optimizer": torch.optim.AdamW},
        labels=True,
        data_set="fashion",
    ),
    "fashion-guided": Recipe(
        spec=_residual({"widths": [64, 96], "classes": 10}),
        loss=logit_normal_loss,
        held_out=held_out.diffusion,
        fit=_RESIDUAL_FIT | {"epochs": 10},
        labels=True,
        data_set="fashion",
    ),
    "cells-classifier": Recipe(
        spec={"network": "Classifier", "config": {"classes": 3, "width": 16, "channels": 3, "size": 64}},
        loss=classifier_loss,
        augment=data.turn,
        held_out=held_out.classifier,
        fit={"epochs": 8, "batch": 64, "lr": 1e-3, "decay": train.linear, "optimizer": torch.optim.AdamW},
        labels=True,
        data_set="cells",
        balanced=True,
    ),
    "cells-guided": Recipe(
        spec=_residual({"widths": [48, 64, 96, 96], "attention": [1, 2], "classes": 3, "channels": 3, "dropout": 0.1}),
        loss=logit_normal_loss,
        augment=data.turn,
        held_out=held_out.diffusion,
        fit=_RESIDUAL_FIT | {"epochs": 14, "batch": 32, "ema": 0.999},
        labels=True,
        data_set="cells",
        balanced=True,
    ),
    "captions": Recipe(
        spec={
            "network": "CaptionUNet",
            "config": {"widths": [64, 128], "attention": [1]},
            "kind": "flow",
            "schedule": {"name": "flow"},
        },
        loss=logit_normal_loss,
        held_out=held_out.diffusion,
        fit={"epochs": 3, "batch": 1024, "lr": 4e-3, "decay": train.linear, "optimizer": MUON},
        then=(
            {"seconds": 560, "batch": 64, "lr": 2e-3, "seed": 1},
            {"seconds": 5400, "batch": 64, "lr": 2e-3, "seed": 2},
            {"seconds": 400, "batch": 64, "lr": 1e-3, "seed": 3, "ema": 0.99, "loss": noisy_end_loss},
        ),
        labels=True,
        data_set="scenes",
        load=captioned,
    ),
    "captions-judge": Recipe(
        spec={"network": "Classifier", "config": {"classes": sum(judge.HEADS), "width": 32, "channels": 3, "size": 32}},
        loss=scene_loss,
        held_out=held_out.scenes,
        fit={"epochs": 4, "batch": 128, "lr": 2e-3, "decay": train.linear, "optimizer": torch.optim.AdamW},
        labels=True,
        data_set="scenes",
        load=described,
    ),
}


def whole(name: str) -> data.Images:
    """All training images of a set. Raises ValueError where this machine has only some of them.

    From fewer, a shipped model would give way to a worse one.
    """
    training, size = data.load(name, "train"), data.SOURCES[name].sizes["train"]
    if len(training.images) < size:
        raise ValueError(
            f"{len(training.images):,} training images of {name}: expected {size:,} (see DIFFUSION_DATA in README.md)"
        )
    return training


def provenance(model: nn.Module, name: str, training: data.Images, device: torch.device) -> dict:
    """What every card says of its data, its machine and its size."""
    return {
        "data": {
            "name": name,
            "split": "train",
            "source": training.source,
            "N": len(training.images),
            "sha256": training.checksum,
        },
        "hardware": hardware(device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def run(name: str, to: Path, folder: Path, autocast: torch.dtype | None) -> dict | None:
    """Train the model of a recipe, resuming if there is a checkpoint in ``folder``; write it to ``to``; its card.

    Of several processes, all train, and the first writes: the others have no card.
    """
    recipe = RECIPES[name]
    if to.suffix != ".safetensors":
        raise ValueError(f"{to}: expected a path that ends in .safetensors")
    training, test = recipe.images("train"), recipe.images("test")
    engine = launch.accelerator()
    device, first = launch.device(engine), launch.first(engine)
    torch.manual_seed(0)
    model = weights.build(recipe.spec).to(device, memory_format=torch.channels_last)
    images, labels, _ = (training.balanced() if recipe.balanced else training).to(device)
    given = (images, labels) if recipe.labels else (images,)
    to.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    begun = f"{name}: {recipe.text}; {json.dumps(recipe.spec)}; data {training.checksum}"
    seen, seconds, checkpoints = 0, 0.0, []
    for fit in recipe.stages:
        checkpoints.append(folder / f"{name}{'.then' * len(checkpoints)}.checkpoint")
        options = fit | {"autocast": autocast, "checkpoint": checkpoints[-1], "run": begun, "accelerator": engine}
        objective = recipe.objective(model, options.pop("loss", None))
        for step in train.fit(model, objective, given, **options):
            if step.step % 100 == 0 and first:
                print(json.dumps({"step": step.step, "of": step.steps, "loss": round(step.loss, 5)}), flush=True)
        if first:
            state = torch.load(checkpoints[-1], weights_only=True)  # of every sitting
            seen, seconds = seen + state["done"] * fit["batch"], seconds + state["seconds"]
    if not first:
        return None
    card = {
        "name": name,
        "spec": recipe.spec,
        "recipe": recipe.text,
        "epochs": recipe.fit["epochs"],
        "batch": recipe.fit["batch"],
        "lr": recipe.fit["lr"],
        "seed": 0,
        "precision": str(autocast or torch.float32).removeprefix("torch."),
        "images_seen": seen,
        "seconds": round(seconds),
    }
    card |= provenance(model, recipe.data_set, training, device)
    if engine:
        card["hardware"] += f", {engine.num_processes} processes"
    card["data"]["balanced"] = recipe.balanced
    weights.save(model, to, card)
    card["held_out"] = recipe.held_out(weights.load(to, device), test.to(device))
    weights.save(model, to, card)
    for checkpoint in checkpoints:
        checkpoint.unlink()
    return card


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m diffusion_helpers.bench.recipes", description=__doc__.split("\n")[0]
    )
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--to", type=Path, help="the file to write (default: NAME.safetensors in the folder of --runs)")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder for checkpoint and model (default: runs)"
    )
    parser.add_argument("--bfloat16", action="store_true", help="mixed precision, on processors and GPUs that have it")
    chosen = parser.parse_args()
    to = chosen.to or chosen.runs / f"{chosen.name}.safetensors"
    try:
        card = run(chosen.name, to, chosen.runs, torch.bfloat16 if chosen.bfloat16 else None)
    except ValueError as error:
        parser.error(str(error))
    if card:
        print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
