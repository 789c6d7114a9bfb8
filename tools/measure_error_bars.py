"""Are the error bars and floors of ``metrics`` right? ``python tools/measure_error_bars.py``, a minute on two cores.

The bar of a measure, from halves of one set, against its deviation over 20 separate sets of 1000 real digits, 100 of
each; and the FID of real digits drawn at random against that of as many of each.
"""

import statistics

import torch
from torch import Tensor

from diffusion_helpers import data, weights
from diffusion_helpers.bench import metrics

train, test = data.load("mnist", "train"), data.load("mnist", "test")
torch.manual_seed(0)
picked = torch.randperm(len(train.images))[:24_000]
judge = weights.load("mnist-classifier")
reference = metrics.extract(data.symmetric(test.images), judge, test.labels)
real = metrics.extract(data.symmetric(train.images[picked]), judge, train.labels[picked])
by_class = [(real.labels == k).nonzero().flatten() for k in range(10)]


def measures(images: metrics.Features) -> dict[str, float]:
    """Every measure of ``metrics.report``, once, without its bar."""
    found = {
        "fid": metrics.fid(images.values, reference.values),
        "kid": metrics.kid(images.values, reference.values),
        "inception_score": metrics.inception_score(images.logits),
        "label_agreement": metrics.label_agreement(images.logits, images.labels),
    }
    return found | metrics.neighbourhoods(images.values, reference.values[: len(images)])


def even(n: int) -> Tensor:
    """Indices of n real digits, n / 10 of each."""
    return torch.cat([index[torch.randperm(len(index))[: n // 10]] for index in by_class])


def main() -> None:
    sets = [torch.cat([index[100 * i : 100 * i + 100] for index in by_class]) for i in range(20)]
    separate = [measures(real.take(index)) for index in sets]
    reports = [metrics.report(real.take(index), reference, real, draws=2) for index in sets[:4]]
    for name in separate[0]:
        spread = statistics.stdev(found[name] for found in separate)
        bar = statistics.mean(report[name].error for report in reports)
        print(f"{name:16} deviation {spread:.5f}   bar {bar:.5f}   ratio {bar / spread:.2f}")
    for n in (150, 300, 500, 2000):
        drawn = [metrics.fid(real.values[torch.randperm(len(real))[:n]], reference.values) for _ in range(10)]
        given = [metrics.fid(real.values[even(n)], reference.values) for _ in range(10)]
        for name, found in (("drawn at random", drawn), ("as many of each", given)):
            print(f"N = {n:4}, {name}: FID {statistics.mean(found):.3f} ± {statistics.stdev(found):.3f}")


if __name__ == "__main__":
    main()
