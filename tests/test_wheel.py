"""What is installed from the wheel alone: the package with its models, reports, scripts and samples."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diffusion_helpers"
LOAD = """
import sys
import torch
from pathlib import Path
from diffusion_helpers import weights
from diffusion_helpers.bench import reports
assert Path(weights.__file__).is_relative_to(sys.argv[1]), weights.__file__
model = weights.load("mnist-guided-residual")
x0 = model(torch.zeros(2, 1, 28, 28), model.schedule(0.5), torch.tensor([3, 10])).x0
assert x0.shape == (2, 1, 28, 28) and bool(x0.isfinite().all())
print(len(weights.names()), len(reports.stored()))
"""


def pip(*arguments: object) -> None:
    """pip without a network: what it needs is here, or the test fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PIP_NO_INDEX": "1"})
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, since setuptools leaves a folder ``build`` from which a later wheel would take old files."""
    pytest.importorskip("setuptools", minversion="77", reason="the wheel is built by setuptools 77 or newer")
    folder = tmp_path_factory.mktemp("wheel")
    leftovers = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / "source" / PACKAGE.name, ignore=leftovers)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    pip("wheel", folder / "source", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    [found] = folder.glob("*.whl")
    return found


def test_the_wheel_holds_every_file_of_the_package_and_is_at_most_32_megabytes(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert held == {path.relative_to(ROOT).as_posix() for path in files}
    assert wheel.stat().st_size <= 32e6


def test_installed_alone_it_loads_a_model_and_its_reports(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip("install", wheel, "--no-deps", "--target", site)
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", LOAD, str(site)]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    models = list((PACKAGE / "shipped").iterdir())
    results = [json.loads(file.read_text(encoding="utf8")) for file in (PACKAGE / "bench/results").glob("*.json")]
    reports = [result for result in results if "recipe" in result]
    assert done.stdout.split() == [str(len(models)), str(len(reports))]
