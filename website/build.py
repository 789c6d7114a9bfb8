"""Build the site into website/build/html from what is committed, executing nothing: ``make site``.

The lessons are the notebooks with their outputs and the saved state of their widgets. The models are exported to ONNX.
All that a page loads is served by the site itself: scripts come from the npm registry, pinned and checked in
package-lock.json.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from diffusion_helpers import export

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = HERE / "build"
SOURCE, HTML = BUILD / "source", BUILD / "html"
MODELS = ("mnist-guided-residual", "mnist-guided", "fashion-guided", "cells-guided", "captions")
VENDOR = {  # what is taken from node_modules, and where to
    "requirejs/require.js": "vendor/require.js",
    "@jupyter-widgets/html-manager/dist/embed-amd.js": "vendor/embed-amd.js",
    "anywidget/dist/index.js": "vendor/anywidget.js",
    "mathjax/es5/tex-mml-chtml.js": "vendor/mathjax/tex-mml-chtml.js",
    "mathjax/es5/output/chtml/fonts": "vendor/mathjax/output/chtml/fonts",
    "onnxruntime-web/dist/ort.wasm.min.mjs": "lab/ort/ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs": "lab/ort/ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "lab/ort/ort-wasm-simd-threaded.wasm",
}
VIEW = "application/vnd.jupyter.widget-view+json"
# The controls that ask a kernel, and what of the laboratory answers in their place.
LIVE = {
    "toy_explorer": "#the-toy",
    "drawing_explorer": "?task=redraw",
    "guidance_explorer": "?model=mnist-guided",
    "sampler_explorer": "?task=cost",
    "edit_explorer": "?task=redraw",
    "fill_explorer": "?task=fill",
    "prompt_explorer": "?model=captions",
}


def copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, to)
    else:
        shutil.copy(source, to)


def lesson(path: Path) -> None:
    """The notebook with its set-up folded away, and a word below each control that is dead without a kernel."""
    book = json.loads(path.read_text(encoding="utf-8"))
    cells, heading = [], path.stem
    for cell in book["cells"]:
        cells.append(cell)
        if cell["cell_type"] != "code":
            heading = (re.findall(r"^#+ (.+)$", "".join(cell["source"]), re.MULTILINE) or [heading])[-1]
            continue
        code = "".join(cell["source"])
        if "google.colab" in code:
            cell["metadata"]["tags"] = ["hide-input"]
        title = re.search(r'title(?:=|\()f?"([^"{]+)', code)
        text = title.group(1) if title else f"what this code draws, under {heading}"
        cell["metadata"]["mystnb"] = {"image": {"alt": text}}
        live = [name for name in LIVE if f"widgets.{name}(" in code]
        for output in cell["outputs"]:
            if live:
                output.get("data", {}).pop(VIEW, None)  # the picture beside it stays
        cells += [note(cell["id"], LIVE[name]) for name in live]
    book["cells"] = cells
    to = SOURCE / "lessons" / path.name
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(book), encoding="utf-8")


def place(path: Path) -> Path | None:
    """Where a file of the repository is on the site, below SOURCE; None for what is not there."""
    folder, _, rest = path.relative_to(ROOT).as_posix().partition("/")
    if folder == "notebooks":
        return Path("lessons") / rest
    if folder == "website" and rest.startswith("pages/"):
        return Path(rest).relative_to("pages")
    if folder == "images" or (folder == "teaching" and rest.endswith(".md")):
        return path.relative_to(ROOT)
    return None


def page(path: Path) -> None:
    """A text with its links as they are on the site; what is elsewhere in the repository is named without a link."""
    to = SOURCE / place(path)

    def link(found: re.Match) -> str:
        text, target, anchor = found.groups()
        if not target or target.startswith("http"):
            return found.group()
        inside = place((path.parent / target).resolve())
        return f"[{text}]({os.path.relpath(SOURCE / inside, to.parent)}{anchor or ''})" if inside else text

    to.parent.mkdir(parents=True, exist_ok=True)
    text = re.sub(r"\[([^]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)", link, path.read_text(encoding="utf-8"))
    to.write_text(text, encoding="utf-8")


def note(of: str, query: str) -> dict:
    # As HTML: how Markdown resolves a page that another source makes differs with the parser's version.
    laboratory = f'<a href="../laboratory.html{query}">laboratory</a>'
    text = (
        f"This picture moves where Python runs: in JupyterLab or Colab. Its like runs in the page in the {laboratory}."
    )
    return {"cell_type": "markdown", "id": f"{of}-note"[:64], "metadata": {}, "source": f":::{{note}}\n{text}\n:::"}


def gather() -> None:
    """All that Sphinx reads, below SOURCE."""
    static = SOURCE / "_static"
    for source, to in VENDOR.items():
        copy(HERE / "node_modules" / source, static / to)
    for path in (HERE / "lab").iterdir():
        copy(path, static / "lab" / path.name)
    for path in (HERE / "static").iterdir():
        copy(path, static / path.name)
    for name in MODELS:
        export.export(name, static / "lab" / "models")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        lesson(path)
    copy(ROOT / "images" / "way.gif", SOURCE / "images" / "way.gif")
    texts = [ROOT / "notebooks" / "glossary.md", ROOT / "teaching" / "INSTRUCTORS.md"]
    for path in (*texts, *(ROOT / "teaching" / "notes").iterdir(), *(HERE / "pages").iterdir()):
        page(path)


def finish() -> None:
    """What Sphinx and its theme leave undone."""
    for path in (HERE / "node_modules" / "@jupyter-widgets" / "html-manager" / "dist").iterdir():
        if path.suffix == ".woff2":  # embed-amd asks for these beside the page
            copy(path, HTML / "lessons" / "@jupyter-widgets" / "html-manager" / "dist" / path.name)
    # A label that says something else than the text in it keeps a voice user from naming it.
    label = re.compile(r'(<(?:summary|button class="btn search-button-field[^"]*")[^>]*?) aria-label="[^"]*"')
    for path in HTML.rglob("*.html"):
        path.write_text(label.sub(r"\1", path.read_text(encoding="utf-8")), encoding="utf-8")
    for path in HTML.rglob("*.map"):  # of the theme, for those who mend it
        path.unlink()
    shutil.rmtree(HTML / "_static" / "locales")  # of the theme, which read them while it wrote the pages


def main() -> None:
    shutil.rmtree(BUILD, ignore_errors=True)
    gather()
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", HERE, "-d", BUILD / "doctrees"]
    subprocess.run([*sphinx, SOURCE, HTML], check=True)
    finish()
    size = sum(path.stat().st_size for path in HTML.rglob("*") if path.is_file())
    print(f"{HTML.relative_to(ROOT)}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
