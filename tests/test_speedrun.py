"""The speed run keeps its own rules: at the size of a toy, on made-up images of the test set."""

import itertools
import json
import statistics
import sys
from dataclasses import asdict, replace

import pytest
import torch

from diffusion_helpers import data, train, weights
from diffusion_helpers.bench import evaluate, reports, speedrun
from diffusion_helpers.bench.speedrun import COURSE, Entry, changed, check, fitted

TINY = {
    "network": "ResidualUNet",
    "config": {"widths": [8], "attention": [], "classes": 10},
    "kind": "flow",
    "schedule": {"name": "flow"},
}
TINY_COURSE = COURSE.spec | {"config": {"D": 2, "time": True, "classes": 10}}
SAMPLES = 20


def made_up(name, split):
    n = {"train": 70, "test": 40}[split]
    images = torch.randint(0, 256, (n, 1, 28, 28), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)
    return data.Images(images, torch.arange(n) % 10, "made up")


@pytest.fixture(autouse=True, scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", made_up)
        patch.setattr(speedrun, "COURSE", replace(COURSE, spec=TINY_COURSE))
        yield patch


def command(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["speedrun", *map(str, arguments)])
        patch.setattr(torch, "set_num_threads", lambda n: None)
        speedrun.main()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The results of one command, its model, and what ``fit`` was given to train on."""
    folder, given, fit = tmp_path_factory.mktemp("run"), [], train.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "fit", lambda *args, **options: given.append((args[2], options)) or fit(*args, **options))
        usual = ["--data", "sample", "--seconds", 0.5, "--samples", SAMPLES, "--seeds", 3, 4, "--course"]
        files = ["--to", folder / "model.safetensors", "--json", folder / "new" / "results.json"]
        command(*usual, *files, "--set", f"spec={json.dumps(TINY)}", "batch=16")
    return json.loads((folder / "new" / "results.json").read_text()), folder / "model.safetensors", given


pytestmark = pytest.mark.filterwarnings("ignore:FID of", "ignore:.* exact copies of others")


def test_the_results_say_what_it_takes_to_repeat_and_read_them(finished):
    results, _, _ = finished
    assert results["protocol"] == {"seconds": 0.5, "threads": 2, "data": "sample", "samples": SAMPLES}
    assert "CPU" in results["hardware"]
    assert [(run["entry"]["name"], run["seed"]) for run in results["runs"]] == [
        ("speedrun", 3),
        ("course", 3),
        ("speedrun", 4),
        ("course", 4),
    ]
    for run in results["runs"]:
        assert set(run["entry"]) == set(asdict(Entry()))
        assert set(run["reports"]) == {"20", "10", "4", "2", "1"} and set(run["seconds_to"]) == {"3", "2", "1.5", "1.2"}
        for report in run["reports"].values():
            assert report["N"] == SAMPLES and report["features"]["network"] == "mnist-classifier"
            assert set(report["metrics"]) == set(reports.FORMATS)
        figures = run["training"]
        assert figures["images_seen"] == figures["steps"] * run["entry"]["batch"]
        assert figures["images_per_second"] == pytest.approx(figures["images_seen"] / figures["seconds"], rel=0.02)
        assert sys.platform == "win32" or 50 < figures["peak_memory_mb"] < 1e5


def test_no_draw_takes_more_evaluations_than_it_says(finished):
    for run in finished[0]["runs"]:
        for most, report in run["reports"].items():
            assert 0 < report["evaluations_per_sample"] <= int(most)


def test_both_recipes_train_for_the_same_time_on_the_training_images_alone(finished):
    images, labels = data.SOURCES["mnist"].sample("train")
    assert len(finished[2]) == 4
    for given, options in finished[2]:
        assert torch.equal(given[0], images) and torch.equal(given[1], labels)
        assert options["seconds"] == 0.5


def test_every_seed_gives_another_model(finished):
    seen = {run["reports"]["20"]["recipe"]["weights"] for run in finished[0]["runs"]}
    assert len(seen) == 4


def test_the_model_of_the_first_seed_is_kept_with_the_setting_it_was_measured_at(finished):
    results, path, _ = finished
    first = results["runs"][0]
    recipe, card = first["reports"]["20"]["recipe"], weights.card(path)
    assert evaluate._checksum(weights.load(path)) == recipe["weights"]
    assert card["draw"] == {key: recipe[key] for key in ("sampler", "steps", "gamma", "interval")}
    assert (card["seed"], card["data"]["N"], card["images_seen"]) == (3, 5000, first["training"]["images_seen"])
    assert card["held_out"]["N"] == 40


def test_the_time_to_quality_is_the_first_snapshot_good_enough(finished):
    for run in finished[0]["runs"]:
        fid, course = run["reports"]["20"]["metrics"]["fid"], run["fid_by_second"]
        assert course[-1] == [run["training"]["seconds"], fid["value"]]
        assert [at for at, _ in course] == sorted(at for at, _ in course)
        for factor, at in run["seconds_to"].items():
            good = [second for second, value in course if value <= float(factor) * fid["floor"]]
            assert at == (good[0] if good else None)


def test_the_fid_of_a_snapshot_is_that_of_a_report(finished):
    results, path, _ = finished
    model, report = weights.load(path), results["runs"][0]["reports"]["20"]
    how = evaluate.Run.of(weights.card(path), samples=SAMPLES, seed=3)
    found = speedrun.quick_fid(model, how, "mnist-classifier")
    assert found == pytest.approx(report["metrics"]["fid"]["value"], rel=1e-3)  # how many threads there are matters


def test_the_summary_is_over_all_seeds(finished):
    results = finished[0]
    for name, found in results["summary"].items():
        own = [run for run in results["runs"] if run["entry"]["name"] == name]
        assert found["seeds"] == [3, 4]
        for most, key in itertools.product(("20", "1"), ("fid", "label_agreement")):
            values = [run["reports"][most]["metrics"][key]["value"] for run in own]
            summed = found["evaluations"][most][key]
            assert summed["mean"] == pytest.approx(sum(values) / 2) and summed["sd"] == pytest.approx(
                abs(values[0] - values[1]) / 2**0.5
            )
            assert summed["floor"] == pytest.approx(own[0]["reports"][most]["metrics"][key]["floor"])
    shown = speedrun.text(results["summary"])
    assert shown.count("evaluations ") == 10 and shown.startswith("speedrun, seeds [3, 4]")


def test_one_seed_has_no_deviation_and_a_time_that_one_seed_misses_no_mean(finished):
    one = json.loads(json.dumps(finished[0]["runs"][:1]))
    assert speedrun.summary(one)["speedrun"]["evaluations"]["20"]["fid"]["sd"] is None
    other = json.loads(json.dumps(one[0]))
    one[0]["seconds_to"], other["seconds_to"] = {"3": 0.2, "2": 0.4}, {"3": 0.3, "2": None}
    found = speedrun.summary([one[0], other])
    assert found["speedrun"]["seconds_to"] == {"3": {"mean": 0.25, "sd": statistics.stdev((0.2, 0.3))}, "2": None}
    assert "3: 0 s, 2: not by all" in speedrun.text(found)


def test_the_time_is_used_up_within_a_step_and_snapshots_are_taken_when_due(monkeypatch):
    monkeypatch.setattr(train.time, "monotonic", itertools.count().__next__)  # each reading a second later
    training = made_up("mnist", "train")
    model, snapshots, figures = fitted(replace(Entry(), spec=TINY, batch=10), training, 40, seed=0)
    step = figures["seconds"] / figures["steps"]
    assert 40 <= figures["seconds"] < 40 + 2 * step
    shares = sorted(snapshots)
    assert len(shares) == len(speedrun.SNAPSHOTS)
    assert all(0 <= at - share * 40 < 2 * step for at, share in zip(shares, speedrun.SNAPSHOTS, strict=True))
    first, last = (snapshots[at].state_dict()["net.stem.1.weight"] for at in (shares[0], shares[-1]))
    end = model.state_dict()["net.stem.1.weight"]
    assert not torch.equal(first, last) and not torch.equal(last, end)  # copies, and of their own time


def test_weights_begin_at_random_by_the_seed_alone(monkeypatch):
    def weights_after(seed):
        monkeypatch.setattr(train.time, "monotonic", itertools.count().__next__)
        model, _, _ = fitted(replace(Entry(), spec=TINY, batch=10), made_up("mnist", "train"), 5, seed)
        return model.state_dict()["net.stem.1.weight"]

    first = weights_after(0)
    torch.manual_seed(9)
    assert torch.equal(weights_after(0), first) and not torch.equal(weights_after(1), first)


@pytest.mark.parametrize("entry", [Entry(), COURSE], ids=["speedrun", "course"])
def test_the_entries_keep_to_the_rules(entry):
    check(entry, SAMPLES)


@pytest.mark.parametrize(
    ("other", "samples", "message"),
    [
        ({"steps": 7, "interval": (0.0, 1.0)}, SAMPLES, "24 evaluations a sample by .*'steps': 7.*expected at most 20"),
        ({"gamma": 1.0, "steps": 12}, SAMPLES, "22 evaluations"),
        (
            {"fewer": {"4": {"sampler": "ddim", "steps": 3}}, "interval": (0.0, 1.0)},
            SAMPLES,
            "6 evaluations .*: expected at most 4",
        ),
        ({"fewer": {"4": {"sampler": "euler"}}}, SAMPLES, "draw .*'euler'"),
        ({}, 41, "41 samples: expected 12 to 40"),
    ],
)
def test_what_breaks_the_rules_is_refused_before_the_training(other, samples, message):
    with pytest.raises(ValueError, match=message):
        check(replace(Entry(), spec=TINY, **other), samples)


def test_an_interval_of_guidance_leaves_room_for_more_steps():
    check(replace(Entry(), spec=TINY, sampler="ddim", steps=14, interval=(0.4, 0.8), fewer={}), SAMPLES)


def test_a_field_is_changed_by_its_name_and_a_value_in_json():
    entry = changed(
        Entry(), ["lr=1", "optimizer=AdamW", "interval=[0.2, 0.8]", "batch=64", 'fewer={"2": {"steps": 1}}']
    )
    assert entry == replace(
        Entry(), lr=1.0, optimizer="AdamW", interval=(0.2, 0.8), batch=64, fewer={"2": {"steps": 1}}
    )
    assert type(entry.lr) is float and changed(Entry(), []) == Entry()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rate=1", "'rate=1': expected NAME=VALUE with one of name, spec, times"),
        ("lr", "lr = '': expected float, as in lr=0.004"),
        ("lr=fast", "lr = 'fast': expected float"),
        ("batch=1.5", "batch = 1.5: expected int"),
        ("batch=true", "batch = True: expected int"),
        ("spec=[]", r"spec = \[\]: expected dict"),
        ("times=cosine", "times = 'cosine': expected one of logit_normal, stratified, uniform"),
        ("optimizer=SGD", "optimizer = 'SGD': expected one of Muon, AdamW, Adam"),
        ("decay=1", "decay = '1': expected one of linear, exponential"),
    ],
)
def test_a_setting_that_means_nothing_is_named(setting, message):
    with pytest.raises(ValueError, match=message):
        changed(Entry(), [setting])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "full"], "70 training images of mnist: expected 60,000"),
        (["--data", "sample", "--to", "model.pt"], "model.pt: expected a path that ends in .safetensors"),
        (["--data", "sample", "--set", "lr=0"], "lr = 0.0: expected a positive number"),
        (["--data", "sample", "--seconds", "-1"], "seconds = -1.0: expected a positive number"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        command("--samples", SAMPLES, *arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["logit_normal", "stratified", "uniform"])
def test_times_labels_and_dropping_are_those_of_the_entry(name):
    seen = {}

    class Watched:
        schedule = weights.build(TINY).schedule

        def loss(self, x0, y, t, drop):
            seen.update(x0=x0, y=y, t=t, drop=drop)
            return x0.mean()

    images, labels, _ = made_up("mnist", "test")
    torch.manual_seed(0)
    replace(Entry(), times=name, drop=0.3).objective(Watched())(images, labels)
    assert torch.equal(seen["x0"], data.symmetric(images)) and torch.equal(seen["y"], labels) and seen["drop"] == 0.3
    one_in_each = seen["t"] if name == "stratified" else torch.special.ndtr(seen["t"].logit())
    strata = (one_in_each * 40).floor().long().bincount(minlength=40)
    assert (name == "uniform") != bool((strata == 1).all())
