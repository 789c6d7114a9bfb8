"""Write the outputs of the notebooks anew: ``python tools/execute.py [names...]``.

A name is the beginning of a file name, such as 01; without names it takes every notebook. Each one gets
its Colab badge and set-up from the address in pyproject.toml, runs in a kernel of its own, in the
quick budget unless DIFFUSION_BUDGET says otherwise, and is written back without progress bars and
without what changes from run to run. A notebook that fails stops the script and is left as it was.
"""

import json
import os
import re
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import nbformat
import psutil
from address import write_address
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
STATE_LIMIT = 2**20  # bytes; a larger state is not worth committing, the picture beside the view is enough
BAR = re.compile(r"\d+%\||\[(?:\d+:)?\d\d:\d\d[<,]")  # " 40%|####  | 4/10 [00:02<00:03, ..." or "4it [00:02, ..."
BAR_LINE = re.compile(rf"\r?[^\r\n]*(?:{BAR.pattern})[^\r\n]*[\r\n]*")


def tidy(book: NotebookNode) -> None:
    """Take out progress bars, with their widgets, and what changes from run to run; make the pictures small."""
    bars, views = set(), set()  # model ids
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # time stamps
        kept = []
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = BAR_LINE.sub("", output.text)
                if not output.text or (output.name == "stderr" and output.text.isspace()):
                    continue
                if kept and kept[-1].get("name") == output.name:  # where a stream is cut depends on the timing
                    kept[-1].text += output.text
                    continue
            elif VIEW in output.get("data", {}):
                text = output.data.get("text/plain", "")
                is_bar = BAR.search(text) or text == "HBox()"
                (bars if is_bar else views).add(output.data[VIEW]["model_id"])
                if is_bar:
                    continue
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
            kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept

    state = book.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    for model in _reachable(state, bars) - _reachable(state, views):
        del state[model]
    if not state or len(json.dumps(state)) > STATE_LIMIT:
        book.metadata.pop("widgets", None)
        _drop_views(book)

    book.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book.metadata.language_info.pop("version", None)


def smaller(png: str) -> str:
    """The picture, base64, in less room if there is a way: git keeps every one.

    Figures have few colours, and keep 256. Photographs have many, and keep them all, or smooth areas would show bands.
    """
    picture = Image.open(BytesIO(b64decode(png))).convert("RGB")
    if picture.getcolors(10_000):
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    buffer = BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return min(b64encode(buffer.getvalue()).decode(), png.replace("\n", ""), key=len)


def _reachable(state: dict, models: set[str]) -> set[str]:
    """Those of ``models`` in the state, and every model that they refer to, directly or through others."""
    found, waiting = set(), list(models)
    while waiting:
        model = waiting.pop()
        if model in state and model not in found:
            found.add(model)
            waiting += re.findall(r"IPY_MODEL_(\w+)", json.dumps(state[model]))
    return found


def _drop_views(book: NotebookNode) -> None:
    """Without its state a view shows an error: leave the picture that came with it, if one did."""
    for cell in book.cells:
        for output in list(cell.get("outputs", [])):
            if output.get("data", {}).pop(VIEW, None) and set(output.data) <= {"text/plain"}:
                cell.outputs.remove(output)


def numbered(book: NotebookNode) -> NotebookNode:
    """The notebook with its widgets numbered: their random names would change with every run."""
    text = json.dumps(book)
    for number, model in enumerate(book.metadata.get("widgets", {}).get(STATE, {}).get("state", {})):
        text = text.replace(model, f"{number:032x}")
    return nbformat.from_dict(json.loads(text))


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Watch this process's children, the kernel and what it starts; the list ends up holding their peak, in bytes."""
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            now = 0
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it may have ended meanwhile
                    now += child.memory_info().rss
            peak[0] = max(peak[0], now)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def execute(path: Path) -> tuple[float, int]:
    """Run one notebook and write it back; the seconds it took and its peak memory in bytes.

    Raises nbclient's CellExecutionError when a cell fails; the file is then left as it was.
    """
    book = nbformat.read(path, as_version=4)
    write_address(book, f"notebooks/{path.stem}")
    book.metadata.pop("widgets", None)
    folder = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(book, kernel_name="python3", record_timing=False, resources=folder)
    start = time.perf_counter()
    with peak_memory() as peak:
        client.execute()
    seconds = time.perf_counter() - start
    tidy(book)
    nbformat.write(numbered(book), path)
    return seconds, peak[0]


def main(names: list[str]) -> None:
    os.environ.setdefault("DIFFUSION_BUDGET", "quick")
    paths = [path for name in names or [""] for path in sorted(NOTEBOOKS.glob(f"{name}*.ipynb"))]
    if not paths:
        sys.exit(f"no notebook called {' or '.join(names) or 'anything'} in {NOTEBOOKS}")
    for path in paths:
        seconds, memory = execute(path)
        print(f"{path.stem:32} {seconds:6.0f} s {memory / 2**20:8,.0f} MiB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
