"""The report on a model: samples, every measure of them, and what they cost.

    python -m diffusion_helpers.evaluate mnist-guided-residual --samples 2000 --sampler ddim --steps 20 --gamma 1.3

prints a table and writes it as JSON, to ``--json`` or a file in ``runs``. Samples are made 250 at a time, their labels
balanced, and measured as 8-bit images, so that ``--cache FILE`` gives the very same numbers again. What the
measures, floors and error bars are: see ``metrics``. The reports on the shipped models are JSON files in
``diffusion_helpers/results``; the table in README.md is written from them, in the folder of the repository, with

    python -m diffusion_helpers.evaluate --table
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm.auto import tqdm

from . import data, edits, metrics, recipes, samplers, weights
from .denoise import Denoiser

BATCH = 250
RESULTS = Path(__file__).parent / "results"
STEPS = {
    "ddim": samplers.ddim,
    "ddpm": samplers.ddpm,
    "ddpm-beta": partial(samplers.ddpm, variance="beta"),
    "heun": samplers.heun,
    "dpmpp_2m": samplers.dpmpp_2m,
}
FORMATS = {  # how a measure is printed, and whether more or less of it is better
    "fid": ("FID", "{:.3f}", "lower"),
    "kid": ("KID", "{:.5f}", "lower"),
    "precision": ("precision", "{:.3f}", "higher"),
    "recall": ("recall", "{:.3f}", "higher"),
    "density": ("density", "{:.3f}", "higher"),
    "coverage": ("coverage", "{:.3f}", "higher"),
    "inception_score": ("IS", "{:.3f}", "higher"),
    "label_agreement": ("label agreement", "{:.2%}", "higher"),
    "nearest": ("nearest training image", "{:.2f}", "near the floor"),
}
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def generate(
    model: Denoiser,
    n: int,
    shape: tuple[int, int, int],
    sampler: str = "ddim",
    steps: int = 20,
    gamma: float | None = None,
    seed: int = 0,
    autocast: torch.dtype | None = None,
    spacing: str = "uniform",
    interval: tuple[float, float] = (0.0, 1.0),
) -> tuple[Tensor, Tensor | None, float]:
    """Samples, labels and cost: images (n, C, H, W) uint8, labels (n,), and network evaluations per image.

    The labels go 0, 1, 2 ... in turn; a model without classes has none and takes no ``gamma``. The noise is drawn on
    the CPU from ``seed``, so it is the same on every device. ``sampler`` is "ddim", "ddpm" (posterior variance),
    "ddpm-beta", "heun" or "dpmpp_2m"; ``spacing`` is that of ``Schedule.grid``, ``interval`` the times (low, high) of the guidance.
    Raises ValueError for another, n < 1, a gamma or interval that does not fit the model, and samples that are not
    finite.
    """
    if sampler not in STEPS:
        raise ValueError(f"sampler {sampler!r}: expected one of {', '.join(STEPS)}")
    if n < 1:
        raise ValueError(f"{n} samples: expected at least 1")
    if (gamma is None) != (model.classes == 0):
        expected = "a number" if model.classes else "none"
        raise ValueError(f"gamma = {gamma} for a model of {model.classes} classes: expected {expected}")
    if tuple(interval) != (0.0, 1.0) and not model.classes:
        raise ValueError(f"interval = {interval} for a model of 0 classes: expected (0.0, 1.0), it is not guided")
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    step = STEPS[sampler]
    if sampler.startswith("ddpm"):
        step = partial(step, generator=generator)
    levels = model.schedule.grid(steps, spacing)
    labels = _labels(model, n)
    seen = [0]  # images the network was given; with guidance each counts twice

    def count(net: nn.Module, inputs: tuple) -> None:
        seen[0] += len(inputs[0])

    def batches() -> Iterator[Tensor]:
        for start in range(0, n, BATCH):
            x = torch.randn(min(BATCH, n - start), *shape, generator=generator).to(device)
            y = None if labels is None else labels[start : start + BATCH].to(device)
            denoise = model if y is None else edits.classifier_free(model, y, gamma)
            if y is not None and tuple(interval) != (0.0, 1.0):
                denoise = edits.during(denoise, edits.given(model, y), *interval)
            for state in samplers.sample(denoise, x, levels, step):
                x = state.x
                bar.update(1)
            if not bool(x.isfinite().all()):
                raise ValueError(f"samples {start} to {start + len(x)} hold NaN or infinity: expected finite images")
            yield ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu()

    hook = model.net.register_forward_pre_hook(count)
    precision = torch.autocast(device.type, autocast) if autocast else nullcontext()
    try:
        with tqdm(total=-(-n // BATCH) * len(levels), desc="sampling", unit="step") as bar, precision:
            images = torch.cat(list(batches()))
    finally:
        hook.remove()
    return images, labels, seen[0] / n


def _labels(model: Denoiser, n: int) -> Tensor | None:
    return torch.arange(n) % model.classes if model.classes else None


def evaluate(
    name: str | Path,
    samples: int = 2000,
    sampler: str = "ddim",
    steps: int = 20,
    gamma: float | None = None,
    seed: int = 0,
    features: str | Path | None = None,
    cache: Path | None = None,
    bfloat16: bool = False,
    spacing: str = "uniform",
    interval: tuple[float, float] = (0.0, 1.0),
) -> dict:
    """The report on a shipped model, or on the model in a file, as a dictionary that JSON can hold.

    ``features`` is a classifier by name or file, or torch-fidelity's Inception weights (.pth); if not given, the shipped
    classifier of the data the model was trained on. Where a model learnt uneven classes as if they were even (see
    ``recipes``), the reference is as many test images of each class as the rarest has. ``cache`` keeps the
    samples, and they are read from there when they are of this very model and recipe.
    Raises ValueError for what is not a diffusion model, images that the features do not fit, and whatever
    ``generate`` and ``metrics.report`` do not take.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card, model = weights.card(name), weights.load(name, device)
    if not isinstance(model, Denoiser):
        raise ValueError(f"{name} is a {type(model).__name__}: expected a diffusion model")
    if model.classes and gamma is None:
        gamma = 1.0  # the labels as they are
    source = card.get("data", {}).get("name")
    if source is None:
        raise ValueError(f"the card of {name} does not name its data: expected a card such as recipes.run writes")
    train, test = data.load(source, "train"), data.load(source, "test")
    if card["data"].get("balanced"):
        test = test.balanced(fewest=True)  # what the model was to learn: the set itself has other shares
    network, seen_by = _feature_network(features or f"{source}-classifier", device)
    most, alike = min(len(train.images), len(test.images)), ""
    if model.classes and not isinstance(network, metrics.Inception):
        rarest = min(int(part.labels.bincount(minlength=model.classes).min()) for part in (train, test))
        most, alike = min(most, model.classes * rarest), " of each class"
    if not 12 <= samples <= most:  # as metrics.report would say, but before the work
        raise ValueError(f"{samples} samples: expected 12 to {most}, since a floor needs as many real images{alike}")
    recipe = {
        "model": card.get("name", str(name)),
        "weights": _checksum(model),
        "samples": samples,
        "sampler": sampler,
        "steps": steps,
        "spacing": spacing,
        "gamma": gamma,
        "interval": list(interval),
        "seed": seed,
        "precision": "bfloat16" if bfloat16 else "float32",
    }
    made = _cached(cache, recipe) if cache else None
    if made is None:
        start = time.monotonic()
        autocast = torch.bfloat16 if bfloat16 else None
        images, labels, evaluations = generate(
            model, samples, test.images.shape[1:], sampler, steps, gamma, seed, autocast, spacing, interval
        )
        cost = {
            "evaluations": evaluations,
            "seconds": round(time.monotonic() - start, 2),
            "hardware": recipes.hardware(device),
        }
        if cache:
            cache.parent.mkdir(parents=True, exist_ok=True)
            safetensors.torch.save_file(
                {"images": images}, cache, {"recipe": json.dumps(recipe), "cost": json.dumps(cost)}
            )
    else:
        images, cost = made
        labels = _labels(model, samples)
    start = time.monotonic()
    found = _measure(images, labels, train, test, network)
    return {
        "recipe": recipe,
        "evaluations_per_sample": cost["evaluations"],
        "seconds_sampling": cost["seconds"],
        "seconds_measuring": round(time.monotonic() - start, 2),
        "hardware": cost["hardware"],
        "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
        "N": samples,
        "features": {"network": seen_by, "weights": _checksum(network)},
        "reference": {"data": source, "split": "test", "N": len(test.images), "source": test.source},
        "floor": "the same of real images, as many, with the same labels if the samples have any: training images "
        "(FID to coverage) or test images (IS to nearest)",
        "error": "one standard deviation over random halves of the samples",
        "metrics": {key: result._asdict() for key, result in found.items()},
    }


def _measure(
    images: Tensor, labels: Tensor | None, train: data.Images, test: data.Images, network: nn.Module
) -> dict[str, metrics.Result]:
    """``metrics.report`` on uint8 images, with five sets of training images for the floors."""
    n, generator = len(images), torch.Generator().manual_seed(0)
    # Six times as many, since the rarest class must suffice for five sets with as many of each; of blood cells, all.
    picked = torch.randperm(len(train.images), generator=generator)[: max(6 * n, 5000)]
    unseen = test.images[torch.randperm(len(test.images), generator=generator)[:n]]
    if isinstance(network, metrics.Inception):
        labels = None  # it knows other classes
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
    """The network that the metrics look through, and its name."""
    if Path(features).suffix == ".pth":
        return metrics.Inception(features).to(device), "Inception-v3"
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


def text(report: dict) -> str:
    """The report as a table of plain text: each measure, its error bar, and the floor."""
    lines = [f"{'':24}{'value':>10}{'±':>9}{'floor':>10}{'±':>9}   better"]
    for key, result in report["metrics"].items():
        title, form, better = FORMATS[key]
        numbers = ["" if number is None else form.format(number) for number in result.values()]
        lines.append(f"{title:24}{numbers[0]:>10}{numbers[1]:>9}{numbers[2]:>10}{numbers[3]:>9}   {better}")
    reference, features = report["reference"], report["features"]["network"]
    lines.append(
        f"N = {report['N']:,}; features: {features}; reference: {reference['N']:,} {reference['data']} test images"
    )
    lines.append(f"floor: {report['floor']}; ±: {report['error']}")
    lines.append(
        f"{report['evaluations_per_sample']:g} evaluations per sample; {report['seconds_sampling']:.0f} s sampling "
        f"({report['hardware']}), {report['seconds_measuring']:.0f} s measuring"
    )
    return "\n".join(lines)


def markdown(reports: list[dict]) -> str:
    """The reports as one table in Markdown: a column each, a row for each measure, the floor in brackets."""
    recipes = [report["recipe"] for report in reports]
    rows = {
        "": [f"`{recipe['model']}`" for recipe in recipes],
        "---": ["---"] * len(reports),
        "sampler": [f"{recipe['sampler']}, {recipe['steps']} {recipe['spacing']} steps" for recipe in recipes],
        "guidance γ": [_guidance(recipe) for recipe in recipes],
        "evaluations per sample": [f"{report['evaluations_per_sample']:g}" for report in reports],
        "N": [f"{report['N']:,}" for report in reports],
    }
    for key, (title, form, better) in FORMATS.items():
        found = [report["metrics"].get(key) for report in reports]
        rows[f"{title} ({better})"] = [_cell(form, **result) if result else "" for result in found]
    rows["features"] = [report["features"]["network"] for report in reports]
    notes = sorted({f"Reference: {r['reference']['N']:,} {r['reference']['data']} test images." for r in reports})
    notes += sorted({f"±: {r['error']}. In brackets the floor: {r['floor']}." for r in reports})
    return "\n".join("| " + " | ".join([name, *row]) + " |" for name, row in rows.items()) + "\n\n" + " ".join(notes)


def _guidance(recipe: dict) -> str:
    if recipe["gamma"] is None:
        return ""
    low, high = recipe["interval"]
    return f"{recipe['gamma']:g}" + ("" if (low, high) == (0, 1) else f" at t = {low:g} to {high:g}")


def _cell(form: str, value: float, error: float, floor: float, floor_error: float | None) -> str:
    return f"{form.format(value)} ± {form.format(error)} ({form.format(floor)})"


def stored(folder: Path | None = None) -> list[dict]:
    """The reports in ``folder`` (default: those on the shipped models), by model, evaluations and guidance.

    Raises ValueError when there are none.
    """
    folder = folder or RESULTS
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    if not reports:
        raise ValueError(f"no .json file in {folder}: expected reports that this command wrote")
    return sorted(reports, key=lambda r: (r["recipe"]["model"], r["evaluations_per_sample"], r["recipe"]["gamma"] or 0))


def best(reports: list[dict]) -> list[dict]:
    """Of each model the report with the lowest FID, in the order the models come in."""
    found: dict[str, dict] = {}
    for report in reports:
        name = report["recipe"]["model"]
        if name not in found or report["metrics"]["fid"]["value"] < found[name]["metrics"]["fid"]["value"]:
            found[name] = report
    return list(found.values())


def write_table(readme: Path, results: Path) -> int:
    """Replace what is between the two marks in ``readme`` by the best report of each model in ``results``; how many.

    Raises ValueError when there is no report, no readme, or not exactly one pair of marks in it.
    """
    reports = best(stored(results))
    if not readme.is_file():
        raise ValueError(f"{readme}: no such file; expected to be started in the folder of the repository")
    page = readme.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"{readme}: expected one line {BEGIN} and below it one line {END}")
    table = markdown(reports)
    before, rest = page.split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return len(reports)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m diffusion_helpers.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="?", help="a shipped model, or a .safetensors file")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--sampler", choices=STEPS, default="ddim")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--spacing", default="uniform", help="uniform, log_snr or karras (default: uniform)")
    parser.add_argument("--gamma", type=float, help="guidance, 1 + w (default: 1, the labels as they are)")
    parser.add_argument(
        "--interval",
        type=float,
        nargs=2,
        default=(0.0, 1.0),
        metavar=("LOW", "HIGH"),
        help="the times t of the guidance (default: 0 1, all)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", help="a classifier, or Inception weights (.pth) (default: that of the data)")
    parser.add_argument("--cache", type=Path, help="a .safetensors file that keeps the samples")
    parser.add_argument("--json", type=Path, help="where the report is written (default: a file in runs)")
    parser.add_argument("--bfloat16", action="store_true", help="mixed precision, on processors and GPUs that have it")
    parser.add_argument("--table", action="store_true", help="write the table in README.md from the stored reports")
    chosen = parser.parse_args()
    if chosen.table == bool(chosen.name):
        parser.error("expected the name of a model, or --table")
    try:
        if chosen.table:
            print(f"{write_table(Path('README.md'), RESULTS)} models in the table of README.md")
            return
        options = {k: v for k, v in vars(chosen).items() if k not in ("json", "table")}
        report = evaluate(**options)
    except ValueError as error:
        parser.error(str(error))
    recipe = report["recipe"]
    guided = "" if recipe["gamma"] is None else f"-gamma{recipe['gamma']:g}"
    if recipe["interval"] != [0.0, 1.0]:
        guided += "-interval{:g}-{:g}".format(*recipe["interval"])
    spaced = "" if recipe["spacing"] == "uniform" else f"-{recipe['spacing']}"
    default = (
        f"{recipe['model']}-{recipe['sampler']}{recipe['steps']}{spaced}{guided}"
        f"-N{recipe['samples']}-seed{recipe['seed']}.json"
    )
    path = chosen.json or Path("runs") / default
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(text(report))
    print(f"written to {path}")


if __name__ == "__main__":
    main()
