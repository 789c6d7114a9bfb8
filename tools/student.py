"""Write the students' copies of the lessons, and the points into INSTRUCTORS.md: ``python tools/student.py``.

A copy is a lesson without its solutions, hidden tests, folded answers and outputs, and with checks that are locked.
nbgrader takes them out, by the marks that the lesson carries; only the answers and the badge are ours.
The copies lie in teaching/student, with the glossary that they link to, and no test executes them there: their
exercises are not done.
"""

import copy
import re
import shutil
from pathlib import Path

import nbformat
from address import write_address
from execute import NOTEBOOKS
from nbformat import NotebookNode
from nbgrader import preprocessors, utils

TEACHING = NOTEBOOKS.parent / "teaching"
STUDENT = TEACHING / "student"
GUIDE = TEACHING / "INSTRUCTORS.md"
POINTS = re.compile(r"(<!-- points:begin -->\n).*?(<!-- points:end -->)", re.DOTALL)
ANSWER = re.compile(r"<details>\s*<summary>Answer.*?</details>\s*", re.DOTALL)
# What nbgrader's generate_assignment does, without its database.
STEPS = [
    preprocessors.LockCells,
    preprocessors.ClearSolutions,
    preprocessors.ClearHiddenTests,
    preprocessors.ClearMarkScheme,
    preprocessors.ClearOutput,
    preprocessors.ComputeChecksums,
    preprocessors.CheckCellMetadata,
]


def lessons() -> list[Path]:
    """The notebooks with exercises, in their order."""
    return [
        path
        for path in sorted(NOTEBOOKS.glob("*.ipynb"))
        if any("nbgrader" in cell.metadata for cell in nbformat.read(path, as_version=4).cells)
    ]


def student_copy(book: NotebookNode, name: str) -> NotebookNode:
    """The copy of a lesson that a student starts from; ``name`` is the lesson's file name without its ending.

    Raises RuntimeError, from nbgrader, for a solution or hidden test that is not closed or not in a cell for it.
    """
    book, resources = copy.deepcopy(book), {}
    for step in STEPS:
        book, resources = step().preprocess(book, resources)
    book.metadata.pop("widgets", None)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = ANSWER.sub("", cell.source)
    book.cells = [cell for cell in book.cells if cell.source.strip()]
    write_address(book, f"teaching/student/{name}")
    return book


def points() -> str:
    """The marking scheme as a table in Markdown, from the metadata of the lessons."""
    lines, total = ["| lesson | points | exercises |", "|---|---|---|"], 0
    for path in lessons():
        cells = filter(utils.is_grade, nbformat.read(path, as_version=4).cells)
        marks = {cell.metadata.nbgrader["grade_id"]: cell.metadata.nbgrader["points"] for cell in cells}
        tasks = ", ".join(f"{name.removeprefix('check-')} {most}" for name, most in marks.items())
        lines.append(f"| [{path.stem[:2]}](../notebooks/{path.name}) | {sum(marks.values())} | {tasks} |")
        total += sum(marks.values())
    return "\n".join([*lines, f"| all | {total} | |"]) + "\n"


def guide() -> str:
    """The text of INSTRUCTORS.md with the points as they are now."""
    return POINTS.sub(lambda found: found[1] + points() + found[2], GUIDE.read_text(encoding="utf8"))


def main() -> None:
    GUIDE.write_text(guide(), encoding="utf8")
    STUDENT.mkdir(exist_ok=True)
    for path in STUDENT.glob("*.ipynb"):
        path.unlink()
    for path in lessons():
        nbformat.write(student_copy(nbformat.read(path, as_version=4), path.stem), STUDENT / path.name)
        print(f"student/{path.name}")
    shutil.copy(NOTEBOOKS / "glossary.md", STUDENT)


if __name__ == "__main__":
    main()
