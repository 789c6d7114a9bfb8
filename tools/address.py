"""Set the public address of the repository: ``python tools/address.py https://github.com/owner/name``.

It stands in pyproject.toml. From there it goes into the badge and the set-up cell of every notebook and student's
copy, and into README.md. Nothing is executed, and outputs stay as they are. An empty address takes it out again:
then there are no badges, and in Colab the set-up cell installs a wheel, or the project's folder, that was brought there.
"""

import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
COLAB = "https://colab.research.google.com"
ADDRESS = re.compile(r"https://github\.com/[\w-]+/[\w.-]*\w(?<!\.git)", re.ASCII)  # badges can open no other host
REPOSITORY = re.compile(r'^Repository = "(.+)"\n', re.MULTILINE)  # Python 3.10 has no tomllib
BADGE = re.compile(r"\[!\[Open in Colab\]\(.*?\)\]\(.*?\)\s*")
HEAD = re.compile(r"\A.*?%pip install[^\n]*", re.DOTALL)  # of the set-up cell, before what the lesson imports
PARAGRAPH = re.compile(r"(<!-- colab:begin -->\n).*?(<!-- colab:end -->)", re.DOTALL)

INSTALL = """\
import sys

if "google.colab" in sys.modules:
    %pip install -q git+{url}"""
# It binds few names, and rare ones: the grader runs every cell that binds a name which another one reads.
BRING = """\
import sys
from glob import glob
from importlib.util import find_spec

if "google.colab" in sys.modules and not find_spec("diffusion_helpers"):
    packages = []
    for spot in "/content/", "/content/*/", "/content/drive/MyDrive/", "/content/drive/MyDrive/*/":
        packages += glob(spot + "diffusion_helpers-*any.whl") + glob(spot + "diffusion_helpers/..")  # or the project
    if not packages:
        raise FileNotFoundError(
            "Drop the package, diffusion_helpers-...-any.whl, into the Files panel on the left; or put it into "
            "a folder on your Drive, and press Mount Drive in that panel. Then run this cell again."
        )
    %pip install -q "{packages[0]}\""""

WITH_ADDRESS = """\
**In Colab,** open a lesson with the badge at its top and run the first cell. It installs the helper package and leaves Colab's PyTorch as it is.
With a GPU, the lessons train the full recipe by themselves.

{badge}
"""
WITHOUT_ADDRESS = """\
**In Colab,** upload a lesson, and bring the helper package: either drop its wheel, which `.venv/bin/python -m pip wheel --no-deps --wheel-dir dist .` writes into `dist`, into the Files panel, or keep it, or this whole folder, in a folder on your Drive and mount that.
The first cell finds the package there, installs it, and leaves Colab's PyTorch as it is.
With a GPU, the lessons train the full recipe by themselves.
"""


def address() -> str:
    """The public address: ``Repository`` in pyproject.toml, the one place it stands in; empty while there is none."""
    found = REPOSITORY.search((ROOT / "pyproject.toml").read_text(encoding="utf8"))
    return found[1] if found else ""


def badge(place: str) -> str:
    """A link in Markdown that opens ``<place>.ipynb`` of the repository in Colab; empty while there is no address."""
    if not (url := address()):
        return ""
    lesson = f"{url.replace('https://github.com', f'{COLAB}/github')}/blob/main/{place}.ipynb"
    return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({lesson})"


def write_address(book: NotebookNode, place: str) -> None:
    """Put the badge under the title, and into the set-up cell how Colab comes by the package.

    Raises ValueError unless exactly one cell is tagged "setup" and it has one ``%pip install`` line.
    """
    title, _, rest = book.cells[0].source.partition("\n")
    book.cells[0].source = "\n\n".join(filter(None, [title, badge(place), BADGE.sub("", rest).strip()]))

    setup = [cell for cell in book.cells if "setup" in cell.metadata.get("tags", [])]
    if len(setup) != 1:
        raise ValueError(f'{place}: {len(setup)} cells tagged "setup", expected one')
    lines = setup[0].source.count("%pip install")
    if lines != 1:
        raise ValueError(f'{place}: {lines} lines "%pip install" in the set-up cell, expected one')
    url = address()
    head = INSTALL.format(url=url) if url else BRING
    setup[0].source = HEAD.sub(lambda _: head, setup[0].source)


def paragraph() -> str:
    """What README.md says about Colab."""
    return WITH_ADDRESS.format(badge=badge("notebooks/01_adding_noise")) if address() else WITHOUT_ADDRESS


def set_address(url: str) -> None:
    """Write ``url`` into pyproject.toml, README.md, the notebooks and the students' copies, or take it out if it is empty.

    Raises ValueError for anything else than https://github.com/owner/name.
    """
    if url and not ADDRESS.fullmatch(url):
        raise ValueError(f"address {url!r}: expected https://github.com/owner/name, or an empty one to take it out")
    project, readme = ROOT / "pyproject.toml", ROOT / "README.md"
    table = "[project.urls]\n"
    line = f'Repository = "{url}"\n' if url else ""
    text = REPOSITORY.sub("", project.read_text(encoding="utf8"))
    project.write_text(text.replace(table, table + line), encoding="utf8")
    text = readme.read_text(encoding="utf8")
    readme.write_text(PARAGRAPH.sub(lambda found: found[1] + paragraph() + found[2], text), encoding="utf8")
    for path in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("teaching/student/*.ipynb")]:
        book = nbformat.read(path, as_version=4)
        write_address(book, path.relative_to(ROOT).with_suffix("").as_posix())
        nbformat.write(book, path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit('expected one address, or "" to take it out: ' + __doc__.splitlines()[0])
    try:
        set_address(sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))
