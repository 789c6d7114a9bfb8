"""A speed run: trained from scratch for so many seconds, then measured, always by the same rules.

    python -m diffusion_helpers.bench.speedrun --seconds 300 --threads 2 --seeds 0 1 2

- Training begins with random weights, on the CPU, in float32, and ends with the step in which ``--seconds`` are used
  up; reading the images, building the network and copying a snapshot are not counted. The images are the training
  digits of MNIST, all of them (``--data full``) or those that come with the package (``--data sample``). No test
  image, no classifier and no weights from before have a part in it.
- Drawing is from the averaged weights as ``weights.save`` stores them, in float16: N = 2000 digits, as many of each
  label, with at most 20 evaluations of the network for each; one with and one without the label are two. And the same
  with at most 10, 4, 2 and 1.
- Measuring is by ``evaluate``: in the features of ``mnist-classifier``, with floors and error bars.
- Time to quality is when the FID is first at most 3, 2, 1.5 and 1.2 times its floor, in snapshots of the averaged
  weights. The rate has not yet fallen there, so a run of just so long would do better.
- All seeds of a command count: means and standard deviations are over them. Settings are chosen on other seeds.

``--set NAME=VALUE`` changes a field of ``Entry``; ``--course`` trains the recipe of the course for the same time too;
``--to FILE`` keeps the model of the first seed. The results go to ``--json``, one file for a command.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .. import data, schedules, train, weights
from ..denoise import Denoiser
from . import evaluate, held_out, metrics, recipes, reports

SET = "mnist"
SNAPSHOTS = (0.1, 0.2, 0.35, 0.5, 0.7, 0.85)  # shares of the time
FACTORS = (3, 2, 1.5, 1.2)  # times the floor
MOST = 20  # evaluations
CPU = torch.device("cpu")
TIMES = {
    "logit_normal": lambda schedule: schedules.logit_normal,
    "stratified": lambda schedule: schedule.stratified,
    "uniform": lambda schedule: schedule.draw,
}
OPTIMIZERS = {"Muon": train.Muon, "AdamW": torch.optim.AdamW, "Adam": torch.optim.Adam}
DECAYS = {"linear": train.linear, "exponential": train.exponential}


@dataclass(frozen=True)
class Entry:
    """What is trained, how, and how it is drawn: a rung of a ladder is ``replace(entry, ...)``.

    ``spec`` is what ``weights.build`` takes; ``times``, ``optimizer`` and ``decay`` are names in the tables above;
    ``rest`` is the rate of what Muon does not train; ``fewer`` says what is drawn otherwise, by the number of
    evaluations. The average warms up (see ``train.averaged``), so that in a run of few thousand steps it is over about
    the last tenth of them, whatever their number. Raises ValueError for a name that is not in its table.
    """

    name: str = "speedrun"
    spec: dict = field(
        default_factory=lambda: {
            "network": "ResidualUNet",
            "config": {"widths": [32, 64], "attention": [], "classes": 10},
            "kind": "flow",
            "schedule": {"name": "flow"},
        }
    )
    times: str = "logit_normal"
    drop: float = 0.1
    batch: int = 128
    optimizer: str = "Muon"
    lr: float = 4e-3
    rest: float = 1e-3
    decay: str = "linear"
    ema: float = 0.999
    clip: float = 1.0
    sampler: str = "heun"
    steps: int = 6
    gamma: float = 1.5
    interval: tuple[float, float] = (0.2, 0.9)
    fewer: dict[str, dict] = field(
        default_factory=lambda: {
            "10": {"sampler": "dpmpp_2m", "steps": 5},
            "4": {"sampler": "dpmpp_2m", "steps": 2, "gamma": 1.25, "interval": [0.0, 1.0]},
            "2": {"sampler": "ddim", "steps": 2, "gamma": 1.0},
            "1": {"sampler": "ddim", "steps": 1, "gamma": 1.0},
        }
    )

    def __post_init__(self) -> None:
        for name, table in {"times": TIMES, "optimizer": OPTIMIZERS, "decay": DECAYS}.items():
            if getattr(self, name) not in table:
                raise ValueError(f"{name} = {getattr(self, name)!r}: expected one of {', '.join(table)}")

    @property
    def draws(self) -> dict[int, dict]:
        """How samples are drawn, as a card says it, by the most evaluations of each."""
        best = {name: getattr(self, name) for name in ("sampler", "steps", "gamma")} | {"interval": [*self.interval]}
        return {MOST: best} | {int(most): best | other for most, other in self.fewer.items()}

    @property
    def fit(self) -> dict:
        """What ``train.fit`` is given, but for the seed and the seconds."""
        optimizer = OPTIMIZERS[self.optimizer]
        if optimizer is train.Muon:
            optimizer = partial(optimizer, rest=self.rest)
        options = {name: getattr(self, name) for name in ("batch", "lr", "ema", "clip")}
        return options | {"decay": DECAYS[self.decay], "optimizer": optimizer}

    def build(self) -> Denoiser:
        """The network with random weights, as a denoiser."""
        return weights.build(self.spec)

    def objective(self, model: Denoiser) -> Callable[[Tensor, Tensor], Tensor]:
        """What ``train.fit`` minimises: the loss of ``model`` on uint8 images and labels."""
        times = TIMES[self.times](model.schedule)
        return lambda images, labels: model.loss(data.symmetric(images), labels, times(len(images)), self.drop)


_COURSE = recipes.RECIPES["mnist-guided"]
COURSE = Entry(
    name="course",
    spec=_COURSE.spec,
    times="stratified",
    batch=_COURSE.fit["batch"],
    optimizer="Adam",
    lr=_COURSE.fit["lr"],
    decay="exponential",
    sampler="ddim",
    steps=10,
    gamma=2.0,
    interval=(0.0, 1.0),
    fewer={"10": {"steps": 5}, "4": {"steps": 2}, "2": {"steps": 1}, "1": {"steps": 1, "gamma": 1.0}},
)


def changed(entry: Entry, settings: list[str]) -> Entry:
    """``entry`` with other fields, each given as "name=value" with a value in JSON; a word needs no quotes.

    Raises ValueError for a name that is not that of a field and for a value of another type.
    """
    known, new = asdict(entry), {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in known:
            raise ValueError(f"{setting!r}: expected NAME=VALUE with one of {', '.join(known)}")
        kind, value = type(known[name]), text
        if kind is not str:
            with suppress(ValueError):
                value = json.loads(text)
        if (type(value), kind) in ((int, float), (list, tuple)):
            value = kind(value)
        if type(value) is not kind:
            raise ValueError(f"{name} = {value!r}: expected {kind.__name__}, as in {name}={json.dumps(known[name])}")
        new[name] = value
    return replace(entry, **new)


def check(entry: Entry, samples: int) -> None:
    """Raise ValueError for draws of more evaluations than allowed, and for a number of samples without a floor."""
    model, (training, test) = weights.build(entry.spec), (data.load(SET, split) for split in ("train", "test"))
    evaluate.check_samples(samples, model.classes, training, test)
    for most, draw in entry.draws.items():
        taken = evaluate.generate(model, test.images.shape[1:], evaluate.Run.of({"draw": draw}, samples=1))[2]
        if taken > most:
            raise ValueError(f"{taken:g} evaluations a sample by {draw}: expected at most {most}")


def fitted(
    entry: Entry, training: data.Images, seconds: float, seed: int
) -> tuple[Denoiser, dict[float, Denoiser], dict]:
    """The trained model, copies of its averages by the second they were taken at, and the figures of the training."""
    torch.manual_seed(seed)
    model = entry.build()
    options = entry.fit | {"seed": seed, "seconds": seconds}
    snapshots, places = {}, [share * seconds for share in SNAPSHOTS]
    for step in train.fit(model, entry.objective(model), (training.images, training.labels), **options):
        if any(place <= step.seconds for place in places):
            snapshots[step.seconds] = copy.deepcopy(step.model)
            places = [place for place in places if place > step.seconds]
    figures = {
        "seconds": round(step.seconds, 2),
        "steps": step.step,
        "images_seen": step.step * entry.batch,
        "images_per_second": round(step.step * entry.batch / step.seconds, 1),
        "peak_memory_mb": peak_memory(),
    }
    return model, snapshots, figures


def peak_memory() -> int | None:
    """The most memory that this process has held so far, torch and all, in megabytes; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # what the kernel counts in
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def quick_fid(model: Denoiser, run: evaluate.Run, features: str | Path) -> float:
    """The FID that ``evaluate`` would find, and nothing else."""
    network, test = weights.load(features), data.load(SET, "test")
    images = evaluate.generate(model, test.images.shape[1:], run)[0]
    found, reference = (metrics.extract(data.symmetric(pixels), network).values for pixels in (images, test.images))
    return metrics.fid(found, reference)


def run(
    entry: Entry, training: data.Images, seconds: float, seed: int, samples: int, to: Path, features: str | Path
) -> dict:
    """Train, write the model to ``to``, and measure it through ``features``: what the results hold of one seed."""
    model, snapshots, figures = fitted(entry, training, seconds, seed)
    settings = asdict(entry)
    text = "; ".join(f"{name} {settings[name]}" for name in ("times", "drop", "optimizer", "decay", "ema", "clip"))
    card = {"name": entry.name, "spec": entry.spec, "recipe": f"a speed run: {text}", "batch": entry.batch}
    card |= {"lr": entry.lr, "rest": entry.rest, "seed": seed, "precision": "float32", "draw": entry.draws[MOST]}
    card |= figures | recipes.provenance(model, SET, training, CPU)
    card["held_out"] = held_out.diffusion(model, data.load(SET, "test"))

    weights.save(model, to, card)
    how = partial(evaluate.Run.of, samples=samples, seed=seed)
    found = {str(most): evaluate.evaluate(to, how({"draw": draw}), features) for most, draw in entry.draws.items()}
    fid = found[str(MOST)]["metrics"]["fid"]
    course = {at: quick_fid(each, how(card), features) for at, each in snapshots.items()}
    course[figures["seconds"]] = fid["value"]
    reached = {factor: [at for at, value in course.items() if value <= factor * fid["floor"]] for factor in FACTORS}
    return {
        "entry": settings,
        "seed": seed,
        "training": figures,
        "fid_by_second": [[round(at, 2), value] for at, value in course.items()],
        "seconds_to": {f"{factor:g}": round(min(at), 2) if at else None for factor, at in reached.items()},
        "reports": found,
    }


def summary(runs: list[dict]) -> dict:
    """Of each entry, by its name: mean, standard deviation and floor over its seeds, None where a seed has no number."""

    def spread(values: list[float | None]) -> dict | None:
        if None in values:
            return None
        return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}

    found = {}
    for name in dict.fromkeys(run["entry"]["name"] for run in runs):
        own = [run for run in runs if run["entry"]["name"] == name]
        measures = {most: {} for most in own[0]["reports"]}
        for most, found_by in measures.items():
            for key in own[0]["reports"][most]["metrics"]:
                results = [run["reports"][most]["metrics"][key] for run in own]
                floor = statistics.fmean(result["floor"] for result in results)
                found_by[key] = spread([result["value"] for result in results]) | {"floor": floor}
        found[name] = {
            "seeds": [run["seed"] for run in own],
            "images_per_second": spread([run["training"]["images_per_second"] for run in own]),
            "seconds_to": {key: spread([run["seconds_to"][key] for run in own]) for key in own[0]["seconds_to"]},
            "evaluations": measures,
        }
    return found


def text(found: dict) -> str:
    """A summary as plain text: a line for each number of evaluations, mean ± standard deviation (floor)."""
    lines = []
    for name, entry in found.items():
        lines.append(f"{name}, seeds {entry['seeds']}: {entry['images_per_second']['mean']:.0f} images a second")
        for most, measures in entry["evaluations"].items():
            cells = [f"at most {most:>2} evaluations"]
            for key in ("fid", "kid", "label_agreement", "precision", "recall"):
                title, form, _ = reports.FORMATS[key]
                mean, sd, floor = ("" if n is None else form.format(n) for n in measures[key].values())
                cells.append(f"{title} {mean} ± {sd} ({floor})")
            lines.append("   ".join(cells))
        times = entry["seconds_to"].items()
        reached = {key: "not by all" if time is None else f"{time['mean']:.0f} s" for key, time in times}
        lines.append("FID, times the floor: " + ", ".join(f"{key}: {time}" for key, time in reached.items()))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m diffusion_helpers.bench.speedrun", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="of training (default: %(default)g)")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU (default: %(default)s)")
    parser.add_argument("--data", choices=["full", "sample"], default="full", help="all digits, or the package's own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--samples", type=int, default=2000, help="to measure (default: %(default)s)")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="another value of a field of Entry")
    parser.add_argument("--course", action="store_true", help="the recipe of the course too, for the same time")
    parser.add_argument("--to", type=Path, help="a .safetensors file for the model of the first seed")
    parser.add_argument("--json", type=Path, help="where the results are written (default: a file in runs)")
    chosen = parser.parse_args()
    path = chosen.json or Path("runs") / f"speedrun-{chosen.data}-{chosen.seconds:g}s.json"
    protocol = {name: getattr(chosen, name) for name in ("seconds", "threads", "data", "samples")}
    results = {"protocol": protocol, "runs": []}
    torch.set_num_threads(chosen.threads)
    try:
        if chosen.to and chosen.to.suffix != ".safetensors":
            raise ValueError(f"{chosen.to}: expected a path that ends in .safetensors")
        entries = [changed(Entry(), chosen.set)] + ([COURSE] if chosen.course else [])
        for entry in entries:
            check(entry, chosen.samples)
        training = recipes.whole(SET) if chosen.data == "full" else sample()
        results["hardware"] = recipes.hardware(CPU)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            for seed in chosen.seeds:
                for entry in entries:
                    first = seed == chosen.seeds[0] and entry is entries[0]
                    to = chosen.to if chosen.to and first else Path(folder) / "model.safetensors"
                    found = run(entry, training, chosen.seconds, seed, chosen.samples, to, f"{SET}-classifier")
                    results["runs"].append(found)
                    results["summary"] = summary(results["runs"])
                    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
                    print(f"{entry.name}, seed {seed}: {json.dumps(found['training'])}")
                    print(reports.text(found["reports"][str(MOST)]))
    except ValueError as error:
        parser.error(str(error))
    print(text(results["summary"]), f"written to {path}", sep="\n")


def sample() -> data.Images:
    """The training digits that come with the package."""
    images, labels = data.SOURCES[SET].sample("train")
    return data.Images(images, labels, f"sample ({len(images):,} of {data.SOURCES[SET].sizes['train']:,})")


if __name__ == "__main__":
    main()
