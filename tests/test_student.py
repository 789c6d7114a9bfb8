"""What students are handed: the lesson as it stands, without its solutions, and with checks that fail until they work."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

pytest.importorskip("nbgrader", reason='the students\' copies are made with nbgrader: pip install -e ".[coursework]"')

import address  # noqa: E402
import student  # noqa: E402
from nbgrader import utils  # noqa: E402
from nbgrader.apps import NbGraderAPI  # noqa: E402
from nbgrader.coursedir import CourseDirectory  # noqa: E402
from test_notebooks import faults_of_header  # noqa: E402
from traitlets.config import Config  # noqa: E402

REGION = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)### END \1", re.DOTALL)
LESSONS = pytest.mark.parametrize("path", student.lessons(), ids=lambda path: path.stem)


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def leaks(book: NotebookNode, source: NotebookNode) -> list[str]:
    """Every line of a solution or hidden test of ``source`` that can be read in ``book``, and every mark of them.

    A line that the lesson also has in a cell which the student is given is no leak.
    """
    given = squeezed("\n".join(REGION.sub("", cell.source) for cell in source.cells if cell.cell_type == "code"))
    shown = squeezed("\n".join(str(cell) + cell.source for cell in book.cells))
    secret = [
        line for cell in source.cells for _, region in REGION.findall(cell.source) for line in region.splitlines()
    ]
    found = [line for line in map(squeezed, secret) if line and line in shown and line not in given]
    return found + re.findall(r"###(?:BEGIN|END)\w*|<summary>Answer", shown)


def copy_of(path) -> NotebookNode:
    return nbformat.read(student.STUDENT / path.name, as_version=4)


def test_every_lesson_with_exercises_has_its_copy():
    assert [path.name for path in student.lessons()] == sorted(path.name for path in student.STUDENT.glob("*.ipynb"))
    assert len(student.lessons()) >= 5


@LESSONS
def test_the_copy_is_what_the_lesson_makes_now(path):
    now = student.student_copy(nbformat.read(path, as_version=4), path.stem)
    assert copy_of(path) == now, "the lesson has changed: make student"


def test_the_guide_has_the_points_of_now():
    assert student.GUIDE.read_text(encoding="utf8") == student.guide(), "the points have changed: make student"
    assert "chain-step" in student.guide()


@LESSONS
def test_the_copy_leaks_nothing(path):
    assert leaks(copy_of(path), nbformat.read(path, as_version=4)) == []


@LESSONS
def test_the_copy_is_clean_and_locked(path):
    book = copy_of(path)
    nbformat.validate(book)
    assert "widgets" not in book.metadata
    for cell in book.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
        if utils.is_grade(cell):
            assert cell.metadata.editable is cell.metadata.deletable is False
            assert cell.metadata.nbgrader.checksum == utils.compute_checksum(cell)
    assert list(faults_of_header(book, f"teaching/student/{path.stem}")) == []


@LESSONS
def test_the_copy_runs_up_to_the_first_stub(path):
    """What stands before the first stub is the lesson's own, cell by cell, and the lesson is executed by every test run."""
    lesson, book = nbformat.read(path, as_version=4), copy_of(path)
    codes = [[cell for cell in one.cells if cell.cell_type == "code"] for one in (lesson, book)]
    first = next(number for number, cell in enumerate(codes[1]) if utils.is_solution(cell))
    assert first > 0
    assert [cell.source for cell in codes[0][:first]] == [cell.source for cell in codes[1][:first]]
    assert all("NotImplementedError" not in cell.source for cell in codes[1][:first])
    compile(codes[1][first].source, path.stem, "exec")


@LESSONS
def test_no_stub_passes_its_check(path):
    """Each stub and its check, with everything right that was done before."""
    namespace, solutions = {}, {}
    for cell in nbformat.read(path, as_version=4).cells:
        if "nbgrader" in cell.metadata:
            solutions[cell.metadata.nbgrader["grade_id"]] = cell.source
    checked, stub = 0, None
    for cell in copy_of(path).cells:
        if "setup" in cell.metadata.get("tags", []):
            exec(re.sub(r"^ +%pip.*$", "    pass", cell.source, flags=re.MULTILINE), namespace)
        elif utils.is_solution(cell):
            stub = cell
        elif utils.is_grade(cell):
            with pytest.raises((NotImplementedError, AssertionError)):
                exec(stub.source, namespace)
                exec(cell.source, namespace)
            exec(solutions[stub.metadata.nbgrader["grade_id"]], namespace)
            exec(cell.source, namespace)  # and the solution does
            checked += 1
    assert checked > 0


def test_nbgrader_makes_its_assignment_of_the_lessons_as_they_are(tmp_path, monkeypatch):
    """nbgrader's own command on the unchanged files, and its release holds the same cells as our copies."""
    for path in student.lessons():
        folder = tmp_path / "source" / path.stem
        folder.mkdir(parents=True)
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # nbgrader calls alembic
    config = Config()
    config.CourseDirectory.root = str(tmp_path)
    api = NbGraderAPI(CourseDirectory(config=config), config=config)
    for path in student.lessons():
        made = api.generate_assignment(path.stem)
        assert made["success"], made["log"] + made.get("error", "")
        release = nbformat.read(tmp_path / "release" / path.stem / path.name, as_version=4)
        ours = {cell.id: cell for cell in copy_of(path).cells if "nbgrader" in cell.metadata}
        theirs = {cell.id: cell for cell in release.cells if "nbgrader" in cell.metadata}
        assert ours == theirs


# The script itself, on a lesson with everything that has to go.


def small_lesson() -> NotebookNode:
    def marks(grade_id: str, grade: bool) -> dict:
        role = {"schema_version": 3, "grade_id": grade_id, "task": False, "grade": grade, "locked": grade}
        return {"nbgrader": role | {"solution": not grade} | ({"points": 1} if grade else {})}

    solution = "def half(x):\n    ### BEGIN SOLUTION\n    return x / 2\n    ### END SOLUTION"
    check = "assert half(2) == 1\n### BEGIN HIDDEN TESTS\nassert half(7) == 3.5\n### END HIDDEN TESTS"
    book = new_notebook(
        cells=[
            new_markdown_cell("# Halves\n\nYou will learn them."),
            new_code_cell("%pip install -q git+https://github.com/a/b", metadata={"tags": ["setup"]}),
            new_code_cell(solution, metadata=marks("half", False)),
            new_code_cell(check, metadata=marks("check-half", True)),
            new_markdown_cell("<details><summary>Answer</summary>\n\n`return x / 2`\n</details>\n\nGo on."),
            new_markdown_cell("<details>\n<summary>Answer to 2</summary>\n\nOne.\n</details>"),
            new_markdown_cell("<details><summary>What we see</summary>\n\nHalf.\n</details>"),
        ],
        metadata={"widgets": {"state": {}}},
    )
    address.write_address(book, "halves")
    return book


def test_solutions_hidden_tests_and_answers_go_and_the_rest_stays():
    book = student.student_copy(small_lesson(), "halves")
    assert [cell.source for cell in book.cells[2:]] == [
        "def half(x):\n    # YOUR CODE HERE\n    raise NotImplementedError()",
        "assert half(2) == 1",
        "Go on.",
        "<details><summary>What we see</summary>\n\nHalf.\n</details>",
    ]
    assert leaks(book, small_lesson()) == []


@pytest.mark.parametrize("leak", ["x / 2", "half( 7 ) == 3.5"])
def test_a_leak_is_found(leak):
    book = student.student_copy(small_lesson(), "halves")
    line = next(line for line in ("return x / 2", "assert half(7) == 3.5") if squeezed(leak) in squeezed(line))
    book.cells.append(new_markdown_cell(f"Hint: {line}"))
    assert leaks(book, small_lesson()) == [squeezed(line)]


def test_a_solution_without_an_end_is_refused():
    book = small_lesson()
    book.cells[2].source = book.cells[2].source.replace("### END SOLUTION", "")
    with pytest.raises(RuntimeError, match="no end solution"):
        student.student_copy(book, "halves")
