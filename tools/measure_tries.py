"""What else was tried on the ladder's best rung, each change alone: ``python tools/measure_tries.py``.

The base is the rung "Muon" of ``measure_ladder``: trained by its rules, drawn in ten steps of DDIM, guided with γ = 2.
A draw changes how the trained base is drawn, always with 20 evaluations for a digit: other averages of its weights,
other guidance or none, and its own snapshot after a quarter of the time as the bad model of autoguidance. A training
changes one thing of the base and is drawn as the base is. The results go to a JSON file after each training, and a
second start goes on from there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import measure_ladder
import runs
import scipy.optimize
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_helpers import data, edits, samplers, schedules, train, weights
from diffusion_helpers.bench import metrics, speedrun
from diffusion_helpers.denoise import Denoiser, label_weights, target
from diffusion_helpers.schedules import noise
from diffusion_helpers.unet import time_features, zero

PROTOCOL = measure_ladder.PROTOCOL | {"base": "Muon", "early": 0.25}
# The average at step n takes (k + 1) / (k + n) of the new weights, so it looks back over about n / (k + 1) steps.
AVERAGES = {"no average": None, "average over the last twentieth": 19, "average over the last third": 2}


class TransformerBlock(nn.Module):
    """Attention between patches, then a layer for each, both added: (B, N, D) to the same, the identity at the start.

    Source: the adaLN-Zero block of Peebles and Xie 2023 (arXiv:2212.09748), section 3.2.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.condition = zero(nn.Linear(width, 6 * width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.each = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        B, N, D = h.shape
        scale1, shift1, gate1, scale2, shift2, gate2 = self.condition(embedding)[:, None].chunk(6, 2)
        qkv = self.qkv(self.norm(h) * (1 + scale1) + shift1).reshape(B, N, 3, self.heads, D // self.heads)
        seen = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))  # (B, heads, N, D / heads)
        h = h + gate1 * self.out(seen.transpose(1, 2).reshape(B, N, D))
        return h + gate2 * self.each(self.norm(h) * (1 + scale2) + shift2)


class Transformer(nn.Module):
    """A diffusion transformer for digits: patches of 4 x 4 pixels are its words, 49 of them.

    Source: Peebles and Xie 2023 (arXiv:2212.09748), with learnt places.
    """

    time, classes, channels = True, 10, 1

    def __init__(self, width: int = 128, depth: int = 6, heads: int = 4, patch: int = 4):
        super().__init__()
        self.width = width
        self.fold, self.unfold = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        self.embed = nn.Linear(patch**2, width)
        self.place = nn.Parameter(0.02 * torch.randn(1, (28 // patch) ** 2, width))
        self.embed_t = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_y = nn.Linear(self.classes, width, bias=False)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.last = nn.Sequential(nn.LayerNorm(width), zero(nn.Linear(width, patch**2)))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        embedding = F.silu(
            self.embed_t(time_features(t, self.width)) + self.embed_y(label_weights(y, self.classes).to(x.dtype))
        )
        folded = self.fold(x)  # (B, 16, 7, 7)
        h = self.embed(folded.flatten(2).mT) + self.place
        for block in self.blocks:
            h = block(h, embedding)
        return self.unfold(self.last(h).mT.reshape(folded.shape))


class OfTransformer(speedrun.Entry):
    def build(self) -> Denoiser:
        return Denoiser(Transformer(), self.spec["kind"], schedules.flow())


class Compiled(speedrun.Entry):
    def build(self) -> Denoiser:
        model = super().build()
        model.net.compile()
        return model


class Paired(speedrun.Entry):
    """Within each label of a batch, noises go to the digits so that the sum of squared distances is least.

    Source: Tong et al. 2023 (arXiv:2302.00482), for each label by itself.
    """

    def objective(self, model: Denoiser) -> Callable[[Tensor, Tensor], Tensor]:
        times = speedrun.TIMES[self.times](model.schedule)

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            x0 = data.symmetric(images)
            eps = torch.randn_like(x0)
            for label in labels.unique():
                rows = (labels == label).nonzero()[:, 0]
                cost = torch.cdist(x0[rows].flatten(1), eps[rows].flatten(1)).square()
                eps[rows] = eps[rows[torch.from_numpy(scipy.optimize.linear_sum_assignment(cost)[1])]]
            level = model.schedule(times(len(x0))).like(x0)
            y = torch.where(torch.rand(len(labels)) < self.drop, model.classes, labels)
            return F.mse_loss(
                model.net(noise(x0, level, eps), level.t.flatten(), y), target(model.kind, x0, eps, level)
            )

        return loss


def base() -> speedrun.Entry:
    """The rung that PROTOCOL names, with the rungs before it."""
    entry = speedrun.COURSE
    for name, change in measure_ladder.RUNGS.items():
        entry = replace(entry, name=name, **change)
        if name == PROTOCOL["base"]:
            return entry
    raise KeyError(PROTOCOL["base"])


def trainings() -> list[speedrun.Entry]:
    """The base, and what changes one thing of it."""
    entry = base()
    fields = {name: getattr(entry, name) for name in entry.__dataclass_fields__}
    config = entry.spec["config"] | {"patch": 4, "widths": [96], "blocks": 2}
    patches = {kind: entry.spec | {"kind": kind, "config": config} for kind in ("flow", "x0")}
    return [
        replace(entry, name="base"),
        Paired(**fields | {"name": "noise paired with digits"}),
        replace(entry, name="pixels folded 4x4", spec=patches["flow"]),
        replace(entry, name="pixels folded 4x4, x0", spec=patches["x0"]),
        OfTransformer(**fields | {"name": "transformer"}),
        Compiled(**fields | {"name": "torch.compile"}),
    ]


@dataclass(frozen=True)
class Judge:
    """FID and label agreement of digits by the classifier of the package."""

    network: nn.Module
    reference: Tensor

    @classmethod
    def of(cls) -> Judge:
        network = weights.load(f"{speedrun.SET}-classifier")
        test = data.load(speedrun.SET, "test")
        return cls(network, metrics.extract(data.symmetric(test.images), network).values)

    def __call__(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        found = metrics.extract(images, self.network, labels)
        return {
            "fid": metrics.fid(found.values, self.reference),
            "label_agreement": metrics.label_agreement(found.logits, labels),
        }


def drawn(denoiser: Callable[[Tensor], samplers.Denoise], schedule: schedules.Schedule, steps: int, seed: int) -> tuple:
    """1,000 digits and their labels; ``denoiser`` takes the labels of a batch to what draws it."""
    labels, generator, images = torch.arange(PROTOCOL["samples"]) % 10, torch.Generator().manual_seed(seed), []
    for y in labels.split(250):
        x = torch.randn(len(y), 1, 28, 28, generator=generator)
        *_, last = samplers.sample(denoiser(y), x, schedule.grid(steps))
        images.append(data.symmetric(((last.x.clamp(-1, 1) + 1) * 127.5).round().byte()))
    return torch.cat(images), labels


def draws(model: Denoiser, early: Denoiser, averages: dict[str, Denoiser]) -> dict[str, tuple]:
    """How the base is drawn, by name: what takes labels to a denoiser, and the steps that make 20 evaluations."""

    def free(which: Denoiser, gamma: float) -> Callable[[Tensor], samplers.Denoise]:
        return lambda y: edits.classifier_free(which, y, gamma)

    def auto(gamma: float, bad: Callable[[Tensor], samplers.Denoise]) -> Callable[[Tensor], samplers.Denoise]:
        return lambda y: edits.guide(edits.given(model, y), bad(y), gamma)

    found = {f"γ = {gamma:g}": (free(model, gamma), 10) for gamma in (1.25, 1.5, 2.5, 3)} | {
        "no guidance": (free(model, 1), 20)
    }
    for name, seen in {"autoguidance": 1, "autoguidance without the label": 0}.items():
        bad = free(early, seen)
        found |= {f"{name}, γ = {gamma:g}": (auto(gamma, bad), 10) for gamma in (1.5, 2, 3)}
    return found | {name: (free(average, 2), 10) for name, average in averages.items()}


def base_trained(entry: speedrun.Entry, training: data.Images, seed: int) -> tuple[Denoiser, dict, dict[str, tuple]]:
    """The base, the figures of its training, and how else it is drawn."""
    torch.manual_seed(seed)
    model, seconds = entry.build(), PROTOCOL["seconds"]
    averages, early = {name: copy.deepcopy(model) for name in AVERAGES}, None
    options = entry.fit | {"seed": seed, "seconds": seconds}
    for step in train.fit(model, entry.objective(model), (training.images, training.labels), **options):
        for name, k in AVERAGES.items():
            share = 1 if k is None else (k + 1) / (k + step.step)  # the first step is all of the average
            with torch.no_grad():
                torch._foreach_lerp_([*averages[name].parameters()], [*model.parameters()], share)
        if early is None and step.seconds >= PROTOCOL["early"] * seconds:
            early = copy.deepcopy(step.model)
    figures = {"seconds": round(step.seconds, 2), "steps": step.step}
    return model, figures, draws(model, early, averages)


def main() -> None:
    parser = runs.parser(__doc__, "tries")
    parser.set_defaults(threads=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    try:
        found = runs.Runs(chosen.json, PROTOCOL | {"threads": chosen.threads})
    except ValueError as error:
        parser.error(str(error))
    training, judge = speedrun.sample(), Judge.of()
    for seed in chosen.seeds:
        for entry in trainings():
            if not found.missing(name=entry.name, seed=seed):
                continue
            if entry.name == "base":
                model, figures, ways = base_trained(entry, training, seed)
            else:
                model, _, figures = speedrun.fitted(entry, training, PROTOCOL["seconds"], seed)
                ways = {}
            as_base = {entry.name: (partial(edits.classifier_free, model, gamma=entry.gamma), entry.steps)}
            results = {
                name: judge(*drawn(denoiser, model.schedule, steps, seed))
                for name, (denoiser, steps) in (as_base | ways).items()
            }
            for name, result in results.items():
                print(f"{name}, seed {seed}: FID {result['fid']:.3f}, {result['label_agreement']:.1%}", flush=True)
            weight = sum(p.numel() for p in model.parameters())
            facts = {"parameters": weight, "steps": figures["steps"], "seconds": figures["seconds"]}
            found.keep({"name": entry.name, "seed": seed, "training": facts, "results": results})


if __name__ == "__main__":
    main()
