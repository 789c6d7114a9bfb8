"""What a reader sees on GitHub is what the cells gave: committed notebooks are whole, clean, short and alike."""

import copy
import json
import re
import shutil
import statistics
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import address
import execute
import nbformat
import numpy as np
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

NOTEBOOKS = sorted(execute.NOTEBOOKS.glob("*.ipynb"))
PNG = (  # one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABAQMAAAAl21bKAAAAA1BMVEUAAACnej3aAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg=="
)
COLAB = "https://colab.research.google.com"
# In the text of an output. A path counts where it begins, so not in the middle of a web address.
UNWANTED = {
    "a machine path": r"(?<!\w)/(?:home|root|tmp|work|usr|opt|mnt|content|Users)/\w|[A-Za-z]:\\+Users|site-packages",
    "a warning": r"[Ww]arning",
    "a progress bar": rf"{execute.BAR.pattern}|(?:Float|Int)ProgressModel|^HBox\(\)$",
    "a memory address": r"\bat 0x[0-9a-f]{6}",
}
SHELL = r"^\s*(?:[\w, ]+=\s*)?!|^\s*%%?(?:bash|sh|sx|system|script|cmd)\b"


def faults(book: NotebookNode, place: str) -> list[str]:
    """Everything about a notebook that must not be committed, a line each."""
    return [*faults_of_header(book, place), *faults_of_cells(book), *faults_of_outputs(book)]


def faults_of_header(book: NotebookNode, place: str) -> Iterator[str]:
    slug = address.address().removeprefix("https://github.com/")
    link = f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({COLAB}/github/{slug}/blob/main/{place}.ipynb)"
    header = book.cells[0].source
    if not header.startswith("# "):
        yield "header: no title"
    if "you will learn" not in header.lower():
        yield 'header: no "you will learn"'
    if [link] * bool(slug) != re.findall(r"\[!\[.*?colab-badge.*", "\n".join(cell.source for cell in book.cells)):
        yield "header: not the one badge of the address, or one without an address"
    first = next(cell for cell in book.cells if cell.cell_type == "code")
    if "setup" not in first.metadata.get("tags", []):
        yield 'set-up: the first code cell is not tagged "setup"'
    installed = f"git+https://github.com/{slug}" if slug else '"{packages[0]}"'
    if re.findall(r"^ +%pip install -q (.*)$", first.source, re.MULTILINE) != [installed]:
        yield "set-up: not the install line that address.py writes"
    if not slug and "github.com" in first.source:
        yield "set-up: an address, and there is none"


def faults_of_cells(book: NotebookNode) -> Iterator[str]:
    for found in re.findall(r"\b(?:TIME|RESULT)_[A-Z0-9]+", "".join(cell.source for cell in book.cells)):
        yield f"unfilled: {found}"
    numbers, filled, late = [], 0, False
    for cell in book.cells:
        if cell.cell_type == "markdown":
            numbers += map(int, re.findall(r"^### Exercise (\d+)", cell.source, re.MULTILINE))
        elif "### BEGIN SOLUTION" in cell.source:
            filled += 1
            late |= filled > len(numbers)
    if late or numbers != list(range(1, filled + 1)):
        yield f"exercises {numbers}: expected 1 to {filled}, each above its solution"
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    lengths = [len(address.HEAD.sub("", cell.source).splitlines()) for cell in code]  # of what a lesson writes itself
    if statistics.median(lengths) > 10:
        yield f"median cell: {statistics.median(lengths)} lines"
    for number, (cell, length) in enumerate(zip(code, lengths, strict=True), start=1):
        if length > 30:
            yield f"code cell {number}: {length} lines"
        if cell.execution_count != number:
            yield f"code cell {number}: execution count {cell.execution_count}"
        if re.search(SHELL, cell.source, re.MULTILINE):
            yield f"code cell {number}: a shell escape"


def faults_of_outputs(book: NotebookNode) -> Iterator[str]:
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        shown = "\n".join(map(text_of, cell.outputs))
        for what, pattern in UNWANTED.items():
            if found := re.search(pattern, shown, re.MULTILINE):
                yield f"code cell {number}: {what}, {found[0]!r}"
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"code cell {number}: an error"
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield f"code cell {number}: something on stderr"
        figure = "plt.show(" in cell.source or "<Figure size" in shown or execute.VIEW in shown
        if figure and not any("image/png" in output.get("data", {}) for output in cell.outputs):
            yield f"code cell {number}: a figure or a widget without a picture"
    state = json.dumps(book.metadata.get("widgets", {}))
    for what in ("a machine path", "a progress bar"):
        if found := re.search(UNWANTED[what], state):
            yield f"widget state: {what}, {found[0]!r}"


def text_of(output: NotebookNode) -> str:
    """All that an output says, its kinds included, without the pictures."""
    data = {kind: content for kind, content in output.get("data", {}).items() if not kind.startswith("image/")}
    traceback = "\n".join(output.get("traceback", []))
    return "\n".join(
        [output.get("text", ""), traceback, *data, *(text if isinstance(text, str) else "" for text in data.values())]
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_clean(path):
    assert faults(nbformat.read(path, as_version=4), f"notebooks/{path.stem}") == []


# The rules themselves: a small notebook that keeps them all, and one way to break each.


def clean_notebook() -> NotebookNode:
    picture = new_output("display_data", {"image/png": PNG, "text/plain": "<Figure size 640x480 with 1 Axes>"})
    book = new_notebook(
        cells=[
            new_markdown_cell("# Adding noise\n\nYou will learn how."),
            new_code_cell("%pip install", metadata={"tags": ["setup"]}, execution_count=1),
            new_code_cell("plt.plot(x)\nplt.show()", outputs=[picture], execution_count=2),
            new_code_cell("print(x)", outputs=[new_output("stream", text="https://a.org/home/b")], execution_count=3),
        ]
    )
    address.write_address(book, "clean")
    return book


def says(text: str, name: str = "stdout") -> Callable[[NotebookNode], None]:
    return lambda book: book.cells[3].outputs.append(new_output("stream", name=name, text=text))


def is_written(cell: int, old: str, new: str) -> Callable[[NotebookNode], None]:
    def spoil(book: NotebookNode) -> None:
        assert old in book.cells[cell].source
        book.cells[cell].source = book.cells[cell].source.replace(old, new)

    return spoil


BROKEN = {
    "no title": is_written(0, "# Adding", "Adding"),
    "no aims": is_written(0, "You will learn", "We show"),
    "another badge": is_written(0, "clean.ipynb", "other.ipynb"),
    "two badges": lambda book: book.cells.append(new_markdown_cell(book.cells[0].source)),
    "set-up not tagged": lambda book: book.cells[1].metadata.clear(),
    "another install line": is_written(1, "github.com", "gitlab.com"),
    "long cell": is_written(3, "print(x)", "x\n" * 31),
    "long cells": lambda book: [cell.update(source=cell.source + "\nx" * 11) for cell in book.cells[1:3]],
    "never run": lambda book: book.cells[3].update(execution_count=None),
    "run out of order": lambda book: book.cells[3].update(execution_count=7),
    "a solution that nothing asks for": is_written(3, "print(x)", "### BEGIN SOLUTION"),
    "shell": is_written(3, "print(x)", "!ls"),
    "shell, assigned": is_written(3, "print(x)", "files = !ls"),
    "shell, a whole cell": is_written(3, "print(x)", "%%bash\nls"),
    "error": lambda book: book.cells[3].outputs.append(new_output("error", ename="E", evalue="", traceback=[])),
    "home folder": says("saved in /home/ada/model"),
    "temporary folder": says("\n/tmp/x.png"),
    "Windows folder": says(r"C:\Users\ada"),
    "package folder": says("lib/site-packages/torch"),
    "path in a table": lambda book: book.cells[3].outputs.append(
        new_output("display_data", {"text/html": "<b>/root/x</b>"})
    ),
    "warning": says("UserWarning: beta"),
    "stderr": says("No copy of mnist here", name="stderr"),
    "bar": says("\r 40%|####      | 4/10 [00:02<00:03,  1.9it/s]"),
    "bar without an end": says("4it [00:02,  1.9it/s]"),
    "closed bar": lambda book: book.cells[3].outputs.append(new_output("display_data", {"text/plain": "HBox()"})),
    "bar's widget": lambda book: book.metadata.update(widgets={"a": {"model_name": "FloatProgressModel"}}),
    "address": says("<Axes at 0x7f2a1c0d>"),
    "no picture": lambda book: book.cells[2].outputs.clear(),
    "widget without a picture": lambda book: book.cells[3].outputs.append(
        new_output("display_data", {execute.VIEW: {"model_id": "1"}, "text/plain": "IntSlider()"})
    ),
}


@pytest.fixture(params=["", "https://github.com/a/b"], ids=["no address", "an address"])
def url(request, monkeypatch) -> str:
    monkeypatch.setattr(address, "address", lambda: request.param)
    return request.param


def test_a_clean_notebook_has_no_faults(url):
    assert faults(clean_notebook(), "clean") == []


@pytest.mark.parametrize("way", BROKEN)
def test_each_fault_is_found(way, monkeypatch):
    monkeypatch.setattr(address, "address", lambda: "https://github.com/a/b")
    book = copy.deepcopy(clean_notebook())
    BROKEN[way](book)
    assert len(faults(book, "clean")) == 1


def test_a_notebook_of_another_address_is_found(monkeypatch):
    books = {}
    for url in ("", "https://github.com/a/b", "https://github.com/a/c"):
        monkeypatch.setattr(address, "address", lambda url=url: url)
        books[url] = clean_notebook()
    for url in books:
        monkeypatch.setattr(address, "address", lambda url=url: url)
        assert [other for other in books if not faults(books[other], "clean")] == [url]


# The script that writes the outputs, on a notebook that leaves everything it has to clear away.

CELLS = [
    "from tqdm import tqdm as text_bar\nfrom tqdm.auto import tqdm\nimport ipywidgets, matplotlib.pyplot as plt",
    "for i in tqdm(range(2)):\n    for j in tqdm(range(2), leave=False):\n        print(i, j)",
    "for _ in text_bar(range(3)):\n    pass",
    "plt.plot([1, 2]);\nplt.show()",
    "plt.title('a figure too');",
    "slider = ipywidgets.IntSlider(description='step')\nslider",
    "print('one'); print('two')",
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> tuple[Path, float, int]:
    book = clean_notebook()
    book.cells[2:] = [new_code_cell(source) for source in CELLS]
    path = tmp_path_factory.mktemp("book") / "clean.ipynb"
    nbformat.write(book, path)
    return path, *execute.execute(path)


def test_execute_clears_bars_and_keeps_the_rest(executed):
    path, seconds, memory = executed
    book = nbformat.read(path, as_version=4)
    assert faults(book, "clean") == ["code cell 7: a figure or a widget without a picture"]  # the bare slider
    setup, imports, bars, text_bar, figure, title, slider, text = book.cells[1:]
    assert bars.outputs == [new_output("stream", text="0 0\n0 1\n1 0\n1 1\n")]
    assert text_bar.outputs == []
    assert [list(cell.outputs[0].data) for cell in (figure, title)] == [["image/png", "text/plain"]] * 2
    assert len(title.outputs) == 1  # the trailing semicolon
    assert text.outputs[0].text == "one\ntwo\n"
    state = book.metadata.widgets[execute.STATE].state
    assert state[slider.outputs[0].data[execute.VIEW].model_id].state.description == "step"
    assert len(state) == 3  # the slider, its layout and its style
    assert seconds > 0 and memory > 2**20


def test_execute_again_changes_nothing(executed):
    path = executed[0]
    before = path.read_text(encoding="utf8")
    execute.execute(path)
    assert path.read_text(encoding="utf8") == before
    assert "version" not in json.loads(before)["metadata"]["language_info"]


def test_large_widget_state_is_dropped_with_its_views(executed, monkeypatch):
    book = nbformat.read(executed[0], as_version=4)
    book.cells[-2].outputs[0].data["image/png"] = PNG
    monkeypatch.setattr(execute, "STATE_LIMIT", 100)
    execute.tidy(book)
    assert "widgets" not in book.metadata
    assert list(book.cells[-2].outputs[0].data) == ["text/plain", "image/png"]


def test_execute_leaves_a_failing_notebook_alone(tmp_path):
    book = clean_notebook()
    book.cells[2:] = [new_code_cell("1 / 0")]
    path = tmp_path / "clean.ipynb"
    nbformat.write(book, path)
    before = path.read_text(encoding="utf8")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute.execute(path)
    assert path.read_text(encoding="utf8") == before


def in_base64(picture: Image.Image) -> str:
    buffer = BytesIO()
    picture.save(buffer, format="png", compress_level=1)
    return b64encode(buffer.getvalue()).decode()


def test_a_photograph_keeps_its_colours_and_a_figure_gets_smaller():
    y, x = np.mgrid[:200, :200].astype(np.uint8)
    photograph, figure = np.stack([x, y, (x ^ y) // 8], axis=2), np.stack([x // 16 * 16] * 3, axis=2)
    for picture in (photograph, figure):
        png = in_base64(Image.fromarray(picture))
        less = execute.smaller(png)
        assert len(less) < len(png)
        assert np.array_equal(Image.open(BytesIO(b64decode(less))).convert("RGB"), picture)
    assert Image.open(BytesIO(b64decode(less))).mode == "P"  # 256 colours


# The address: written into copies of everything that has it.

URL = "https://github.com/ada-l/noise_2.0"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A copy of the files that tell the address, without one."""
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(address.ROOT / name, tmp_path)
    for path in [*NOTEBOOKS[:2], *address.ROOT.glob("teaching/student/*.ipynb")]:
        copied = tmp_path / path.relative_to(address.ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copied)
    monkeypatch.setattr(address, "ROOT", tmp_path)
    address.set_address("")
    return tmp_path


def content(project: Path) -> dict[str, str]:
    files = (path for path in project.rglob("*") if path.is_file())
    return {path.relative_to(project).as_posix(): path.read_text(encoding="utf8") for path in files}


def test_the_repository_is_as_its_address_says(project, monkeypatch):
    """What is committed, made anew from its own address, is the same to the byte."""
    bare = content(project)
    monkeypatch.undo()
    url = address.address()
    committed = {name: (address.ROOT / name).read_text(encoding="utf8") for name in bare}
    monkeypatch.setattr(address, "ROOT", project)
    address.set_address(url)
    assert content(project) == committed


def test_an_address_is_written_everywhere_and_taken_out_without_a_trace(project):
    bare = content(project)
    assert address.address() == ""
    assert [name for name, text in bare.items() if COLAB in text or "git+" in text] == []
    address.set_address(URL)
    told = content(project)
    assert address.address() == URL
    assert f'[project.urls]\nRepository = "{URL}"\n' in told["pyproject.toml"]
    for name, text in told.items():
        if name.endswith(".ipynb"):
            link = f"({COLAB}/github/ada-l/noise_2.0/blob/main/{name})"
            assert text.count(link) == text.count(COLAB + "/github") == 1
            assert text.count(f"%pip install -q git+{URL}") == text.count("%pip install") == 1
    assert f"({COLAB}/github/ada-l/noise_2.0/blob/main/notebooks/{NOTEBOOKS[0].name})" in told["README.md"]
    address.set_address(URL)
    assert content(project) == told
    address.set_address(URL + "-moved")
    assert sum("/noise_2.0-moved" in text for text in content(project).values()) == len(bare)
    address.set_address("")
    assert content(project) == bare


def test_an_address_changes_two_cells_and_no_output(project):
    read = {path: nbformat.read(path, as_version=4) for path in project.rglob("*.ipynb")}
    address.set_address(URL)
    for path, before in read.items():
        after = nbformat.read(path, as_version=4)
        pairs = list(zip(before.cells, after.cells, strict=True))
        changed = [old for old, new in pairs if old.source != new.source]
        assert [old.cell_type for old in changed] == ["markdown", "code"] and "setup" in changed[1].metadata.tags
        assert all({**old, "source": ""} == {**new, "source": ""} for old, new in pairs)
        assert before.metadata == after.metadata


@pytest.mark.parametrize(
    "url",
    [
        "github.com/a/b",
        "http://github.com/a/b",
        "https://github.com/a",
        "https://github.com/a/b/",
        "https://github.com/a/b.git",
        "https://github.com/a/b/tree/main",
        "https://gitlab.com/a/b",
        "https://github.com.evil.org/a/b",
        'https://github.com/a/b"\nx = "',
        "https://github.com/a/b c",
        " ",
    ],
)
def test_another_address_is_refused_and_nothing_is_written(project, url):
    before = content(project)
    with pytest.raises(ValueError, match="expected https://github.com/owner/name"):
        address.set_address(url)
    assert content(project) == before


@pytest.mark.parametrize("source", ["import sys", "%pip install -q git+https://a\n%pip install -q git+https://b"])
def test_set_up_cell_without_its_one_install_line(source):
    book = clean_notebook()
    book.cells[1].source = source
    with pytest.raises(ValueError, match="expected one"):
        address.write_address(book, "clean")
    book.cells[1].metadata.clear()
    with pytest.raises(ValueError, match="0 cells tagged"):
        address.write_address(book, "clean")
