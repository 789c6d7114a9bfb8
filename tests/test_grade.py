"""Grading: full marks for what is right, none for what is not, the reason for each, and no submission is lost.

A small lesson stands in for the real ones, since its kernels start without torch; a known mistake of each exercise is
graded on the real lessons, in this process; and one real lesson goes all the way.
"""

import copy
import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from diffusion_helpers.lessons import checks

pytest.importorskip("nbgrader", reason='grading is done with nbgrader: pip install -e ".[coursework]"')

import grade  # noqa: E402
import limits  # noqa: E402
import student  # noqa: E402
from nbgrader import utils  # noqa: E402
from nbgrader.api import Gradebook  # noqa: E402

SETUP = 'import sys\n\nif "google.colab" in sys.modules:\n    %pip install -q git+https://a\n\nimport math'
STUB = "# YOUR CODE HERE\n    raise NotImplementedError()"


def marks(grade_id: str, points: int | None = None) -> dict:
    graded = points is not None
    role = {"schema_version": 3, "grade_id": grade_id, "task": False, "grade": graded, "locked": graded}
    return {"nbgrader": role | {"solution": not graded} | ({"points": points} if graded else {})}


def small_lesson() -> NotebookNode:
    """Three exercises, of 1, 2 and 3 points; the second uses the answer to the first."""
    half = "def half(x):\n    ### BEGIN SOLUTION\n    return x / 2\n    ### END SOLUTION"
    quarter = "def quarter(x):\n    ### BEGIN SOLUTION\n    return half(half(x))\n    ### END SOLUTION"
    root = "def root(x):\n    ### BEGIN SOLUTION\n    return math.sqrt(x)\n    ### END SOLUTION"
    return new_notebook(
        cells=[
            new_markdown_cell("# Halves\n\nYou will learn them."),
            new_code_cell(SETUP, metadata={"tags": ["setup"]}),
            new_code_cell("raise RuntimeError('a training cell, and no exercise needs it')"),
            new_code_cell(half, id="solution-half", metadata=marks("half")),
            new_code_cell("assert half(2) == 1, 'half of 2 is 1'", metadata=marks("check-half", 1)),
            new_code_cell(quarter, id="solution-quarter", metadata=marks("quarter")),
            new_code_cell(
                "assert quarter(4) == 1, 'a quarter of 4 is 1'\n"
                "### BEGIN HIDDEN TESTS\nassert quarter(8) == 2, 'a quarter of 8 is 2'\n### END HIDDEN TESTS",
                metadata=marks("check-quarter", 2),
            ),
            new_code_cell(root, id="solution-root", metadata=marks("root")),
            new_code_cell("assert root(9) == 3, 'the root of 9 is 3'", metadata=marks("check-root", 3)),
        ],
        metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    )


HALF, CHECK_HALF, QUARTER, CHECK_QUARTER, ROOT, CHECK_ROOT = 3, 4, 5, 6, 7, 8


def with_cells(*answers: tuple[int, str]) -> Callable[[], NotebookNode]:
    """A perfect submission in which these cells hold these sources."""

    def make() -> NotebookNode:
        book = small_lesson()
        for place, source in answers:
            book.cells[place].source = source
        return book

    return make


def changed(change: Callable[[NotebookNode], object]) -> Callable[[], NotebookNode]:
    """A perfect submission, changed."""

    def make() -> NotebookNode:
        book = small_lesson()
        change(book)
        return book

    return make


def duplicated_ids(book: NotebookNode) -> None:
    stub = NotebookNode(copy.deepcopy(book.cells[HALF]), source=f"def half(x):\n    {STUB}")
    book.cells += [stub, copy.deepcopy(book.cells[CHECK_HALF])]
    for cell in book.cells:
        cell.id = "same"


def no_marks(book: NotebookNode) -> None:
    for cell in book.cells:
        cell.metadata = NotebookNode()


def strange_metadata(book: NotebookNode) -> None:
    for cell, role in zip(book.cells, ["none", {"grade_id": ["half"]}, None, {}] * 3, strict=False):
        cell.metadata["nbgrader"] = role


def helper_of_their_own(book: NotebookNode) -> None:
    book.cells[ROOT].source = "def root(x):\n    return power(x)"
    book.cells.insert(ROOT, new_code_cell("def power(x):\n    return x**exponent"))
    book.cells.insert(ROOT, new_code_cell("exponent = 0.5"))


def answer_from_a_table(book: NotebookNode) -> None:
    """The table is filled by cells that bind no name of it."""
    book.cells[ROOT].source = "def root(x):\n    return table[x] + more.pop() + offset.value"
    for source in (
        "table = {}\nmore = []\n\n\nclass offset:\n    value = 1",
        "table[9] = 5",
        "table[9] -= 3",
        "def put(number):\n    more.append(number)",
        "put(1)",
        "offset.value = 0",
    ):
        book.cells.insert(
            book.cells.index(next(c for c in book.cells if "def root" in c.source)), new_code_cell(source)
        )


def edited_tests(book: NotebookNode) -> None:
    book.cells[HALF].source = "def half(x):\n    return x"
    book.cells[CHECK_HALF].source = "pass"
    book.cells[CHECK_HALF].metadata.nbgrader.points = 100


FULL = [1, 2, 3]
ANSWER_HALF, ANSWER_ROOT = "def half(x):\n    return ", "def root(x):\n    "
# Name: what is handed in (a notebook, or the bytes of a file); the points; what is said, once each.
CLASS: dict[str, tuple] = {
    "perfect": (small_lesson, FULL, []),
    "stub": (lambda: student.student_copy(small_lesson(), "halves"), [0, 0, 0], ["not done"] * 3),
    "mistake in the first": (with_cells((HALF, ANSWER_HALF + "x")), [0, 2, 3], ["half of 2 is 1"]),
    "mistake in the second": (with_cells((QUARTER, "def quarter(x):\n    return x")), [1, 0, 3], ["a quarter of 4"]),
    "mistake in the third": (with_cells((ROOT, ANSWER_ROOT + "return x")), [1, 2, 0], ["the root of 9 is 3"]),
    "right for what is shown": (with_cells((QUARTER, "def quarter(x):\n    return 1")), [1, 0, 3], ["a quarter of 8"]),
    "hanging": (with_cells((HALF, ANSWER_HALF + "1\nwhile True: pass")), [0, 2, 3], ["half: Stopped: it took more"]),
    "hanging in the check": (with_cells((ROOT, ANSWER_ROOT + "while True: pass")), [1, 2, 0], ["it took more than"]),
    "hanging, and deaf": (
        with_cells((ROOT, "while True:\n    try:\n        while True: pass\n    except BaseException: pass")),
        [1, 2, 0],
        ["it took more than"],
    ),
    "crashing": (with_cells((QUARTER, "import os\nos._exit(3)")), [1, 0, 3], ["it ended the kernel"]),
    "crashing in the check": (
        with_cells((HALF, ANSWER_HALF + "__import__('ctypes').string_at(0)")),
        [0, 2, 3],
        ["it ended the kernel"],
    ),
    "leaving": (with_cells((HALF, ANSWER_HALF + "x / 2\nexit()")), FULL, []),
    "hungry": (with_cells((ROOT, ANSWER_ROOT + "return [0] * 10**9")), [1, 2, 0], ["GiB of memory"]),
    "printing without end": (
        with_cells((HALF, ANSWER_HALF + "1\nwhile True: print('noise' * 100)")),
        [0, 2, 3],
        ["it printed more than"],
    ),
    "asking": (with_cells((HALF, ANSWER_HALF + "float(input())")), [0, 2, 3], ["StdinNotImplementedError"]),
    "no Python": (with_cells((ROOT, "def root(x) return x")), [1, 2, 0], ["SyntaxError"]),
    "warning": (
        with_cells((HALF, "import warnings\n\n\n" + ANSWER_HALF + "warnings.warn('old') or x / 2")),
        FULL,
        [],
    ),
    "cells of their own": (changed(helper_of_their_own), FULL, []),
    "a table of their own": (changed(answer_from_a_table), FULL, []),
    "edited tests": (changed(edited_tests), [0, 2, 3], ["half of 2 is 1"]),
    "deleted tests": (
        changed(lambda book: book.cells.__delitem__([CHECK_HALF, CHECK_ROOT][0])),
        FULL,
        [],
    ),
    "missing cells": (
        changed(lambda book: book.cells.__delitem__(slice(QUARTER, None))),
        [1, 0, 0],
        ["the cell of quarter is missing", "the cell of root is missing", "not done", "not done"],
    ),
    "duplicated cell ids": (changed(duplicated_ids), FULL, ["2 cells are the answer to half"]),
    "lost metadata": (changed(no_marks), FULL, []),
    "strange metadata": (changed(strange_metadata), FULL, []),
    "answer turned into text": (
        changed(lambda book: book.cells.__setitem__(HALF, new_markdown_cell("x / 2", metadata=marks("half")))),
        [0, 2, 3],
        ["half: "],
    ),
    "wrong kernel name": (
        changed(lambda book: book.metadata.kernelspec.update(name="julia-1.9", language="julia")),
        FULL,
        [],
    ),
    "outputs kept": (
        changed(lambda book: book.cells[CHECK_HALF].outputs.append(new_output("error", ename="E", evalue="e"))),
        FULL,
        [],
    ),
    "truncated": (lambda: nbformat.writes(small_lesson())[:-300].encode(), [0, 0, 0], ["cannot be read"] + ["not"] * 3),
    "empty": (lambda: b"", [0, 0, 0], ["cannot be read"] + ["not done"] * 3),
    "no notebook": (lambda: b'{"cells": 3, "nbformat": 4}', [0, 0, 0], ["cannot be read"] + ["not done"] * 3),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> tuple[Path, str]:
    """The class of 30 and some more, graded by the command; the folder of results, and what was printed."""
    folder = tmp_path_factory.mktemp("class")
    (folder / "lessons").mkdir()
    nbformat.write(small_lesson(), folder / "lessons" / "halves.ipynb")
    for name, (make, _, _) in CLASS.items():
        made = make()
        data = made if isinstance(made, bytes) else json.dumps(made).encode()  # as it is: nbformat would mend it
        path = folder / "submissions" / name / "halves.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    nbformat.write(small_lesson(), folder / "submissions" / "a file, no folder.ipynb")
    (folder / "submissions" / "nothing in it").mkdir()
    (folder / "submissions" / "-minus").mkdir()
    nbformat.write(new_notebook(), folder / "submissions" / "-minus" / "=1+1.ipynb")
    (folder / "submissions" / "a link").symlink_to(folder / "submissions" / "perfect")
    (folder / "submissions" / "zipped.zip").write_bytes(b"PK")
    nbformat.write(new_notebook(), folder / "submissions" / "another notebook.ipynb")
    early = folder / "submissions" / "perfect" / "halves (1).ipynb"
    nbformat.write(student.student_copy(small_lesson(), "halves"), early)
    os.utime(early, (0, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student, "lessons", lambda: [folder / "lessons" / "halves.ipynb"])
        patch.setattr(limits, "CELL_SECONDS", 5)
        patch.setattr(limits, "MEMORY", 2**29)
        printed = []
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        grade.main([str(folder / "submissions")])
    return folder / "submissions-graded", "\n".join(printed)


def rows(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def name_of(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text)


@pytest.mark.parametrize("who", CLASS)
def test_each_submission_gets_its_points_and_every_reason(graded, who):
    row = next(row for row in rows(graded[0] / "scores.csv") if row["student"] == name_of(who))
    said = [f"{r['exercise']}: {r['reason']}" for r in rows(graded[0] / "reasons.csv") if r["student"] == name_of(who)]
    _, points, expected = CLASS[who]
    assert [float(row[f"halves: {task}"]) for task in ("half", "quarter", "root")] == points
    assert (float(row["total"]), float(row["of"])) == (sum(points), 6)
    if who == "perfect":
        expected = ["two files are this lesson"]
    assert len(said) == len(expected)
    assert all(text in line for text, line in zip(expected, said, strict=True)), said


def test_none_is_lost_and_each_has_a_page(graded):
    folder, printed = graded
    others = ["a file, no folder", "nothing in it", "zipped", "another notebook", "a link", "'-minus"]
    assert {row["student"] for row in rows(folder / "scores.csv")} == {*map(name_of, [*CLASS, *others[:-1]]), "'-minus"}
    assert len(CLASS) + len(others) >= 30
    totals = {row["student"]: float(row["total"]) for row in rows(folder / "scores.csv")}
    assert [totals[name_of(who)] for who in others[:-1]] == [6, 0, 0, 0, 0]
    for who in [*CLASS, others[0]]:
        page = (folder / "feedback" / name_of(who) / "halves" / "halves.html").read_text(encoding="utf8")
        assert f"{totals[name_of(who)]:.1f} / 6.0" in page
    assert "half of 2 is 1" in (folder / "feedback" / "mistake_in_the_first" / "halves" / "halves.html").read_text()
    for line in printed.splitlines():
        assert len(line) < 400
    assert [line for line in printed.splitlines() if "zipped" in line or "another" in line] == [
        "another_notebook: 0 of 6",
        "    another notebook.ipynb: none of the lessons",
        "zipped: 0 of 6",
        "    zipped.zip: not a notebook",
    ]
    assert "    a link: a link, which is not followed" in printed.splitlines()


def test_no_name_of_a_student_is_a_formula(graded):
    reason = "'=1+1.ipynb: none of the lessons"
    assert {"student": "'-minus", "lesson": "", "exercise": "", "reason": reason} in rows(graded[0] / "reasons.csv")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_what_could_be_a_formula_is_escaped_and_nothing_else(text, tmp_path):
    grade.write_sheet(tmp_path / "sheet.csv", [("a", "b", "c", "d"), (text, -1.5, "1-1", "γ = 1")])
    with open(tmp_path / "sheet.csv", newline="", encoding="utf8") as file:
        assert list(csv.reader(file))[1] == [f"'{text}", "-1.5", "1-1", "γ = 1"]


def test_links_are_reported_and_not_followed(tmp_path):
    secret, ada = tmp_path / "secret", tmp_path / "class" / "ada"
    secret.mkdir()
    (ada / "deep").mkdir(parents=True)
    nbformat.write(small_lesson(), secret / "halves.ipynb")
    nbformat.write(small_lesson(), ada / "deep" / "halves.ipynb")
    for link, target in {
        ada / "copied.ipynb": secret / "halves.ipynb",
        ada / "folder": secret,
        ada / "broken.ipynb": secret / "none.ipynb",
        ada / "deep" / "round": ada,
        ada.parent / "bob": secret,
        ada.parent / "eve.ipynb": secret / "halves.ipynb",
    }.items():
        link.symlink_to(target)
    found = grade.collect(ada.parent)
    for who, links in {"ada": 4, "bob": 1, "eve": 1}.items():
        books, faults = grade.sorted_out(found[who], {"halves": small_lesson()})
        assert sorted(books) == ["halves"] * (who == "ada")
        assert [fault.endswith(": a link, which is not followed") for _, fault in faults] == [True] * links


def test_feedback_does_not_hand_out_the_solutions(graded):
    page = (graded[0] / "feedback" / "stub" / "halves" / "halves.html").read_text(encoding="utf8")
    assert "NotImplementedError" in page and "half(half(x))" not in re.sub("<[^>]*>", "", page)


def test_a_lesson_that_cannot_pass_here_stops_the_grading(tmp_path, monkeypatch):
    """As when the package is not installed: no student is to blame for that."""
    book = small_lesson()
    book.cells[1].source += "\nimport no_such_package"
    nbformat.write(book, tmp_path / "halves.ipynb")
    (tmp_path / "submissions").mkdir()
    nbformat.write(book, tmp_path / "submissions" / "ada.ipynb")
    monkeypatch.setattr(student, "lessons", lambda: [tmp_path / "halves.ipynb"])
    with pytest.raises(SystemExit, match="halves with its own answers fails.*no_such_package"):
        grade.main([str(tmp_path / "submissions")])


def test_a_notebook_has_its_time(tmp_path, monkeypatch):
    """What it did in that time counts."""
    lesson = small_lesson()
    handed = with_cells((QUARTER, "import time\n\ntime.sleep(8)\n\n\ndef quarter(x):\n    return x / 4"))()
    monkeypatch.setattr(limits, "NOTEBOOK_SECONDS", 8)
    book = grade.mended(lesson, handed)[0]
    done, _ = limits.LimitedExecute().preprocess(book, {"metadata": {"path": str(tmp_path)}})
    assert list(grade.reasons(done)) == [(task, f"Stopped: {limits.LATE}") for task in ("quarter", "root")]


def test_a_mark_changed_by_hand_counts(graded):
    api = grade.course(graded[0])
    with Gradebook(api.coursedir.db_url) as book:
        book.find_grade("check-root", "halves", "halves", "stub").manual_score = 2.5
        book.db.commit()
    assert grade.scores(api, "stub", "halves", small_lesson()) == {"half": 0, "quarter": 0, "root": 2.5}


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="expected a folder with submissions"):
        grade.main([str(tmp_path)])


def test_only_what_an_answer_depends_on_is_run():
    before = [
        "import numpy as np",
        "%matplotlib inline\nunused = np.zeros(3)",
        "def helper(x):\n    return np.sqrt(x) + offset",
        "offset, other = 1, 2",
        "helper = broken(",
        "for i in range(3):\n    loss = i",
    ]
    answer = "def root(x):\n    loss = helper(x)\n    return loss"
    assert grade.needed(answer, before) == [before[0], before[2], before[3]]
    assert grade.needed("def root(x):\n    return x", before) == []


TABLE = "table = {'a': [1]}"


@pytest.mark.parametrize(
    "change",
    [
        "table['b'] = 2",
        "table['a'][0] += 1",
        "del table['a']",
        "table.update(b=2)",
        "table['a'].append(2)",
        "table.setdefault('b', []).append(2)",
        "table.limit = 3",
        "for n in range(3):\n    if n:\n        table[n] = n",
        "with suppress(KeyError):\n    table.pop('c')",
        "random.shuffle(table['a'])",
        "net = fill(table)",
        "fill(into=table)",
        "[table.pop(key) for key in 'ab']",
        "for numbers in table.values():\n    numbers.append(1)",
        "for numbers in [table['a']]:\n    numbers[0] = 1",
        "%time table['b'] = 2",
        "%%time\ntable['b'] = 2",
        "other = table\nother['b'] = 2",
        "first, second = table, 3\nfirst.clear()",
        "outer = {'inner': table}\nouter['inner']['b'] = 2",
        "put('b')",
        "fill_all(3)",
        "@put\ndef three():\n    return 3",
        "reset()",
    ],
)
def test_a_cell_that_changes_what_an_answer_reads_is_run(change):
    before = [
        "import random",
        "def put(key):\n    table[key] = 1\n    return key",
        "def fill_all(count):\n    for number in range(count):\n        put(number)",
        "def reset():\n    global table\n    table = {}",
        TABLE,
        change,
    ]
    assert grade.needed("def root(x):\n    return table[x]", before)[-2:] == [TABLE, change]


@pytest.mark.parametrize(
    "cell",
    [
        "torch.manual_seed(0)",
        "print(table, len(table), sorted(table))",
        "torch.set_grad_enabled(T > 1)",
        "train.fit(net, T, rate, name, half)",
        "loss = half(T)",
        "for step in train.fit(net, lambda x: half(table[x])):\n    pass",
        "def other(x):\n    return half(table)",
        "copied = {key: 1 for key in table}\ncopied['b'] = 2",
        "def local(table):\n    table['b'] = 1\n\n\nlocal({})",
        "def local():\n    table = {}\n    table['b'] = 1\n\n\nlocal()",
        "y = table['a'] + [T]",
    ],
)
def test_a_cell_that_only_reads_what_an_answer_reads_is_not_run(cell):
    """So no training cell is, unless it hands on an object that the answer needs."""
    before = ["import torch\nfrom diffusion_helpers import train", TABLE]
    before += ["T, rate = 300, 1e-3\nname = 'ada'", "def half(x):\n    return x / 2", "net = make()"]
    answer = "def root(x):\n    return torch.zeros(T) + rate + half(table[x]) + len(name)"
    assert grade.needed(answer, [*before, cell]) == before[:4]


def test_a_trained_network_that_an_answer_uses_is_trained():
    before = ["from diffusion_helpers import train", "net = make()", "for _ in train.fit(net, images):\n    pass"]
    assert grade.needed("def root(x):\n    return net(x)", before) == before


def test_cells_that_a_check_needs_are_the_lessons_own():
    lesson = small_lesson()
    lesson.cells[CHECK_ROOT].source = "assert root(square) == 3"
    lesson.cells.insert(ROOT, new_code_cell("square = 9"))
    handed = copy.deepcopy(lesson)
    handed.cells[ROOT].source = "square = 'no number'"
    run = [cell.source for cell in grade.mended(lesson, handed)[0].cells]
    assert run[-3:] == ["square = 9", lesson.cells[ROOT + 1].source, lesson.cells[ROOT + 2].source]
    assert "square = 'no number'" not in run


def test_no_exercise_of_the_lessons_waits_for_training():
    lessons = [nbformat.read(path, as_version=4) for path in student.lessons()]
    assert sum("train.fit(" in "".join(cell.source for cell in lesson.cells) for lesson in lessons) >= 4
    for lesson in lessons:
        assert "train.fit(" not in "".join(cell.source for cell in grade.mended(lesson, lesson)[0].cells)


# A known mistake of each exercise, on the real lessons. The cells run in this process, since a kernel starts slowly.


def run_here(book: NotebookNode, names: dict) -> NotebookNode:
    """Run the cells as a kernel does, errors and all."""
    for cell in book.cells:
        if cell.cell_type == "code":
            source = re.sub(r"^ +%pip.*$", "    pass", cell.source, flags=re.MULTILINE).replace("del exit, quit", "")
            try:
                exec(source, names)
            except Exception as error:
                cell.outputs = [new_output("error", ename=type(error).__name__, evalue=str(error), traceback=[])]
    return book


def mistaken() -> list:
    """(lesson, exercise, function, answer, hint) for each exercise of the lessons; the tests of the checks try all."""
    found = []
    for path in student.lessons():
        book = nbformat.read(path, as_version=4)
        for cell in filter(utils.is_grade, book.cells):
            check, function = re.search(r"checks\.(\w+)\((\w+)", cell.source).groups()
            hint, answer = getattr(checks, check).known[-1]
            task = grade.exercise(cell)
            found.append(pytest.param(book, task, function, answer, hint, id=f"{path.stem[:2]} {task}"))
    return found


@pytest.mark.parametrize(("lesson", "task", "function", "answer", "hint"), mistaken())
def test_a_mistake_loses_exactly_its_exercise_and_is_told_why(lesson, task, function, answer, hint):
    handed = copy.deepcopy(lesson)
    cell = next(cell for cell in handed.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == task)
    cell.source = f"{function} = MISTAKE"
    torch.manual_seed(0)
    done = run_here(grade.mended(lesson, handed)[0], {"MISTAKE": answer})
    (lost, reason), *others = grade.reasons(done)
    assert others == []
    assert lost == task
    assert " ".join(hint.split()) in reason


def test_a_real_lesson_goes_all_the_way(tmp_path, monkeypatch):
    """Lesson 01: its solutions have full marks, its student copy none, and a mistake costs its points."""
    path = student.lessons()[0]
    handed = {"ada": path, "bob": student.STUDENT / path.name, "eve": path}
    for who, source in handed.items():
        folder = tmp_path / "submissions" / who
        folder.mkdir(parents=True)
        (folder / path.name).write_bytes(source.read_bytes())
    wrong = nbformat.read(path, as_version=4)
    cell = next(cell for cell in wrong.cells if cell.id == "solution-alpha-bar")
    cell.source = "def alpha_bar(betas):\n    return torch.cat([torch.ones(1), torch.cumsum(1 - betas, 0)])"
    nbformat.write(wrong, tmp_path / "submissions" / "eve" / path.name)
    monkeypatch.setenv("PYTHONPATH", str(Path(grade.__file__).parents[1]), prepend=os.pathsep)
    grade.main([str(tmp_path / "submissions"), str(tmp_path / "out")])
    found = rows(tmp_path / "out" / "scores.csv")
    most = float(found[0]["of"])
    assert [float(row["total"]) for row in found] == [most, 0, most - 2]
    told = [(r["exercise"], r["reason"]) for r in rows(tmp_path / "out" / "reasons.csv") if r["student"] == "eve"]
    assert len(told) == 1 and told[0][0] == "alpha-bar" and "use a product" in told[0][1]
