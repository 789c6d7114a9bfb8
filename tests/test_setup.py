"""The promises of the set-up: one list of requirements, Colab's packages are enough, importing is light."""

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path

import address
import pytest
from IPython.core.interactiveshell import InteractiveShell
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from traitlets.config import Config

from diffusion_helpers.lessons import budget

ROOT = Path(__file__).parents[1]
PAGES = [
    path for folder in (".", "teaching", "teaching/notes", "website/pages") for path in ROOT.glob(f"{folder}/*.md")
]

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
ROOMS = "data, denoise, edits, samplers, schedules, train, unet, weights"
HEAVY = {"matplotlib", "ipywidgets", "torchmetrics", "torchvision", "tqdm", "IPython"}
IMPORT = f"""
import sys, torch
before = set(sys.modules)
from diffusion_helpers import {ROOMS}
print(*{{name.partition(".")[0] for name in set(sys.modules) - before}})
"""


@pytest.fixture(scope="module")
def project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]


def listed() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_are_those_of_the_package(project):
    extras = [
        lines
        for name, lines in project["optional-dependencies"].items()
        if name not in ("coursework", "pretrained", "site")
    ]
    assert sorted(listed()) == sorted(["-e .", *project["dependencies"], *(line for extra in extras for line in extra)])


def test_colab_needs_no_other_version(project):
    found = {Requirement(line).name: Requirement(line).specifier for line in project["dependencies"]}
    assert len(found.keys() & COLAB.keys()) == len(COLAB) - 1  # all but scikit-learn, which only others use
    assert {name: str(found[name]) for name in found.keys() & COLAB.keys() if COLAB[name] not in found[name]} == {}
    assert COLAB_PYTHON in SpecifierSet(project["requires-python"])


def test_tests_that_need_nbgrader_skip_without_it():
    """It is for instructors, and requirements.txt leaves it out; an import that fails would end the whole run."""
    for path in ROOT.glob("tests/test_*.py"):
        text = path.read_text(encoding="utf8")
        if re.search(r"^import (grade|student)\b", text, re.MULTILINE):
            assert 'pytest.importorskip("nbgrader"' in text.split("import student")[0], path.name


@pytest.mark.parametrize("page", [path.relative_to(ROOT).as_posix() for path in PAGES])
def test_every_link_within_the_repository_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text(encoding="utf8"))
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_dev_container_builds_its_environment_with_the_makefile():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf8"))
    command, target, torch = shlex.split(container["postCreateCommand"])
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    assert command == "make" and re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert torch.startswith("TORCH=torch torchvision ") and re.search(r"^TORCH \?=", makefile, re.MULTILINE)
    environment = re.search(r"^VENV \?= (.+)", makefile, re.MULTILINE)[1]
    python = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert python == f"${{containerWorkspaceFolder}}/{environment}/bin/python"


@pytest.fixture
def content(tmp_path) -> Path:
    """A folder in the place of Colab's /content, with a mounted Drive."""
    (tmp_path / "drive" / "MyDrive").mkdir(parents=True)
    (tmp_path / "sample_data").mkdir()
    return tmp_path


@pytest.fixture
def run(content, monkeypatch) -> Callable[..., list[str]]:
    """Runs a set-up cell as in Colab, which lacks the package unless told otherwise; what it asks pip for."""

    def run(cell: str, colab: bool = True, installed: bool = False) -> list[str]:
        monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # a shell puts its own there
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if installed else None)
        monkeypatch.setitem(sys.modules, "google.colab", sys)
        if not colab:
            monkeypatch.delitem(sys.modules, "google.colab")
        shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
        lines = []
        shell.register_magic_function(lines.append, "line", "pip")
        shell.run_cell(cell.replace("/content", content.as_posix())).raise_error()
        return [shlex.split(line)[-1] for line in lines]

    return run


WHEEL = "diffusion_helpers-0.1.0-py3-none-any.whl"


@pytest.mark.parametrize("place", [".", "drive/MyDrive", "drive/MyDrive/Colab Notebooks"])
def test_the_set_up_cell_finds_a_wheel(content, run, place):
    (content / place).mkdir(exist_ok=True)
    second = WHEEL.replace(".whl", " (1).whl")  # what browsers call a second download, and pip refuses
    for name in (WHEEL, second):
        (content / place / name).touch()
    assert [Path(path).resolve() for path in run(address.BRING)] == [(content / place / WHEEL).resolve()]


@pytest.mark.parametrize("place", ["diffusion", "drive/MyDrive/my diffusion"])
def test_the_set_up_cell_finds_the_folder_of_the_project(content, run, place):
    (content / place / "diffusion_helpers").mkdir(parents=True)
    assert [Path(path).resolve() for path in run(address.BRING)] == [(content / place).resolve()]


def test_the_set_up_cell_takes_what_was_uploaded_before_what_is_on_the_drive(content, run):
    for place in ("drive/MyDrive", "."):
        (content / place / WHEEL).touch()
    assert run(address.BRING) == [(content / WHEEL).as_posix()]


def test_the_set_up_cell_tells_two_ways_where_it_finds_nothing(run):
    with pytest.raises(FileNotFoundError, match=r"(?s)diffusion_helpers-.*\.whl.*Files panel.*; or .*Mount Drive"):
        run(address.BRING)


def test_the_set_up_cell_does_nothing_where_there_is_nothing_to_do(content, run):
    (content / WHEEL).touch()
    assert run(address.BRING, installed=True) == []
    assert run(address.BRING, colab=False) == run(address.INSTALL, colab=False) == []


def test_the_set_up_cell_installs_from_an_address(run):
    assert run(address.INSTALL.format(url="https://github.com/a/b")) == ["git+https://github.com/a/b"]


def test_import_is_light():
    done = subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert HEAVY & loaded == set() and "diffusion_helpers" in loaded


# What each room may import of the package: the core and the data stand lowest, and a student reads them alone.
BELOW = {
    "": {"", "data", "words"},
    "words": {"", "data", "words"},
    "data": {"data"},
    "bench": {"", "data", "words", "bench"},
    "lessons": {"", "data", "words", "bench", "lessons"},
}


def imports() -> dict[str, set[str]]:
    """Of each module those of the package that it imports, within functions too."""
    package = ROOT / "diffusion_helpers"
    modules = {path.relative_to(package).with_suffix("").as_posix(): path for path in package.rglob("*.py")}
    found = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = Path(name).parents[node.level - 1].joinpath(*(node.module or "").split("."))
                for alias in node.names:
                    places = (base / alias.name, base / alias.name / "__init__", base, base / "__init__")
                    found[name].add(next(place.as_posix() for place in places if place.as_posix() in modules))
    return found


def test_imports_run_downwards_and_in_no_circle():
    edges = imports()
    assert "schedules" in edges["denoise"] and "bench/metrics/__init__" in edges["lessons/widgets/explorers"]

    def room(name: str) -> str:
        return name.partition("/")[0] if "/" in name else ""

    wrong = {
        (name, other) for name, others in edges.items() for other in others if room(other) not in BELOW[room(name)]
    }
    assert wrong == set()
    assert list(TopologicalSorter(edges).static_order())  # CycleError for a circle


def test_the_budget_is_what_the_device_affords_unless_it_is_said(monkeypatch):
    monkeypatch.delenv("DIFFUSION_BUDGET")
    for gpu, expected in ((True, "full"), (False, "quick")):
        monkeypatch.setattr("torch.cuda.is_available", lambda gpu=gpu: gpu)
        assert budget() == expected
    monkeypatch.setenv("DIFFUSION_BUDGET", "full")
    assert budget() == "full"
    monkeypatch.setenv("DIFFUSION_BUDGET", "long")
    with pytest.raises(ValueError, match="DIFFUSION_BUDGET is 'long': expected 'quick' or 'full'"):
        budget()
