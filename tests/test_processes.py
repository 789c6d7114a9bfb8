"""Several processes on this machine's CPU (gloo): the numbers of one, and an end when one of them dies."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest
import torch

from diffusion_helpers import weights

pytest.importorskip("accelerate")
SCRIPT = Path(processes.__file__)


def start(what, to, number=2, **options):
    """Run it in so many processes; what comes of it, and how it ended."""
    launcher = [sys.executable]
    if number > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    done = subprocess.run(
        [*launcher, SCRIPT, what, to, json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=SCRIPT.parent,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )
    parts = [Path(f"{to}.{rank}") for rank in range(number)]
    if done.returncode == 0:
        done.found = [torch.load(part) for part in parts]
        assert [part["processes"] for part in done.found] == [number] * number, done.stderr
    return done


def alone(tmp_path, **options):
    return start("training", tmp_path / "alone", number=1, **options).found[0]


def assert_alike(found, expected):
    assert len(found["losses"]) == len(expected["losses"]) == 20
    torch.testing.assert_close(torch.tensor(found["losses"]), torch.tensor(expected["losses"]), rtol=0, atol=1e-5)
    torch.testing.assert_close(found["weights"], expected["weights"], rtol=0, atol=1e-5)


def test_two_processes_train_as_one_does_on_the_whole_batch(tmp_path):
    expected = processes.training(None, noisy=False)  # without accelerate
    for found in start("training", tmp_path / "two", noisy=False).found:
        assert_alike(found, expected)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_part_draws_the_same_random_numbers_whichever_process_has_it(parts, tmp_path):
    expected = alone(tmp_path, accumulate=2 * parts)
    for found in start("training", tmp_path / "two", accumulate=parts).found:
        assert_alike(found, expected)


def test_the_parts_of_a_step_draw_different_random_numbers(tmp_path):
    whole, halves = (alone(tmp_path, accumulate=parts)["losses"] for parts in (1, 2))
    assert whole != halves


def test_a_run_in_which_a_process_dies_ends_at_once_and_goes_on_to_the_same_weights(tmp_path):
    expected = start("training", tmp_path / "whole").found[0]
    checkpoint, begun = tmp_path / "toy.checkpoint", time.monotonic()
    stopped = start("training", tmp_path / "stopped", die=7, checkpoint=str(checkpoint))
    assert stopped.returncode != 0
    assert time.monotonic() - begun < 60
    assert "exitcode  : 3" in stopped.stderr
    assert torch.load(checkpoint)["done"] >= 6
    for found in start("training", tmp_path / "on", checkpoint=str(checkpoint)).found:
        assert len(found["losses"]) <= 14
        torch.testing.assert_close(found["weights"], expected["weights"], rtol=0, atol=0)


def test_a_run_goes_on_in_another_number_of_processes(tmp_path):
    expected = alone(tmp_path, accumulate=2)
    checkpoint = str(tmp_path / "toy.checkpoint")
    start("training", tmp_path / "stopped", die=7, checkpoint=checkpoint)
    found = start("training", tmp_path / "on", number=1, accumulate=2, checkpoint=checkpoint).found[0]
    assert len(found["losses"]) <= 14
    torch.testing.assert_close(found["weights"], expected["weights"], rtol=0, atol=1e-5)


def test_a_run_of_seconds_ends_in_all_processes_with_the_same_step(tmp_path):
    steps = start("seconds", tmp_path / "two").found[0]["steps"].tolist()
    assert steps[0] == steps[1] > 1


@pytest.mark.parametrize("sampler", ["ddpm", "heun"])
def test_the_samples_of_several_processes_are_those_of_one(sampler, tmp_path):
    expected = processes.samples(None, sampler)
    for found in start("samples", tmp_path / "three", number=3, sampler=sampler).found:
        for key in ("images", "labels"):
            assert torch.equal(found[key], expected[key])
        assert found["cost"] == expected["cost"]


def test_a_recipe_in_two_processes_leaves_one_model_with_one_card(tmp_path):
    first, second = start("recipe", tmp_path / "two", folder=str(tmp_path)).found
    assert second["card"] is None
    assert first["card"]["images_seen"] == 2 * 40
    assert first["card"]["hardware"].endswith("2 processes")
    assert weights.card(tmp_path / "tiny.safetensors") == first["card"]
    assert not list(tmp_path.glob("*.checkpoint*"))
