"""Is fine-tuning needed for a small folder? ``python tools/measure_finetuning.py`` trains as lesson 09 does, and afresh.

Both learn 180 cells of the package in another stain, red and green exchanged, under labels in another order, in 300
steps of 8 pictures: ``cells-guided``, with a new table of labels, and a network of the same form from random weights,
at one rate of 1e-3 for all. From each the averaged weights draw N = 90 in 20 steps of DDPM, gamma 1.5. ``cells-classifier``
reads them, the stain changed back. The rates were chosen with seeds 0 and 1. The results go to a JSON file after each run, and a second start goes on from there.
"""

from __future__ import annotations

from functools import partial

import runs
import torch
from torch import Tensor, nn

from diffusion_helpers import data, edits, samplers, schedules, train, weights

COUNTS = {"platelet": 40, "red cell": 80, "white cell": 60}  # of the folder's classes, in its order
PROTOCOL = {"counts": COUNTS, "steps": 300, "batch": 8, "ema": 0.97, "rates": [2e-4, 2e-3, 2e-2], "fresh rate": 1e-3}
PROTOCOL |= {"N": 90, "sampler": "ddpm, x0 clipped", "evaluations": 20, "gamma": 1.5}


def stained(images: Tensor) -> Tensor:
    """Red and green change places; done twice, the first stain is back."""
    return images[:, [1, 0, 2]]


def own_folder() -> tuple[Tensor, Tensor, Tensor]:
    """Stained cells (180, 3, 64, 64) uint8, their labels, and the label that each class has in the shipped set."""
    images, labels = data.SOURCES["cells"].sample("train")
    known = [data.classes("cells").index(kind) for kind in COUNTS]
    picked = [images[labels == label][:count] for label, count in zip(known, COUNTS.values(), strict=True)]
    own = torch.arange(len(COUNTS)).repeat_interleave(torch.tensor(list(COUNTS.values())))
    return stained(torch.cat(picked)), own, torch.tensor(known)


def trained(kind: str, seed: int, images: Tensor, labels: Tensor):
    """The model, with its averaged weights, and the mean loss of the last tenth of the steps."""
    torch.manual_seed(seed)
    if kind == "fresh":
        model = weights.build(weights.card("cells-guided")["spec"])
    else:
        model = weights.load("cells-guided").requires_grad_(True)
        model.net.embed_y = nn.Linear(len(COUNTS), model.net.embed_y.out_features, bias=False)
        nn.init.zeros_(model.net.embed_y.weight)
    table, pixels = [model.net.embed_y.weight], [*model.net.stem.parameters(), *model.net.last.parameters()]
    new = {id(weight) for weight in table + pixels}

    def optimizer(parameters, lr: float) -> torch.optim.Optimizer:
        rest = [weight for weight in parameters if id(weight) not in new]
        rates = PROTOCOL["rates"] if kind == "fine-tuned" else [lr] * 3
        groups = [{"params": params, "lr": rate} for params, rate in zip((rest, pixels, table), rates, strict=True)]
        return torch.optim.Adam(groups, lr=lr)

    def loss(x0: Tensor, y: Tensor) -> Tensor:
        return model.loss(data.symmetric(data.turn(x0)), y, schedules.logit_normal(len(x0)))

    even = (1 / labels.bincount()[labels]).float()
    index = torch.multinomial(even, PROTOCOL["steps"] * PROTOCOL["batch"] // 5, replacement=True)
    options = {"epochs": 5, "batch": PROTOCOL["batch"], "lr": PROTOCOL["fresh rate"], "ema": PROTOCOL["ema"]}
    options |= {"decay": train.linear, "optimizer": optimizer, "seed": seed, "bar": False}
    losses = [step.loss for step in train.fit(model, loss, (images[index], labels[index]), **options)]
    last = losses[-len(losses) // 10 :]
    return model, sum(last) / len(last)


def drawn(model, y: Tensor, seed: int) -> Tensor:
    """Cells (N, 3, 64, 64) in [-1, 1]."""
    step = partial(samplers.ddpm, generator=torch.Generator().manual_seed(seed))
    noise = torch.randn(len(y), 3, 64, 64, generator=torch.Generator().manual_seed(1000 + seed))
    denoise = edits.clip(edits.classifier_free(model, y, PROTOCOL["gamma"]))
    *_, last = samplers.sample(denoise, noise, model.schedule.grid(PROTOCOL["evaluations"]), step)
    return last.x.clamp(-1, 1)


@torch.no_grad()
def main() -> None:
    parser = runs.parser(__doc__, "finetuning", seeds=(3, 4, 5))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    try:
        found = runs.Runs(chosen.json, PROTOCOL)
    except ValueError as error:
        parser.error(str(error))
    judge = weights.load("cells-classifier")
    images, labels, known = own_folder()
    y = torch.arange(len(COUNTS)).repeat(PROTOCOL["N"] // len(COUNTS))

    def read(pictures: Tensor) -> Tensor:
        return judge(stained(pictures)).argmax(1)

    def share(classes: Tensor, wanted: Tensor) -> float:
        return (classes == known[wanted]).float().mean().item()

    found.facts["folder"] = share(read(data.symmetric(images)), labels)
    for seed in chosen.seeds:
        for kind in ("fine-tuned", "fresh"):
            if not found.missing(kind=kind, seed=seed):
                continue
            with torch.enable_grad():
                model, loss = trained(kind, seed, images, labels)
            classes = read(drawn(model, y, seed))
            run = {
                "kind": kind,
                "seed": seed,
                "loss": round(loss, 5),
                "read as asked": share(classes, y),
                "read as": {name: int((classes == label).sum()) for name, label in zip(COUNTS, known, strict=True)},
            }
            found.keep(run)
            print(run, flush=True)


if __name__ == "__main__":
    main()
