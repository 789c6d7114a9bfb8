"""The report on a model: samples, every measure of them, and what they cost.

    python -m diffusion_helpers.bench.evaluate mnist-guided-residual --samples 2000 --sampler ddim --steps 20 --gamma 1.25

prints a table and writes it as JSON, to ``--json`` or a file in ``runs``. What is not given is as the card of the
model says that it is best drawn. Samples are made 250 at a time, their labels balanced, and measured as 8-bit images,
so that ``--cache FILE`` gives the very same numbers again. What the measures, floors and error bars are:
see ``metrics``. Under ``accelerate launch -m`` the processes share the drawing, and the samples are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm.auto import tqdm

from .. import data, edits, samplers, weights
from ..denoise import Denoised, Denoiser
from ..schedules import Level
from . import launch, metrics, recipes, reports

if TYPE_CHECKING:
    from accelerate import Accelerator

BATCH = 250


@dataclass(frozen=True)
class Run:
    """How a set of samples is drawn. ``Run.of(card)`` is how a model is best drawn.

    ``sampler`` is a name in ``samplers.SAMPLERS``, ``spacing`` that of ``Schedule.grid``; ``gamma`` the guidance of a model
    with classes (1: the labels as they are), at the times t in ``interval``; ``precision`` "float32" or "bfloat16".
    Raises ValueError for a sampler or precision that is not known, and for fewer than 1 sample.
    """

    samples: int = 2000
    sampler: str = "ddim"
    steps: int = 20
    spacing: str = "uniform"
    gamma: float | None = None
    interval: tuple[float, float] = (0.0, 1.0)
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.sampler not in samplers.SAMPLERS:
            raise ValueError(f"sampler {self.sampler!r}: expected one of {', '.join(samplers.SAMPLERS)}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision {self.precision!r}: expected 'float32' or 'bfloat16'")
        if self.samples < 1:
            raise ValueError(f"{self.samples} samples: expected at least 1")

    @classmethod
    def of(cls, card: dict, **given: object) -> Run:
        """As the card of a model says that it is best drawn, but for what is given."""
        chosen = weights.draw(card) | given
        return cls(**chosen | {"interval": tuple(chosen.get("interval", cls.interval))})

    @property
    def name(self) -> str:
        """What tells it from other runs of a model, for a file name."""
        spaced = "" if self.spacing == "uniform" else f"-{self.spacing}"
        guided = "" if self.gamma is None else f"-gamma{self.gamma:g}"
        part = "" if tuple(self.interval) == (0.0, 1.0) else "-interval{:g}-{:g}".format(*self.interval)
        return f"{self.sampler}{self.steps}{spaced}{guided}{part}-N{self.samples}-seed{self.seed}"


def generate(
    model: Denoiser, shape: tuple[int, int, int], run: Run, engine: Accelerator | None = None
) -> tuple[Tensor, Tensor | None, float]:
    """Samples, labels and cost: images (N, C, H, W) uint8, labels (N,), and network evaluations per image.

    The labels go 0, 1, 2 ... in turn; a model without classes has none and takes no ``gamma``. The noise is drawn on
    the CPU from the run's seed, so it is the same on every device. The processes of an ``engine`` draw a batch each in
    turn, and all have all samples in the end.
    Raises ValueError for a gamma or interval that does not fit the model, and samples that are not finite.
    """
    if (run.gamma is None) != (model.classes == 0):
        expected = "a number" if model.classes else "none"
        raise ValueError(f"gamma = {run.gamma} for a model of {model.classes} classes: expected {expected}")
    if tuple(run.interval) != (0.0, 1.0) and not model.classes:
        raise ValueError(f"interval = {run.interval} for a model of 0 classes: expected (0.0, 1.0), it is not guided")
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(run.seed)
    step, fresh = samplers.SAMPLERS[run.sampler]
    if fresh:
        step = partial(step, generator=generator)
    levels = model.schedule.grid(run.steps, run.spacing)
    labels = _labels(model, run.samples)
    seen = [0]  # images the network was given; with guidance each counts twice

    def count(net: nn.Module, inputs: tuple) -> None:
        seen[0] += len(inputs[0])

    def nothing(x: Tensor, level: Level) -> Denoised:
        return Denoised(x, torch.zeros_like(x), level)

    rank, processes = (engine.process_index, engine.num_processes) if engine else (0, 1)

    def batches() -> Iterator[Tensor]:
        for i, start in enumerate(range(0, run.samples, BATCH)):
            own = i % processes == rank
            x = torch.randn(min(BATCH, run.samples - start), *shape, generator=generator).to(device)
            y = None if labels is None else labels[start : start + BATCH].to(device)
            denoise = model if y is None else edits.classifier_free(model, y, run.gamma)
            if y is not None and tuple(run.interval) != (0.0, 1.0):
                denoise = edits.during(denoise, edits.given(model, y), *run.interval)
            if not own:
                denoise = nothing  # another's batch: only its random numbers are drawn, so that all stay in step
            for state in samplers.sample(denoise, x, levels, step):
                x = state.x
                bar.update(1)
            if not bool(x.isfinite().all()):
                raise ValueError(f"samples {start} to {start + len(x)} hold NaN or infinity: expected finite images")
            if own:
                yield ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu()

    hook = model.net.register_forward_pre_hook(count)
    precision = torch.autocast(device.type, torch.bfloat16) if run.precision == "bfloat16" else nullcontext()
    try:
        told = {"desc": "sampling", "unit": "step", "disable": rank > 0}
        with tqdm(total=-(-run.samples // BATCH) * len(levels), **told) as bar, precision:
            made = list(batches())
    finally:
        hook.remove()
    if engine:
        from accelerate.utils import gather_object

        parts = gather_object([(made, seen[0])])  # of all processes, in their order
        made = [parts[i % processes][0][i // processes] for i in range(-(-run.samples // BATCH))]
        seen = [sum(count for _, count in parts)]
    return torch.cat(made), labels, seen[0] / run.samples


def _labels(model: Denoiser, n: int) -> Tensor | None:
    return torch.arange(n) % model.classes if model.classes else None


def evaluate(
    name: str | Path, run: Run | None = None, features: str | Path | None = None, cache: Path | None = None
) -> dict | None:
    """The report on a shipped model, or on the model in a file, as a dictionary that JSON can hold.

    Of several processes, all draw, and the first measures: the others have no report.

    ``run`` is by default as its card says that it is best drawn.

    ``features`` is a classifier by name or file; if not given, the shipped classifier of the data the model was
    trained on. Where a model learnt uneven classes as if they were even (see ``recipes``), the reference is as many
    test images of each class as the rarest has. ``cache`` keeps the samples, and they are read from there when they
    are of this very model and run.
    Raises ValueError for what is not a diffusion model, images that the features do not fit, and whatever
    ``generate`` and ``metrics.report`` do not take.
    """
    engine = launch.accelerator()
    device = launch.device(engine)
    card, model = weights.card(name), weights.load(name, device)
    run = run or Run.of(card)
    if not isinstance(model, Denoiser):
        raise ValueError(f"{name} is a {type(model).__name__}: expected a diffusion model")
    if model.classes and run.gamma is None:
        run = replace(run, gamma=1.0)  # the labels as they are
    learnt_from = card.get("data")
    if not isinstance(learnt_from, dict) or learnt_from.get("name") not in list(data.SOURCES):
        raise ValueError(f"the card of {name} does not name its data: expected a card such as recipes.run writes")
    source = learnt_from["name"]
    train, test = data.load(source, "train"), data.load(source, "test")
    if learnt_from.get("balanced"):
        test = test.balanced(fewest=True)  # what the model was to learn: the set itself has other shares
    network, seen_by = _feature_network(features or f"{source}-classifier", device)
    check_samples(run.samples, model.classes, train, test)
    recipe = {"model": card.get("name", str(name)), "weights": _checksum(model)} | asdict(run)
    recipe["interval"] = list(run.interval)  # as JSON has it
    made = _cached(cache, recipe) if cache else None
    if made is None:
        start = time.monotonic()
        images, labels, evaluations = generate(model, test.images.shape[1:], run, engine)
        cost = {
            "evaluations": evaluations,
            "seconds": round(time.monotonic() - start, 2),
            "hardware": recipes.hardware(device),
        }
        if cache and launch.first(engine):
            cache.parent.mkdir(parents=True, exist_ok=True)
            safetensors.torch.save_file(
                {"images": images}, cache, {"recipe": json.dumps(recipe), "cost": json.dumps(cost)}
            )
    else:
        images, cost = made
        labels = _labels(model, run.samples)
    if not launch.first(engine):
        return None
    start = time.monotonic()
    found = _measure(images, labels, train, test, network)
    return {
        "recipe": recipe,
        "evaluations_per_sample": cost["evaluations"],
        "seconds_sampling": cost["seconds"],
        "seconds_measuring": round(time.monotonic() - start, 2),
        "hardware": cost["hardware"],
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
        "N": run.samples,
        "features": {"network": seen_by, "weights": _checksum(network)},
        "reference": {"data": source, "split": "test", "N": len(test.images), "source": test.source},
        "floor": "the same of real images, as many, with the same labels if the samples have any: training images "
        "(FID to coverage) or test images (IS to nearest)",
        "error": "one standard deviation over random halves of the samples",
        "metrics": {key: result._asdict() for key, result in found.items()},
    }


def check_samples(samples: int, classes: int, train: data.Images, test: data.Images) -> None:
    """Raise ValueError for a number of samples that ``metrics.report`` would not take, but before the work."""
    most, alike = min(len(train.images), len(test.images)), ""
    if classes:
        rarest = min(int(part.labels.bincount(minlength=classes).min()) for part in (train, test))
        most, alike = min(most, classes * rarest), " of each class"
    if not 12 <= samples <= most:
        raise ValueError(f"{samples} samples: expected 12 to {most}, since a floor needs as many real images{alike}")


def _measure(
    images: Tensor, labels: Tensor | None, train: data.Images, test: data.Images, network: nn.Module
) -> dict[str, metrics.Result]:
    """``metrics.report`` on uint8 images, with five sets of training images for the floors."""
    n, generator = len(images), torch.Generator().manual_seed(0)
    # Six times as many, since the rarest class must suffice for five sets with as many of each; of blood cells, all.
    picked = torch.randperm(len(train.images), generator=generator)[: max(6 * n, 5000)]
    unseen = test.images[torch.randperm(len(test.images), generator=generator)[:n]]
    with tqdm(total=5, desc="measuring", unit="part") as bar:

        def look(pixels: Tensor, labels: Tensor | None = None) -> metrics.Features:
            bar.update(1)
            return metrics.extract(data.symmetric(pixels), network, labels)

        seen = look(images, labels), look(test.images, test.labels), look(train.images[picked], train.labels[picked])
        known = data.symmetric(train.images)
        distances = [metrics.nearest(data.symmetric(pixels), known)[0] for pixels in (images, unseen)]
        bar.update(1)
        found = metrics.report(*seen, distances)
        bar.update(1)
    return found


def _feature_network(features: str | Path, device: torch.device) -> tuple[nn.Module, str]:
    """The classifier that the metrics look through, and its name."""
    network = weights.load(features, device)
    if not (hasattr(network, "features") and hasattr(network, "head")):
        raise ValueError(f"{features} is a {type(network).__name__}: expected a classifier")
    return network, network.name


def _checksum(model: nn.Module) -> str:
    """The first 16 digits of the SHA-256 of all weights, wherever they are stored."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _cached(path: Path, recipe: dict) -> tuple[Tensor, dict] | None:
    """The samples in the file and what they cost; None if there are none of this recipe yet."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if {"recipe", "cost"} - header.keys():
                raise ValueError(f"{path}: not a cache of samples; expected one, or a new file")
            if json.loads(header["recipe"]) != recipe:
                print(f"{path} holds samples of another recipe: they are made anew.")
                return None
            return file.get_tensor("images"), json.loads(header["cost"])
    except SafetensorError as error:
        raise ValueError(f"{path}: truncated or not a safetensors file ({error})") from None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m diffusion_helpers.bench.evaluate", description=__doc__.split("\n")[0]
    )
    parser.add_argument("name", help="a shipped model, or a .safetensors file")
    parser.add_argument("--samples", type=int, default=Run.samples)
    best = {"default": argparse.SUPPRESS}  # what is not given is as the card of the model says, or as in Run
    parser.add_argument("--sampler", choices=samplers.SAMPLERS, help="default: the card's", **best)
    parser.add_argument("--steps", type=int, help="default: the card's", **best)
    parser.add_argument("--spacing", default=Run.spacing, help="uniform, log_snr or karras (default: %(default)s)")
    parser.add_argument(
        "--gamma", type=float, help="guidance, 1 + w; 1: the labels as they are (default: the card's)", **best
    )
    times = "the times t of the guidance (default: the card's)"
    parser.add_argument("--interval", type=float, nargs=2, metavar=("LOW", "HIGH"), help=times, **best)
    parser.add_argument("--seed", type=int, default=Run.seed)
    parser.add_argument(
        "--bfloat16",
        dest="precision",
        action="store_const",
        const="bfloat16",
        default=Run.precision,
        help="mixed precision, on processors and GPUs that have it",
    )
    parser.add_argument("--features", help="a classifier by name or file (default: that of the data)")
    parser.add_argument("--cache", type=Path, help="a .safetensors file that keeps the samples")
    parser.add_argument("--json", type=Path, help="where the report is written (default: a file in runs)")
    chosen = vars(parser.parse_args())
    name, features, cache, path = (chosen.pop(key) for key in ("name", "features", "cache", "json"))
    try:
        run = Run.of(weights.card(name), **chosen)
        report = evaluate(name, run, features, cache)
    except ValueError as error:
        parser.error(str(error))
    if report is None:
        return
    if path is None:
        drawn = replace(run, gamma=report["recipe"]["gamma"])
        # A card may come from anywhere, so the name on it must not lead out of the folder.
        path = Path("runs") / Path(f"{report['recipe']['model']}-{drawn.name}.json").name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(reports.text(report))
    print(f"written to {path}")


if __name__ == "__main__":
    main()
