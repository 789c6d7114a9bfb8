"""Numbers that can be read: every measure with its error bar and its floor."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .features import Features
from .measures import fid, inception_score, kid, label_agreement, neighbourhoods


class Result(NamedTuple):
    """A measure with its error bar, and the same of real images: see ``metrics`` for both."""

    value: float
    error: float
    floor: float
    floor_error: float | None  # None where there are real images for one set only


def report(
    samples: Features,
    reference: Features,
    real: Features,
    distances: Sequence[Tensor] | None = None,
    resamples: int = 20,
    draws: int = 5,
) -> dict[str, Result]:
    """Every measure of the samples, by name, with error bar and floor (see ``metrics``).

    ``reference``: test images; ``real``: training images; floors are taken over up to ``draws`` separate sets of N of
    them, with the labels of the samples if those have any, error bars over ``resamples`` halves. The neighbourhood
    measures use N of the reference images, since they need equal numbers. label_agreement is there when the samples
    have labels; nearest, the median, when ``distances`` gives those of the samples and of N test images to their
    nearest training image.
    Raises ValueError for N below 12 or above the reference or the real images, for more samples of a label than there
    are real images of it, for samples with labels and real images without, and for features of different networks;
    warns if N is not above the number of features.
    """
    n, most = len(samples), min(len(reference), len(real))
    if not 12 <= n <= most:
        raise ValueError(f"{n} samples: expected 12 to {most}, since a floor needs as many real images")
    names = sorted({part.network for part in (samples, reference, real)})
    if len(names) > 1:
        raise ValueError(f"features of {' and '.join(names)}: expected one network")
    if samples.labels is not None and (reference.labels is None or real.labels is None):
        raise ValueError("the samples have labels and the real images have none: expected them for all")
    generator = torch.Generator().manual_seed(0)

    def draw(total: int, size: int) -> Tensor:
        return torch.randperm(total, generator=generator)[:size]

    def alike(others: Features) -> list[Tensor]:
        """Separate sets of indices into ``others``, each of N images, with the labels of the samples if there are any."""
        if samples.labels is None:
            return list(draw(len(others), n * min(draws, len(others) // n)).split(n))
        classes, counts = samples.labels.unique(return_counts=True)
        found = [(others.labels == label).nonzero().flatten() for label in classes]
        for label, count, index in zip(classes.tolist(), counts.tolist(), found, strict=True):
            if count > len(index):
                raise ValueError(
                    f"{count} samples of label {label}: expected at most the {len(index)} real images of it"
                )
        pairs = [
            (index[draw(len(index), len(index))], count) for index, count in zip(found, counts.tolist(), strict=True)
        ]
        sets = min(draws, *(len(index) // count for index, count in pairs))
        return [torch.cat([index[i * count : (i + 1) * count] for index, count in pairs]) for i in range(sets)]

    def half() -> Tensor:
        """Indices of a random half of the samples, with half of each label if they have labels."""
        order = draw(n, n)
        if samples.labels is None:
            return order[: n // 2]
        _, label = samples.labels[order].unique(return_inverse=True)
        earlier = F.one_hot(label).cumsum(0).gather(1, label[:, None])[:, 0]  # which of its label it is, from 1
        return order[earlier.argsort(stable=True)][: n // 2]

    near = reference.take(draw(len(reference), n)).values  # drawn, since the first half of MNIST's test set is easier

    def compare(f: Features) -> dict[str, float]:
        found = {"fid": fid(f.values, reference.values), "kid": kid(f.values, reference.values)}
        return found | neighbourhoods(f.values, near)

    def alone(f: Features) -> dict[str, float]:
        agreement = {} if f.labels is None else {"label_agreement": label_agreement(f.logits, f.labels)}
        return {"inception_score": inception_score(f.logits)} | agreement

    def results(measure: Callable[[Features], dict[str, float]], others: Features) -> dict[str, Result]:
        value = measure(samples)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once, for the whole
            halves = [measure(samples.take(half())) for _ in range(resamples)]
            floors = [measure(others.take(index)) for index in alike(others)]
        return {name: _result(value[name], [h[name] for h in halves], [f[name] for f in floors]) for name in value}

    found = results(compare, real) | results(alone, reference)
    if distances is not None:
        mine, unseen = distances
        medians = [mine[draw(len(mine), len(mine) // 2)].median().item() for _ in range(resamples)]
        found["nearest"] = _result(mine.median().item(), medians, [unseen.median().item()])
    return found


def _result(value: float, halves: list[float], floors: list[float]) -> Result:
    error = torch.tensor(halves, dtype=torch.float64).std().item()
    floor = torch.tensor(floors, dtype=torch.float64)
    return Result(value, error, floor.mean().item(), floor.std().item() if len(floor) > 1 else None)
