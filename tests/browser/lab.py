"""JupyterLab in headless Chromium, as a learner has it: used by the browser tests and by images/screenshots.py."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-precise-memory-info",
]
MOVING = ("jupyter.widget-view", "<input")  # in the outputs of cells that draw something to move
ERROR = (
    '[data-mime-type="application/vnd.jupyter.error"], '
    '.jp-OutputArea-output:has-text("Traceback (most recent call last)")'
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def chromium() -> Iterator:
    """Headless Chromium, closed in the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def to_the_last_control(lesson: dict) -> dict:
    """The lesson without what comes after its last control: nothing moves there, and pytest runs it anyway."""
    moves = [any(mark in json.dumps(cell.get("outputs", [])) for mark in MOVING) for cell in lesson["cells"]]
    return lesson | {"cells": lesson["cells"][: len(moves) - moves[::-1].index(True)]}


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """JupyterLab on loopback over copies of the notebooks in ``folder``, its settings in there too; the address."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns("*.gif", "__pycache__"))
    for path in (folder / "notebooks").glob("*.ipynb"):
        path.write_text(json.dumps(to_the_last_control(json.loads(path.read_text(encoding="utf8")))), encoding="utf8")
    wanted = {
        "notebook-extension/tracker": '{"windowingMode": "none"}',  # every cell is in the page, not only those in sight
        "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    }
    for name, text in wanted.items():
        settings = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(text)
    own = {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    options = ["--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder / 'notebooks'}"]
    address = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("w") as log:
        lab = subprocess.Popen(
            [*command, *options], env=os.environ | own | {"PYTHONPATH": path}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            until = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"{address}/api/status")
                    break
                except OSError:
                    if lab.poll() is not None or time.monotonic() > until:
                        raise RuntimeError((folder / "server.log").read_text()) from None
                    time.sleep(0.5)
            yield address
        finally:
            lab.terminate()
            lab.wait(30)


def run_all(page, address: str, name: str, seconds: float = 600) -> float:
    """Open a notebook and run all its cells; how long they took. Raises TimeoutError when they take longer."""
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
    page.wait_for_selector(
        '.jp-NotebookPanel-toolbar [data-status="idle"], .jp-Notebook-ExecutionIndicator[data-status="idle"]',
        timeout=90_000,
    )
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    with urllib.request.urlopen(f"{address}/api/contents/{name}.ipynb") as lesson:
        code = [cell for cell in json.load(lesson)["content"]["cells"] if cell["cell_type"] == "code"]
    prompts.nth(len(code) - 1).wait_for(state="attached", timeout=90_000)  # cells are drawn one after the other
    _choose(page, "Edit", "Clear Outputs of All Cells", lambda: not any(map(_prompt, prompts.all_inner_texts())))
    start = time.monotonic()
    _choose(page, "Run", "Run All Cells", lambda: any(map(_prompt, prompts.all_inner_texts())))
    while time.monotonic() - start < seconds:
        texts = prompts.all_inner_texts()
        if all(_prompt(text).isdigit() for text in texts) or page.locator(ERROR).count():
            page.wait_for_timeout(1500)  # what the last cell shows is still on its way
            return time.monotonic() - start
        page.wait_for_timeout(500)
    raise TimeoutError(f"{name}: prompts {texts} after {seconds} s")


def _choose(page, menu: str, entry: str, done, attempts: int = 10) -> None:
    """Click a menu's entry until ``done()``: on a slow machine a click can come before the notebook listens."""
    for _ in range(attempts):
        page.click(f'.lm-MenuBar-item:has-text("{menu}")')
        page.click(f'.lm-Menu-item:has-text("{entry}")')
        for _ in range(20):
            if done():
                return
            page.wait_for_timeout(500)
    raise TimeoutError(f"{menu}, {entry}: clicked {attempts} times, and nothing came of it")


def _prompt(text: str) -> str:
    """What stands between the brackets of a cell's prompt: nothing, a star, or a number."""
    return text.strip("[]: \n")
