"""The measures against exact values, closed forms and other libraries; no trained model is needed."""

import math
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch

from diffusion_helpers import weights
from diffusion_helpers.bench import metrics
from diffusion_helpers.bench.metrics import Features, measures
from diffusion_helpers.unet import Classifier

D = 8


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Classifier(width=2).eval()


def normal(n, d=D):
    return torch.randn(n, d, dtype=torch.float64)


def spd(d=D):
    root = normal(d + 4, d)
    return root.T @ root / d


def features(values, labels=None, network="net"):
    return Features(values, 3 * values[:, :4], network, labels)


# ---- Fréchet distance


def test_frechet_of_a_gaussian_to_itself_is_zero():
    mu, cov = normal(1)[0], spd()
    assert abs(metrics.frechet(mu, cov, mu, cov)) < 1e-12


def test_frechet_of_a_shift_is_its_squared_length():
    mu, cov, shift = normal(1)[0], spd(), normal(1)[0]
    assert metrics.frechet(mu, cov, mu + shift, cov) == pytest.approx(shift.square().sum().item(), rel=1e-9)


def test_frechet_of_a_scale_is_the_squared_difference_of_the_deviations():
    mu, (a, b) = torch.zeros(D), torch.rand(2, D, dtype=torch.float64) + 0.1
    found = metrics.frechet(mu, a.square().diag(), mu, b.square().diag())
    assert found == pytest.approx((a - b).square().sum().item(), rel=1e-9)


def test_frechet_is_symmetric_and_takes_singular_covariances():
    a, b = metrics.gaussian(normal(5)), metrics.gaussian(2 * normal(6) + 1)  # rank 4 and 5 in 8 dimensions
    assert metrics.frechet(*a, *b) == pytest.approx(metrics.frechet(*b, *a), rel=1e-6)
    point = (torch.zeros(D), torch.zeros(D, D))
    assert metrics.frechet(*point, torch.zeros(D), torch.eye(D)) == pytest.approx(D)


def test_frechet_agrees_with_scipy():
    for _ in range(3):
        mu1, mu2, cov1, cov2 = *normal(2), spd(), spd()
        root = scipy.linalg.sqrtm((cov1 @ cov2).numpy()).real
        expected = (mu1 - mu2).square().sum() + cov1.trace() + cov2.trace() - 2 * np.trace(root)
        assert metrics.frechet(mu1, cov1, mu2, cov2) == pytest.approx(expected.item(), rel=1e-9)


def test_fid_agrees_with_the_closed_form_on_the_same_features(net):
    a, b = (metrics.extract(2 * torch.rand(300, 1, 28, 28) ** power - 1, net).values for power in (1, 2))
    assert a.shape == (300, 128)
    expected = metrics.frechet(*metrics.gaussian(a), *metrics.gaussian(b))
    assert metrics.fid(a, b) == pytest.approx(expected, rel=1e-6)
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    by_scipy = ((a - b).mean(0) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert metrics.fid(a, b) == pytest.approx(by_scipy.item(), rel=1e-3)


@pytest.mark.parametrize("n", [6, 300])
def test_every_measure_is_that_of_torchmetrics(n):
    """With fewer images than features too, where a covariance is singular. Theirs draw from the global stream."""
    of = lambda name: pytest.importorskip(f"torchmetrics.image.{name}", reason="torchmetrics is the oracle")  # noqa: E731
    known = torch.nn.Identity()
    known.num_features = D
    samples, reference = 1.2 * normal(n) + 0.3, normal(n + 50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fid = of("fid").FrechetInceptionDistance(known)
        kid = of("kid").KernelInceptionDistance(known, 20, min(n, 100))
        score = of("inception").InceptionScore(known, splits=1)
        ours = metrics.fid(samples, reference)
    for metric in (fid, kid):
        metric.update(reference, real=True)
        metric.update(samples, real=False)
    score.update(3 * samples)
    assert ours == pytest.approx(fid.compute().item(), rel=1e-6)
    torch.manual_seed(0)
    assert metrics.kid(samples, reference, 20, 100) == pytest.approx(kid.compute()[0].item(), rel=1e-9, abs=1e-12)
    assert metrics.inception_score(3 * samples) == pytest.approx(score.compute()[0].item(), rel=1e-9)


def test_the_bias_of_fid_at_n_images_is_what_theory_says():
    # N(0, I) against itself, one side known exactly: D/N from the mean, D(D+1)/4N from the covariance
    exact = torch.zeros(D), torch.eye(D)
    for n in (200, 800):
        found = np.mean([metrics.frechet(*metrics.gaussian(normal(n)), *exact) for _ in range(60)])
        assert found == pytest.approx(D / n + D * (D + 1) / (4 * n), rel=0.15)


def test_fid_of_no_more_images_than_features_is_a_warning():
    with pytest.warns(UserWarning, match="FID of 8 images in 8 features"):
        metrics.fid(normal(8), normal(100))


@pytest.mark.parametrize("place", range(4))
def test_frechet_refuses_what_is_not_a_gaussian(place):
    parts = [torch.zeros(3), torch.eye(3), torch.zeros(3), torch.eye(3)]
    parts[place] = torch.zeros(2) if place % 2 == 0 else torch.eye(2)
    with pytest.raises(ValueError, match="expected .D,., .D, D."):
        metrics.frechet(*parts)
    parts[place] = torch.full((3,) if place % 2 == 0 else (3, 3), torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        metrics.frechet(*parts)


# ---- KID


def unbiased_mmd(a, b):
    k = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3  # noqa: E731
    n, m = len(a), len(b)
    within = lambda x, n: (k(x, x).sum() - k(x, x).diagonal().sum()) / (n * (n - 1))  # noqa: E731
    return (within(a, n) + within(b, m) - 2 * k(a, b).mean()).item()


def test_kid_agrees_with_the_closed_form():
    a, b = normal(80), 1.3 * normal(80) + 0.2
    assert metrics.kid(a, b, subsets=1) == pytest.approx(unbiased_mmd(a, b), rel=1e-9)


def test_kid_of_the_same_distribution_is_zero_on_average_at_every_n():
    for n in (20, 80):
        found = np.array([metrics.kid(normal(n), normal(n), subsets=1) for _ in range(100)])
        assert abs(found.mean()) < 4 * found.std() / math.sqrt(len(found))
        assert found.min() < 0


def test_kid_repeats_itself_and_leaves_the_random_numbers_alone():
    a, b = normal(100), normal(100)
    state = torch.get_rng_state()
    first = metrics.kid(a, b, subsets=3, size=30)
    assert metrics.kid(a, b, subsets=3, size=30) == first
    assert torch.equal(torch.get_rng_state(), state)


# ---- Inception score and label agreement


def test_inception_score_of_sure_and_balanced_predictions_is_the_number_of_classes():
    assert metrics.inception_score(100 * torch.eye(10).repeat(7, 1)) == pytest.approx(10, rel=1e-6)


@pytest.mark.parametrize("row", [100 * torch.eye(10)[3], torch.zeros(10)], ids=["one class", "no idea"])
def test_inception_score_of_constant_predictions_is_one(row):
    assert metrics.inception_score(row.repeat(50, 1)) == pytest.approx(1, rel=1e-6)


def test_label_agreement_is_the_share_of_right_answers():
    logits = torch.eye(4)[[0, 1, 2, 3, 0]]
    assert metrics.label_agreement(logits, torch.tensor([0, 1, 2, 0, 1])) == pytest.approx(0.6)
    with pytest.raises(ValueError, match=r"labels of shape \(4,\): expected \(5,\)"):
        metrics.label_agreement(logits, torch.zeros(4))


# ---- precision, recall, density, coverage


def test_a_set_against_itself_fills_every_ball():
    x = normal(50)
    found = metrics.neighbourhoods(x, x, k=5)  # a ball holds its centre and 5 others: density (k + 1) / k
    assert found == pytest.approx({"precision": 1, "recall": 1, "density": 6 / 5, "coverage": 1})


def test_a_set_far_away_fills_none():
    found = metrics.neighbourhoods(normal(50), normal(50) + 100)
    assert found == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_a_collapsed_set_is_precise_and_dense_and_covers_little():
    real = torch.arange(12.0)[:, None]  # k = 1: every ball reaches to distance 1
    fake = torch.tensor([[2.4], [2.5], [2.6]])  # each in the balls of 2 and 3, none of which is within 0.1 of them
    found = metrics.neighbourhoods(fake, real, k=1)
    assert found == pytest.approx({"precision": 1, "recall": 0, "density": 2, "coverage": 2 / 12})


def test_one_outlier_inflates_recall_but_not_coverage():
    real = torch.arange(12.0)[:, None]
    fake = torch.tensor([[-100.0], [100.0]])  # their balls, of radius 200, hold all of the real images
    found = metrics.neighbourhoods(fake, real, k=1)
    assert found == pytest.approx({"precision": 0, "recall": 1, "density": 0, "coverage": 0})


def test_neighbourhoods_agree_with_their_definitions_and_do_not_depend_on_the_chunks(monkeypatch):
    a, b, k = normal(23), 1.5 * normal(31), 3
    far = lambda x, y: (x[:, None] - y[None]).norm(dim=-1)  # noqa: E731
    ra, rb = (far(x, x).sort(1).values[:, k] for x in (a, b))  # column 0 is the point itself
    inside = far(a, b) <= rb
    expected = {
        "precision": inside.any(1).double().mean().item(),
        "recall": (far(a, b) <= ra[:, None]).any(0).double().mean().item(),
        "density": inside.sum().item() / (k * len(a)),
        "coverage": inside.any(0).double().mean().item(),
    }
    for chunk in (1000, 7, 1):
        monkeypatch.setattr(measures, "CHUNK", chunk)
        assert metrics.neighbourhoods(a, b, k) == pytest.approx(expected)


def test_neighbourhoods_need_more_than_k_images():
    with pytest.raises(ValueError, match="N at least 6"):
        metrics.neighbourhoods(normal(5), normal(50))


# ---- the nearest training image


def test_a_memorised_image_is_found_at_distance_zero():
    train = torch.rand(200, 1, 28, 28) * 2 - 1
    stolen = torch.tensor([150, 3, 77])
    distances, indices = metrics.nearest(torch.cat([train[stolen], torch.rand(2, 1, 28, 28)]), train)
    assert torch.equal(distances[:3], torch.zeros(3))
    assert torch.equal(indices[:3], stolen)
    assert bool((distances[3:] > 1).all())


def test_nearest_agrees_with_its_definition_and_does_not_depend_on_the_chunks(monkeypatch):
    a, b = normal(20), normal(90)
    expected = (a[:, None] - b[None]).norm(dim=-1).min(1)
    for chunk in (1000, 3):
        monkeypatch.setattr(measures, "CHUNK", chunk)
        distances, indices = metrics.nearest(a, b)
        assert torch.allclose(distances, expected.values) and torch.equal(indices, expected.indices)


def test_nearest_refuses_images_of_another_size():
    with pytest.raises(ValueError, match="784 features against 1024"):
        metrics.nearest(torch.zeros(2, 1, 28, 28), torch.zeros(2, 1, 32, 32))


# ---- features


def test_features_do_not_depend_on_the_batch_and_the_mode_is_given_back(net):
    images = torch.rand(130, 1, 28, 28) * 2 - 1
    net.train()
    found = metrics.extract(images, net, torch.arange(130) % 10)
    assert net.training
    assert found.values.dtype == torch.float64 and found.network == "Classifier" and len(found) == 130
    net.eval()
    assert torch.allclose(metrics.extract(images[:2], net).values, found.values[:2], atol=1e-5)
    assert torch.allclose(found.logits, net(images).double(), atol=1e-5)
    taken = found.take(torch.tensor([5, 2]))
    assert taken.labels.tolist() == [5, 2] and torch.equal(taken.values, found.values[[5, 2]])


def test_a_network_in_a_file_goes_by_the_name_on_its_card(net, tmp_path):
    spec = {"network": "Classifier", "config": {"width": 2}}
    weights.save(net, tmp_path / "a.safetensors", {"name": "tiny", "spec": spec}, torch.float32)
    images = torch.rand(3, 1, 28, 28) * 2 - 1
    found = metrics.extract(images, weights.load(tmp_path / "a.safetensors"))
    assert found.network == "tiny"
    assert torch.allclose(found.values, metrics.extract(images, net).values, atol=1e-5)


good = torch.linspace(-1, 1, 3 * 784).reshape(3, 1, 28, 28)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (1.01 * good, r"images from -1.01 to 1.01: expected \[-1, 1\]"),
        (torch.where(good > 0.99, torch.nan, good), r"images from nan"),
        (torch.where(good > 0.99, torch.inf, good), r"to inf: expected \[-1, 1\]"),
        ((good * 100).byte(), "torch.uint8: expected floats"),
        (good[0], "expected floats"),
        (good[:1], "N at least 2"),
        (good[:0], "N at least 2"),
        (good.reshape(3, 1, 14, 56), r"expected \(B, 1, 28, 28\)"),
    ],
)
def test_bad_images_are_refused(net, images, message):
    with pytest.raises(ValueError, match=message):
        metrics.extract(images, net)
    with pytest.raises(ValueError, match="labels of shape"):
        metrics.extract(good, net, torch.zeros(4))


def test_copies_are_a_warning(net):
    with pytest.warns(UserWarning, match="1 of 4 images are exact copies"):
        metrics.extract(torch.cat([good, good[:1]]), net)
    with pytest.warns(UserWarning, match="4 of 5 images are exact copies"):
        metrics.extract(good[:1].repeat(5, 1, 1, 1), net)


def test_images_without_a_negative_pixel_are_a_warning(net):
    with pytest.warns(UserWarning, match="are the images in .0, 1."):
        metrics.extract((good + 1) / 2, net)


@pytest.mark.parametrize("measure", [metrics.fid, metrics.kid, metrics.neighbourhoods, metrics.nearest])
def test_bad_features_are_refused(measure):
    broken = normal(30)
    broken[3, 2] = torch.nan
    for a, b in ((broken, normal(30)), (normal(30), broken)):
        with pytest.raises(ValueError, match="1 of 30 rows hold NaN or infinity"):
            measure(a, b)
    with pytest.raises(ValueError, match="8 features against 7"):
        measure(normal(30), normal(30, 7))
    with pytest.raises(ValueError, match="N at least"):
        measure(normal(0), normal(30))


# ---- the report


def test_a_constant_set_gets_finite_numbers_that_show_it():
    constant = features(torch.ones(40, D, dtype=torch.float64))
    found = metrics.report(constant, features(normal(100)), features(normal(100)), resamples=2)
    assert all(math.isfinite(number) for result in found.values() for number in result)
    assert found["recall"].value == 0 and found["inception_score"].value == pytest.approx(1)
    assert found["fid"].value > 10 * found["fid"].floor


def test_the_floor_falls_with_n_for_fid_and_stays_for_kid():
    reference, real = features(normal(1000)), features(normal(3000))
    small, large = (metrics.report(features(normal(n)), reference, real, resamples=2) for n in (50, 600))
    assert small["fid"].floor > 3 * large["fid"].floor > 0
    assert abs(small["kid"].floor) < 4 * small["kid"].floor_error
    # samples of the very same distribution are at the floor
    assert abs(large["fid"].value - large["fid"].floor) < 6 * large["fid"].floor_error


def test_floor_and_error_bar_of_labelled_samples_leave_nothing_to_the_luck_of_the_labels():
    def labelled(labels):  # all that varies is the label
        return features(5 * torch.eye(D, dtype=torch.float64)[labels] + 1e-3 * normal(len(labels)), labels)

    balanced, uneven = torch.arange(200) % 4, torch.multinomial(torch.tensor([0.4, 0.3, 0.2, 0.1]), 4000, True)
    samples, real = labelled(balanced), labelled(uneven)
    given = metrics.report(samples, real, real, resamples=5)["fid"]
    blind = metrics.report(features(samples.values), real, real, resamples=5)["fid"]
    assert given.floor == pytest.approx(given.value, rel=1e-3)  # as uneven as the samples are even: no more, no less
    assert given.floor_error < 1e-3 * given.floor and given.error < 1e-2 * given.value
    assert blind.floor < 0.2 * given.floor and blind.error > 5 * given.error


def test_the_error_bar_of_a_share_is_its_standard_error():
    labels = torch.arange(400) % 4
    values = 2 * torch.eye(4, D, dtype=torch.float64)[labels] + normal(400)
    set_ = features(values, labels)
    found = metrics.report(set_, set_, set_, resamples=150)["label_agreement"]
    assert 0.5 < found.value < 0.98
    assert found.error == pytest.approx(math.sqrt(found.value * (1 - found.value) / 400), rel=0.25)


def test_the_error_bar_of_fid_is_its_spread_over_seeds():
    reference, real = features(normal(2000)), features(normal(300))
    draw = lambda: 1.2 * normal(300) + 0.3  # noqa: E731
    spread = np.std([metrics.fid(draw(), reference.values) for _ in range(60)])
    found = metrics.report(features(draw()), reference, real, resamples=60)["fid"]
    assert found.error == pytest.approx(spread, rel=0.4)


def test_a_report_repeats_itself_and_has_all_its_parts():
    labels = torch.arange(60) % 4
    sets = (
        features(normal(60), labels),
        features(normal(90), torch.arange(90) % 4),
        features(normal(70), torch.arange(70) % 4),
    )
    distances = torch.rand(60) + 1, torch.rand(60) + 1
    found = metrics.report(*sets, distances, resamples=3)
    assert found == metrics.report(*sets, distances, resamples=3)
    alone, shares = ["inception_score", "label_agreement", "nearest"], ["precision", "recall", "density", "coverage"]
    assert list(found) == ["fid", "kid", *shares, *alone]
    assert found["nearest"].value == pytest.approx(distances[0].median().item())
    assert found["fid"].floor_error is None  # 70 real images make one set of 60
    without = metrics.report(features(normal(60)), *sets[1:], resamples=3)
    assert "label_agreement" not in without and "nearest" not in without


def test_bad_reports_are_refused():
    few, many, named = (
        features(normal(11)),
        features(normal(50)),
        features(normal(50), torch.zeros(50, dtype=torch.long)),
    )
    for sets in ((few, many, many), (many, few, many), (many, many, few)):
        with pytest.raises(ValueError, match="samples: expected 12 to"):
            metrics.report(*sets)
    with pytest.raises(ValueError, match="features of net and other: expected one network"):
        metrics.report(many, many, features(normal(50), network="other"))
    for sets in ((named, many, many), (named, named, many), (named, many, named)):
        with pytest.raises(ValueError, match="the samples have labels and the real images have none"):
            metrics.report(*sets)
    other = features(normal(50), torch.arange(50) % 2)
    with pytest.raises(ValueError, match="50 samples of label 0: expected at most the 25 real images of it"):
        metrics.report(named, other, other)


def test_a_report_on_few_images_warns_once():
    reference, real = features(normal(50, 20)), features(normal(50, 20))
    with pytest.warns(UserWarning, match="FID of 15 images in 20 features") as said:
        metrics.report(features(normal(15, 20)), reference, real, resamples=2)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # halves of 30 are fewer than 20, the whole is not
        metrics.report(features(normal(30, 20)), reference, real, resamples=2)
