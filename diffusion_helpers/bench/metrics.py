"""How good is a set of samples? Distances between sets of images, in the features of a classifier.

No number here means much alone. ``report`` gives each with what it takes to read it: N, the feature network,
an error bar, and the floor: the same measure of N real images in place of the samples.

- Reference: the test images, which no network was trained on.
- Floor of a measure that compares with the reference (FID, KID, precision, recall, density, coverage): N training
  images. This is what a perfect sampler of the training set would score; a copy of it scores the same, which is
  what ``nearest`` is for. Floor of a measure of the samples alone (Inception score, label agreement, nearest
  training image): N test images.
- Samples that were made with labels are measured against a floor of real images with the same labels. Their numbers
  per class are given, not left to chance: 500 digits drawn at random have 1.4 times the FID of 50 of each, a floor
  that would flatter.
- Error bar: one standard deviation over random halves of the samples, drawn without replacement (half of each label,
  if they have labels), with the reference fixed. For a mean, a half drawn from N varies by sigma / sqrt(N), which is
  the standard error of the whole; and no image comes twice, which would spoil every nearest-neighbour measure. Against
  20 separate sets of 1000 real digits, 100 of each, it was 0.68 to 1.40 times their deviation for every measure
  (tools/measure_error_bars.py). Without labels, the bars of FID, KID and coverage close to their floor were up to 2.5
  times too wide. The bar of a floor is the deviation over separate sets of real images.

What has no meaning is a ValueError: NaN, pixels outside [-1, 1], shapes that do not match, too few images.
What has one that is easily misread is a warning: copies within a set, no pixel below 0 (images in [0, 1]?),
and FID from no more images than features.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..denoise import evaluating

CHUNK = 1000  # rows of a distance matrix at a time: what bounds the memory


@dataclass(frozen=True)
class Features:
    """What a feature network makes of N images, float64 on the CPU.

    values: (N, D); logits: (N, classes); network: its name; labels: (N,), the class that each image shows or should
    show, if known.
    """

    values: Tensor
    logits: Tensor
    network: str
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: Tensor) -> Features:
        """The images at ``index``, integers (n,)."""
        labels = None if self.labels is None else self.labels[index]
        return Features(self.values[index], self.logits[index], self.network, labels)


class Result(NamedTuple):
    """A measure with its error bar, and the same of real images: see the top of this module for both."""

    value: float
    error: float
    floor: float
    floor_error: float | None  # None where there are real images for one set only


# ---- images to features


@torch.no_grad()
def extract(images: Tensor, network: nn.Module, labels: Tensor | None = None) -> Features:
    """The features and logits of images (N, C, H, W) in [-1, 1], in eval mode, 100 at a time.

    ``network`` is a module with ``features`` (N, C, H, W) to (N, D) and ``head`` (N, D) to (N, classes), such as
    ``weights.load("mnist-classifier")``. Raises ValueError for images that are not finite or not in [-1, 1], and
    unless there are at least 2 and a label for each. Warns of copies and of images without a negative pixel.
    """
    _check_images(images)
    if labels is not None and labels.shape != (len(images),):
        raise ValueError(f"labels of shape {tuple(labels.shape)}: expected ({len(images)},), one per image")
    name = getattr(network, "name", type(network).__name__)
    device = next(network.parameters()).device
    values, logits = [], []
    with evaluating(network):
        for part in images.split(100):
            features = network.features(part.to(device))
            values.append(features.cpu().double())
            logits.append(network.head(features).cpu().double())
    return Features(torch.cat(values), torch.cat(logits), name, None if labels is None else labels.cpu())


# ---- features to numbers


def gaussian(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of features (N, D), float64. Raises ValueError for N < 2 and for NaN."""
    _check(values)
    return values.double().mean(0), torch.cov(values.double().T).reshape(values.shape[1], -1)


def frechet(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> float:
    """The Frechet distance between two Gaussians, squared: |mu1 - mu2|² + tr(cov1 + cov2 - 2 sqrt(cov1 cov2)).

    Means (D,), covariances (D, D), computed in float64. sqrt(cov1 cov2) has the trace of the root of
    S cov2 S with S = sqrt(cov1), which is symmetric: its root is that of its eigenvalues.
    Raises ValueError for shapes that do not match and for NaN.
    Source: Dowson and Landau 1982; Heusel et al. 2017 (arXiv:1706.08500), equation 6.
    """
    shapes = [tuple(part.shape) for part in (mu1, cov1, mu2, cov2)]
    D = mu1.numel()
    if shapes != [(D,), (D, D)] * 2:
        raise ValueError(f"means and covariances of shapes {shapes}: expected (D,), (D, D), (D,), (D, D)")
    mu1, cov1, mu2, cov2 = (part.double() for part in (mu1, cov1, mu2, cov2))
    if not all(bool(part.isfinite().all()) for part in (mu1, cov1, mu2, cov2)):
        raise ValueError("means or covariances with NaN or infinity: expected finite numbers")
    eigenvalues, vectors = torch.linalg.eigh(cov1)
    root = vectors * eigenvalues.clamp(min=0).sqrt() @ vectors.T  # rounding leaves eigenvalues a little below 0
    shared = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    return ((mu1 - mu2).square().sum() + cov1.trace() + cov2.trace() - 2 * shared).item()


def fid(values: Tensor, reference: Tensor) -> float:
    """Frechet distance between Gaussians fitted to features (N, D) and (M, D): 0 if alike, biased upwards at small N.

    Raises ValueError for shapes that do not match, NaN, or fewer than 2 images; warns if N or M is not above D,
    where a covariance is singular and most of the distance is bias.
    Source: Heusel et al. 2017; the bias: Binkowski et al. 2018 (arXiv:1801.01401), section 4.
    """
    _check(values, reference)
    n, D = min(len(values), len(reference)), values.shape[1]
    if n <= D:
        warnings.warn(
            f"FID of {n} images in {D} features: a covariance is singular, the value mostly bias", stacklevel=2
        )
    return frechet(*gaussian(values), *gaussian(reference))


def kid(values: Tensor, reference: Tensor, subsets: int = 20, size: int = 500) -> float:
    """Kernel distance (squared MMD, cubic kernel) between features (N, D) and (M, D): unbiased, so about 0 if alike.

    The mean over ``subsets`` pairs of ``size`` images (at most N and M), always the same ones.
    Raises ValueError for shapes that do not match, NaN, or fewer than 2 images.
    Source: Binkowski et al. 2018, section 4.
    """
    _check(values, reference)
    n, generator = min(size, len(values), len(reference)), torch.Generator().manual_seed(0)

    def pick(from_: Tensor) -> Tensor:
        return from_[torch.randperm(len(from_), generator=generator)[:n]].double()

    found = []
    for _ in range(subsets):
        y, x = pick(reference), pick(values)  # (n, D)
        within = sum(kernel.sum() - kernel.trace() for kernel in (_cubic(x, x), _cubic(y, y)))
        found.append(within / (n * (n - 1)) - 2 * _cubic(x, y).mean())
    return torch.stack(found).mean().item()


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    """The kernel (x . y / D + 1)³ of every pair of rows (N, D) and (M, D): (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def inception_score(logits: Tensor) -> float:
    """exp of the mean KL divergence of p(y | x) from p(y): 1 (one class, or no idea) to the number of classes.

    logits (N, classes) of the samples, in one split. Raises ValueError for NaN or fewer than 2 images.
    Source: Salimans et al. 2016 (arXiv:1606.03498), section 4.
    """
    _check(logits)
    log_p = logits.double().log_softmax(1)
    log_mean = log_p.logsumexp(0) - math.log(len(log_p))  # of p(y)
    return (log_p.exp() * (log_p - log_mean)).sum(1).mean().exp().item()


def neighbourhoods(values: Tensor, reference: Tensor, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage of features (N, D) against (M, D), as a dictionary.

    Around each image lies a ball that reaches to its k-th nearest neighbour in its own set. precision: share of the
    samples in a real ball; recall: share of the real images in a sample's ball; density: how many real balls a sample
    is in, over k (may exceed 1); coverage: share of the real balls that hold a sample. All depend on N and M.
    Raises ValueError for shapes that do not match, NaN, or a set of k images or fewer.
    Sources: Kynkaanniemi et al. 2019 (arXiv:1904.06991), equations 1 and 2; Naeem et al. 2020 (arXiv:2002.09797),
    equations 3 and 5, whose k = 5 serves all four here.
    """
    _check(values, reference, least=k + 1)
    values, reference = values.double(), reference.double()
    radii, real_radii = _radii(values, k), _radii(reference, k)
    inside = 0  # how many samples are in a real ball
    balls = 0  # how many pairs of a sample and a real ball around it there are
    recalled, covered = torch.zeros(2, len(reference), dtype=torch.bool, device=values.device)
    for part, reach in zip(values.split(CHUNK), radii.split(CHUNK), strict=True):
        distance = torch.cdist(part, reference)  # (CHUNK, M)
        in_real = distance <= real_radii
        inside += int(in_real.any(1).sum())
        balls += int(in_real.sum())
        covered |= in_real.any(0)
        recalled |= (distance <= reach[:, None]).any(0)
    return {
        "precision": inside / len(values),
        "recall": recalled.double().mean().item(),
        "density": balls / (k * len(values)),
        "coverage": covered.double().mean().item(),
    }


def label_agreement(logits: Tensor, labels: Tensor) -> float:
    """Share of the images in which the classifier, logits (N, classes), sees what they should show, labels (N,)."""
    if labels.shape != (len(logits),):
        raise ValueError(f"labels of shape {tuple(labels.shape)}: expected ({len(logits)},), one per image")
    return (logits.argmax(1) == labels).double().mean().item()


def nearest(images: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest of ``among`` (M, ...) to each of ``images`` (N, ...): Euclidean distances (N,) and indices (N,).

    Pixels or features. A copy has distance 0; compare with what unseen real images have.
    Raises ValueError when the shapes of the items differ, for NaN, and for an empty set.
    """
    x, y = images.flatten(1), among.flatten(1)
    _check(x, y, least=1)
    distances, indices = [], []
    for part in x.split(CHUNK):
        best, index = x.new_full((len(part),), torch.inf), x.new_zeros(len(part), dtype=torch.long)
        for start in range(0, len(y), 10 * CHUNK):
            d, i = torch.cdist(part, y[start : start + 10 * CHUNK]).min(1)
            closer = d < best
            best, index = torch.where(closer, d, best), torch.where(closer, start + i, index)
        distances.append((part - y[index]).norm(dim=1))  # anew, since cdist rounds a distance of 0
        indices.append(index)
    return torch.cat(distances), torch.cat(indices)


# ---- numbers that can be read


def report(
    samples: Features,
    reference: Features,
    real: Features,
    distances: Sequence[Tensor] | None = None,
    resamples: int = 20,
    draws: int = 5,
) -> dict[str, Result]:
    """Every measure of the samples, by name, with error bar and floor (see the top of this module).

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


def _check_images(images: Tensor) -> None:
    """Raise ValueError unless images are floats (N, C, H, W) in [-1, 1], N >= 2; warn of what looks wrong."""
    if images.ndim != 4 or not images.is_floating_point() or len(images) < 2:
        raise ValueError(f"images {tuple(images.shape)} of {images.dtype}: expected floats (N, C, H, W), N at least 2")
    low, high = images.min().item(), images.max().item()
    if not -1 <= low <= high <= 1:  # also false for NaN
        raise ValueError(f"images from {low:.4g} to {high:.4g}: expected [-1, 1] (clamp samples first)")
    if low >= 0:
        warnings.warn(
            f"no pixel is below 0 (lowest: {low:.4g}): are the images in [0, 1]? Expected [-1, 1]", stacklevel=3
        )
    copies = len(images) - len({image.tobytes() for image in images.cpu().numpy()})
    if copies:
        warnings.warn(f"{copies} of {len(images)} images are exact copies of others in the set", stacklevel=3)


def _check(values: Tensor, reference: Tensor | None = None, least: int = 2) -> None:
    for part in (values,) if reference is None else (values, reference):
        if part.ndim != 2 or len(part) < least:
            raise ValueError(f"features of shape {tuple(part.shape)}: expected (N, D), N at least {least}")
        if not bool(part.isfinite().all()):
            bad = int((~part.isfinite()).any(1).sum())
            raise ValueError(f"{bad} of {len(part)} rows hold NaN or infinity: expected finite numbers")
    if reference is not None and values.shape[1] != reference.shape[1]:
        raise ValueError(f"{values.shape[1]} features against {reference.shape[1]}: expected the same number")


def _radii(values: Tensor, k: int) -> Tensor:
    """The distance of each row (N, D) to its k-th nearest other row: (N,)."""
    found = []
    for start in range(0, len(values), CHUNK):
        distance = torch.cdist(values[start : start + CHUNK], values)  # (CHUNK, N)
        distance.diagonal(start).fill_(torch.inf)  # itself is no neighbour
        found.append(distance.topk(k, largest=False).values[:, -1])
    return torch.cat(found)
