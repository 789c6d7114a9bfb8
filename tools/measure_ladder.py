"""From the course's recipe to that of the speed run, one change at a time: ``python tools/measure_ladder.py``.

Each rung keeps all changes before it. A run is by the rules of ``bench.speedrun``: so many seconds of training from
random weights on two threads of a CPU, with the 5,000 digits that come with the package, then 1,000 digits drawn with at
most 20 evaluations each. Adam's rate is the course's on all rungs up to Muon; the runs of the kind "rate" are of the last
of these with others, on a seed of their own. The results go to a JSON file after each run, and a second start goes on
from there.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import runs
import torch

from diffusion_helpers import data, weights
from diffusion_helpers.bench import evaluate, recipes, speedrun

PROTOCOL = {"seconds": 120.0, "data": "sample", "samples": 1000, "evaluations": speedrun.MOST}
TOP = speedrun.Entry()
FLOW = speedrun.COURSE.spec | {"kind": TOP.spec["kind"], "schedule": TOP.spec["schedule"]}
RUNGS = {
    "the course's recipe": {},
    "flow": {"spec": FLOW},
    "logit-normal times": {"times": TOP.times},
    "rate falls linearly to 0": {"decay": TOP.decay},
    "residual network, folded pixels": {"spec": TOP.spec},
    "Muon": {"optimizer": TOP.optimizer, "lr": TOP.lr},
    "batches of 128": {"batch": TOP.batch},
    "γ = 1.5 for 0.2 ≤ t ≤ 0.9": {"gamma": TOP.gamma, "interval": TOP.interval},
    "Heun": {"sampler": TOP.sampler, "steps": TOP.steps},
}
DRAWING = {"sampler", "steps", "gamma", "interval"}  # what needs no other training
RATES, RATE_SEED = (1e-3, 4e-3), 9


def measured(entry: speedrun.Entry, model: torch.nn.Module, training: data.Images, seed: int) -> dict:
    """The measures of the speed run at its most evaluations."""
    draw = entry.draws[speedrun.MOST]
    card = {"name": entry.name, "spec": entry.spec, "draw": draw}
    card |= recipes.provenance(model, speedrun.SET, training, speedrun.CPU)
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "model.safetensors"
        weights.save(model, to, card)
        how = evaluate.Run.of({"draw": draw}, samples=PROTOCOL["samples"], seed=seed)
        return evaluate.evaluate(to, how, f"{speedrun.SET}-classifier")["metrics"]


def main() -> None:
    parser = runs.parser(__doc__, "ladder")
    parser.set_defaults(threads=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    try:
        found = runs.Runs(chosen.json, PROTOCOL | {"threads": chosen.threads})
    except ValueError as error:
        parser.error(str(error))
    training, entry, ladder = speedrun.sample(), speedrun.COURSE, []
    for name, change in RUNGS.items():
        if name == "Muon":
            last_by_adam = entry
        entry = replace(entry, name=name, **change)
        ladder.append(entry)
    work = [("rung", entry, seed) for seed in chosen.seeds for entry in ladder]
    work += [("rate", replace(last_by_adam, lr=lr), RATE_SEED) for lr in (last_by_adam.lr, *RATES)]

    model = None  # of the run before, for a rung that only draws it otherwise
    for kind, entry, seed in work:
        if not found.missing(kind=kind, name=entry.name, seed=seed, lr=entry.lr):
            model = None
            continue
        change = RUNGS[entry.name].keys()
        if model is None or not change or not change <= DRAWING:
            model, _, figures = speedrun.fitted(entry, training, PROTOCOL["seconds"], seed)
        metrics = measured(entry, model, training, seed)
        run = {"kind": kind, "name": entry.name, "seed": seed, "lr": entry.lr, "training": figures}
        found.keep(run | {key: metrics[key] for key in ("fid", "label_agreement", "precision", "recall")})
        fid, agree = metrics["fid"]["value"], metrics["label_agreement"]["value"]
        print(f"{kind} {entry.name}, seed {seed}, rate {entry.lr:g}: FID {fid:.3f}, {agree:.1%}", flush=True)


if __name__ == "__main__":
    main()
