"""The promises of the set-up: one list of requirements, Colab's packages are enough, importing is light."""

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]

# What Colab had preinstalled in August 2026.
COLAB_PYTHON = "3.13"
COLAB = {
    "torch": "2.11.0",
    "torchvision": "0.26.0",
    "numpy": "2.1.3",
    "matplotlib": "3.10.0",
    "pillow": "11.3.0",
    "ipywidgets": "7.7.1",
    "anywidget": "0.9.21",
    "tqdm": "4.67.3",
    "scikit-learn": "1.6.1",
}

# The rooms that a program without figures needs, and what none of them may load.
ROOMS = "data, denoise, schedules, train, unet, weights"
HEAVY = {"matplotlib", "ipywidgets", "torchmetrics", "torchvision", "tqdm", "IPython"}
IMPORT = f"""
import sys, time, torch
before = set(sys.modules)
start = time.perf_counter()
from diffusion_helpers import {ROOMS}
print(time.perf_counter() - start, *{{name.partition(".")[0] for name in set(sys.modules) - before}})
"""


@pytest.fixture(scope="module")
def project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]


def listed() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_are_those_of_the_package(project):
    extras = project["optional-dependencies"].values()
    assert sorted(listed()) == sorted(["-e .", *project["dependencies"], *(line for extra in extras for line in extra)])


def test_colab_needs_no_other_version(project):
    found = {Requirement(line).name: Requirement(line).specifier for line in project["dependencies"]}
    assert len(found.keys() & COLAB.keys()) == len(COLAB) - 1  # all but scikit-learn, which only others use
    assert {name: str(found[name]) for name in found.keys() & COLAB.keys() if COLAB[name] not in found[name]} == {}
    assert COLAB_PYTHON in SpecifierSet(project["requires-python"])


def test_import_is_light():
    seconds = []
    for _ in range(3):  # the best of three: other work on the machine only ever adds
        done = subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=True)
        first, *loaded = done.stdout.split()
        assert HEAVY & set(loaded) == set()
        assert "diffusion_helpers" in loaded
        seconds.append(float(first))
    assert min(seconds) <= 0.3
