"""``make lab``, as the README says it: it serves the lessons wherever it is started, and its last line says where."""

import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VENV = os.path.relpath(sys.prefix, ROOT)  # make takes no spaces, which may be above the project
READY = Path(sys.prefix) / ".ready"

pytestmark = [
    pytest.mark.skipif(not shutil.which("make"), reason="no make on this machine"),
    pytest.mark.skipif(not READY.exists(), reason="this environment was not made by make"),
]


@contextmanager
def started(home: Path) -> Iterator[list[str]]:
    """``make lab`` without a display or a browser; what it has said when it says nothing more. It is ended with Ctrl-C."""
    hidden = {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "MAKEFLAGS", "MAKELEVEL"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"HOME": str(home)}
    # The environment stands already: --old-file keeps make from building it anew.
    command = ["make", f"--old-file={VENV}/.ready", "lab", f"VENV={VENV}"]
    lab = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        yield said(lab)
    finally:
        for press in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):  # Jupyter asks once whether it is meant
            with suppress(ProcessLookupError):
                os.killpg(lab.pid, press)
            with suppress(subprocess.TimeoutExpired):
                lab.wait(10)
                break
        lab.stdout.close()


def said(lab: subprocess.Popen) -> list[str]:
    """Its lines, up to the first silence of three seconds after an address."""
    waiting, text = selectors.DefaultSelector(), b""
    waiting.register(lab.stdout, selectors.EVENT_READ)
    while waiting.select(3 if b"/lab?token=" in text else 120):
        part = os.read(lab.stdout.fileno(), 1 << 16)
        text += part
        if not part:
            break
    return text.decode().strip().splitlines()


def test_the_lessons_are_served_without_a_browser_and_with_the_port_taken(tmp_path):
    with socket.socket() as taken:
        with suppress(OSError):  # then somebody else has it
            taken.bind(("127.0.0.1", 8888))
            taken.listen()
        with started(tmp_path) as lines:
            assert lines, "make lab said nothing"
            address = re.fullmatch(r"\s*(http://127\.0\.0\.1:(\d+))/lab\?token=(\w+)", lines[-1])
            assert address, "\n".join(lines)
            server, port, token = address.groups()
            assert port != "8888"
            with urllib.request.urlopen(f"{server}/lab?token={token}") as page:
                assert b"JupyterLab" in page.read()
            with urllib.request.urlopen(f"{server}/api/contents?token={token}") as listing:
                names = {entry["name"] for entry in json.load(listing)["content"]}
            assert {path.name for path in (ROOT / "notebooks").glob("*.ipynb")} <= names
