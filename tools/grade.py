"""Grade a class: ``python tools/grade.py SUBMISSIONS [RESULTS]``.

SUBMISSIONS is a folder with a folder of notebooks for each student, or a single notebook. RESULTS, by default a
folder beside it, becomes an ordinary nbgrader course: scores.csv has a row for each student and a column for each
exercise, reasons.csv a line for each lost exercise and each fault of a file, and feedback/ the pages to hand back.

Submissions are programs, and this runs them with your rights: teaching/INSTRUCTORS.md says how to shut them in.

A lesson is not run as it was handed in. What runs is the lesson's set-up, then for each exercise the student's
answer, those other cells on which the answer or the check depends, and the lesson's check; after that the right answer
takes the place of the student's, so that a mistake costs one exercise and no other. No training cell is run,
unless an answer depends on it.
"""

import argparse
import copy
import csv
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import nbformat
import student
from limits import FILE, LimitedExecute, hidden
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader import utils
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps import NbGraderAPI
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import Execute
from needed import needed
from sqlalchemy.exc import SAWarning
from traitlets.config import Config

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a cell of a spreadsheet begins with that is no text

# What runs of a submission


def answers_of(lesson: NotebookNode, handed: NotebookNode) -> tuple[dict[str, int], list[str]]:
    """Where the answers stand: grade id to cell number of ``handed``; and what is wrong with its cells.

    A cell is known by its grade id, else by its cell id, else by the first line of the stub.
    """
    places, faults = {}, []
    for cell in filter(utils.is_solution, lesson.cells):
        name, line = cell.metadata.nbgrader["grade_id"], cell.source.splitlines()[0]
        ways = (
            lambda other, name=name: other.metadata.get("nbgrader", {}).get("grade_id") == name,
            lambda other, id=cell.id: other.get("id") == id,
            lambda other, line=line: line in other.source.splitlines(),
        )
        found = next(filter(None, ([i for i, other in enumerate(handed.cells) if way(other)] for way in ways)), [])
        done = [i for i in found if "raise NotImplementedError()" not in handed.cells[i].source]
        if not found:
            faults.append(f"the cell of {name} is missing")
        if len(found) > 1:
            faults.append(f"{len(found)} cells are the answer to {name}: the last one that is filled in counts")
        if found:
            places[name] = (done or found)[-1]
    return places, faults


def mended(lesson: NotebookNode, handed: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """What is run to grade ``handed``, and what is wrong with its cells, a line each."""
    stubs = {cell.id: cell.source for cell in student.student_copy(lesson, "graded").cells}
    places, faults = answers_of(lesson, handed)
    setup = next(cell for cell in lesson.cells if "setup" in cell.metadata.get("tags", []))
    # exit() would end the kernel after its cell, when nobody can tell any more which cell it was.
    cells, right, included = [setup, hidden("del exit, quit")], [setup.source], {setup.source}

    def include(asked: str, before: list[str]) -> None:
        extra = [source for source in needed(asked, [setup.source, *before]) if source not in included]
        included.update(extra)
        cells.extend(map(new_code_cell, extra))

    for number, cell in enumerate(lesson.cells):
        if utils.is_solution(cell):
            if len(right) > 1:
                cells.append(hidden("\n\n".join(right)))
            right.append(cell.source)
            checks = takewhile(lambda other: not utils.is_solution(other), lesson.cells[number + 1 :])
            asked = [cell.source, *(check.source for check in checks if utils.is_grade(check))]
            include("\n".join(asked), plain(lesson.cells[:number]))
            place = places.get(cell.metadata.nbgrader["grade_id"])
            answer = stubs[cell.id] if place is None else handed.cells[place].source
            before = [other for i, other in enumerate(handed.cells[:place]) if i not in places.values()]
            include(answer, plain(before))
            cells.append(NotebookNode(cell, source=answer))
        elif utils.is_grade(cell) or (cell.cell_type == "markdown" and cell.source.startswith("#")):
            cells.append(cell)
    return new_notebook(cells=copy.deepcopy(cells), metadata={"kernelspec": lesson.metadata.kernelspec}), faults


def plain(cells: list[NotebookNode]) -> list[str]:
    """The sources of the code cells that belong to no exercise."""
    return [cell.source for cell in cells if cell.cell_type == "code" and not cell.metadata.get("nbgrader")]


# The class


def collect(folder: Path) -> dict[str, list[Path]]:
    """The notebook files of each student, links included: of a folder all that are in it, else the one file."""
    found: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        name = re.sub(r"[^\w.-]+", "_", entry.name if entry.is_dir() else entry.stem)
        while name in found:
            name += "_"
        found[name] = sorted(files_of(entry))
    return found


def files_of(entry: Path) -> Iterator[Path]:
    """The notebook files in a folder, and the links, which are not followed: they may lead to what is not the student's."""
    if entry.is_symlink() or entry.is_file():
        yield entry
    for folder, folders, files in os.walk(entry) if not entry.is_symlink() else ():  # it follows no links further down
        folders[:] = [name for name in folders if name != ".ipynb_checkpoints"]
        for path in (Path(folder, name) for name in [*folders, *files]):
            if path.is_symlink() or (path.suffix == ".ipynb" and path.is_file()):
                yield path


def read(path: Path) -> NotebookNode:
    """The notebook of a file. Raises ValueError, in one line, for what is none."""
    if path.is_symlink():
        raise ValueError("a link, which is not followed")
    if path.suffix != ".ipynb":
        raise ValueError("not a notebook")
    if path.stat().st_size > FILE:
        raise ValueError(f"larger than {FILE >> 20} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of cell ids, missing or twice; nbformat mends them
            book = nbformat.read(path, as_version=4)
        for cell in book.cells:  # a cell without one of these raises, and is none
            cell.source.split, cell.cell_type  # noqa: B018
            role = cell.metadata.get("nbgrader")
            if not (isinstance(role, dict) and isinstance(role.get("grade_id"), str)):
                cell.metadata.pop("nbgrader", None)
    except Exception as error:  # whatever a file can do to a parser
        raise ValueError(f"cannot be read as a notebook ({type(error).__name__})") from error
    return book


def lesson_of(path: Path, book: NotebookNode | None, lessons: dict[str, NotebookNode]) -> str | None:
    """The lesson that a file is a copy of: by the ids of its cells, or else by its name."""

    def ids(book: NotebookNode) -> set[str]:
        return {cell.metadata.nbgrader["grade_id"] for cell in book.cells if "nbgrader" in cell.metadata}

    shared = {name: len(ids(book) & ids(lesson)) for name, lesson in lessons.items()} if book else {}
    named = [name for name in lessons if name in path.name]
    likely = max(shared, key=shared.get, default=None)
    return likely if shared.get(likely) else next(iter(named), None)


def sorted_out(
    files: list[Path], lessons: dict[str, NotebookNode]
) -> tuple[dict[str, NotebookNode], list[tuple[str, str]]]:
    """The notebook of each lesson among a student's files, empty where it cannot be read; and (lesson, fault) pairs."""
    books, faults = {}, []
    for path in sorted(files, key=lambda path: path.lstat().st_mtime):  # of two copies the later one
        try:
            book, fault = read(path), None
        except (OSError, ValueError) as error:
            book, fault = None, str(error)
        lesson = lesson_of(path, book, lessons)
        if fault or not lesson:
            faults.append((lesson or "", f"{path.name}: {fault or 'none of the lessons'}"))
        if lesson in books and book:
            faults.append((lesson, f"two files are this lesson: {path.name}, the later one, counts"))
        if lesson and (book or lesson not in books):
            books[lesson] = book or NotebookNode(cells=[])
    return books, faults


def course(folder: Path) -> NbGraderAPI:
    """nbgrader's course in ``folder``, with the limits of this script."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it calls alembic
    logging.getLogger("traitlets").propagate = False
    warnings.filterwarnings("ignore", category=SAWarning)  # nbgrader's own, about its database
    config = Config()
    config.CourseDirectory.root = str(folder.resolve())
    steps = Autograde().autograde_preprocessors
    config.Autograde.autograde_preprocessors = [LimitedExecute if step is Execute else step for step in steps]
    return NbGraderAPI(CourseDirectory(config=config), config=config)


def write(book: NotebookNode, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)


def grade(api: NbGraderAPI, who: str, name: str, lesson: NotebookNode, handed: NotebookNode) -> list[tuple[str, str]]:
    """Grade one notebook into the course and write its feedback; (exercise, reason) for all that went wrong."""
    root = Path(api.coursedir.root)
    book, faults = mended(lesson, handed)
    write(book, root / "submitted" / who / name / f"{name}.ipynb")
    for step in (api.autograde, api.generate_feedback):
        result = step(name, who)
        if not result["success"]:
            said = (result.get("error") or result.get("log") or "it does not say why").strip().splitlines()
            return [("", f"nbgrader failed: {said[-1]}")]
    done = nbformat.read(root / "autograded" / who / name / f"{name}.ipynb", as_version=4)
    if not handed.cells:  # that it cannot be read was said before
        faults = []
    return [("", fault) for fault in faults] + list(reasons(done))


def reasons(done: NotebookNode) -> Iterator[tuple[str, str]]:
    """(exercise, reason) for each check without full marks; the first error since the check before is the reason."""
    errors: list[str] = []
    for cell in done.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                said = " ".join(output.evalue.split())
                errors.append("not done" if output.ename == "NotImplementedError" else f"{output.ename}: {said}"[:300])
        if utils.is_grade(cell):
            points, most = utils.determine_grade(cell)
            if points < most:
                yield exercise(cell), errors[0] if errors else f"{points:g} of {most:g}"
            errors = []


def exercise(cell: NotebookNode) -> str:
    """The name of the exercise that a check cell belongs to."""
    return cell.metadata.nbgrader["grade_id"].removeprefix("check-")


def scores(api: NbGraderAPI, who: str, name: str, lesson: NotebookNode) -> dict[str, float]:
    """Points of one student for each exercise of a lesson, by hand where the instructor changed them; 0 for none."""
    found = {exercise(cell): 0.0 for cell in lesson.cells if utils.is_grade(cell)}
    with Gradebook(api.coursedir.db_url) as book, suppress(MissingEntry):
        for given in book.find_submission_notebook(name, name, who).grades:
            found[given.name.removeprefix("check-")] = given.score
    return found


def grade_class(submissions: Path, results: Path) -> None:
    """Grade every submission of a folder, and print a line for each student and for each thing that went wrong.

    Raises RuntimeError when a lesson's own solutions do not pass on this machine: then nobody's would.
    """
    lessons = {path.stem: nbformat.read(path, as_version=4) for path in student.lessons()}
    handed = {who: sorted_out(files, lessons) for who, files in collect(submissions).items()}
    lessons = {name: book for name, book in lessons.items() if any(name in books for books, _ in handed.values())}
    most = sum(c.metadata.nbgrader["points"] for book in lessons.values() for c in book.cells if utils.is_grade(c))
    results.mkdir(parents=True, exist_ok=True)
    api = course(results)
    for name, lesson in lessons.items():
        write(lesson, results / "source" / name / f"{name}.ipynb")
        here = {"metadata": {"path": str(results / "source" / name)}}
        done, _ = LimitedExecute().preprocess(mended(lesson, lesson)[0], here)
        for error in (output for cell in done.cells for output in cell.get("outputs", []) if "ename" in output):
            raise RuntimeError(f"{name} with its own answers fails on this machine: {error.ename}: {error.evalue}")
        made = api.generate_assignment(name)
        if not made["success"]:
            raise RuntimeError(f"nbgrader cannot make an assignment of {name}:\n{made['log']}")

    rows, why = [], []
    for who, (books, faults) in handed.items():
        lost = [(name, "", fault) for name, fault in faults]
        row: dict[str, float | str] = {"student": who}
        for name, lesson in lessons.items():
            if name in books:
                try:
                    lost += [(name, *pair) for pair in grade(api, who, name, lesson, books[name])]
                except Exception:  # no submission may cost the others their marks
                    lost.append((name, "", f"grading failed: {traceback.format_exc().splitlines()[-1]}"))
            else:
                lost.append((name, "", "not handed in"))
            row |= {f"{name}: {task}": points for task, points in scores(api, who, name, lesson).items()}
        row["total"] = sum(points for points in row.values() if not isinstance(points, str))
        rows.append(row | {"of": most})
        why += [(who, *line) for line in lost]
        print(f"{who}: {row['total']:g} of {most}", flush=True)
        for name, task, reason in lost:
            where = ", ".join(filter(None, (name, task)))
            print(f"    {where and where + ': '}{reason}", flush=True)
    write_sheet(results / "scores.csv", [list(rows[0]), *(row.values() for row in rows)])
    write_sheet(results / "reasons.csv", [("student", "lesson", "exercise", "reason"), *why])


def write_sheet(path: Path, rows: Iterable[Iterable]) -> None:
    """Write a CSV file in which no text that a student chose is a formula: an apostrophe goes before what could be."""
    with open(path, "w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows(map(escaped, rows))


def escaped(row: Iterable) -> list:
    return [f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in row]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", type=Path, help="a folder with a folder, or a notebook, for each student")
    parser.add_argument("results", type=Path, nargs="?", help="where to write (default: SUBMISSIONS-graded)")
    given = parser.parse_args(arguments)
    folder = given.submissions.resolve()
    if not folder.is_dir() or not collect(folder):
        sys.exit(f"{given.submissions}: expected a folder with submissions in it")
    os.environ.setdefault("DIFFUSION_BUDGET", "quick")  # reaches the kernels
    try:
        grade_class(folder, (given.results or folder.with_name(f"{folder.name}-graded")).resolve())
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
