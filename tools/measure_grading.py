"""How long does a class take to grade? ``python tools/measure_grading.py [STUDENTS]``, by default 30.

Each student hands in all lessons: the first a perfect one, the second the untouched copies, the next nine each with
one fault (such as an answer that hangs, or a truncated file), and each of the others with one known mistake, taken
evenly from the tables of the checks. Everything runs as it does for an instructor, in kernels. Prints what grade.py
prints, then the seconds, and who has not lost exactly the exercises that they should.
"""

import copy
import csv
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grade
import nbformat
import student
from nbformat import NotebookNode
from nbgrader import utils

from diffusion_helpers.lessons import checks

HERE = Path(__file__).parent


def mistakes() -> list[tuple[str, str, str]]:
    """(lesson, grade id of the answer, wrong answer) for every known mistake; the wrong answer is taken from its check."""
    found = []
    for path in student.lessons():
        for cell in filter(utils.is_grade, nbformat.read(path, as_version=4).cells):
            check, function = re.search(r"checks\.(\w+)\((\w+)", cell.source).groups()
            for number in range(len(getattr(checks, check).known)):
                source = f"{function} = checks.{check}.known[{number}][1]"
                found.append((path.name, grade.exercise(cell), source))
    return found


def answer(book: NotebookNode) -> NotebookNode:
    """The first answer of a lesson."""
    return next(filter(utils.is_solution, book.cells))


def body(source: str) -> Callable[[NotebookNode], None]:
    """A fault: this is all that the first answer does."""

    def change(book: NotebookNode) -> None:
        cell = answer(book)
        cell.source = f"{cell.source.splitlines()[0]}\n    {source}"

    return change


def edited_tests(book: NotebookNode) -> None:
    body("return None")(book)
    for cell in filter(utils.is_grade, book.cells):
        cell.source = "pass"


def duplicated_ids(book: NotebookNode) -> None:
    book.cells.append(copy.deepcopy(answer(book)))
    body("raise NotImplementedError()")(book)
    for cell in book.cells:
        cell.id = "same"


FIRST, NONE, ALL = slice(1), slice(0), slice(None)
# Name: what happens to a lesson; which of its exercises that costs.
FAULTS: dict[str, tuple[Callable[[NotebookNode], object], slice]] = {
    "hanging": (body("while True: pass"), FIRST),
    "crashing": (body("__import__('os')._exit(3)"), FIRST),
    "hungry": (body("return [0] * 10**9"), FIRST),
    "printing without end": (body("while True: print('noise' * 100)"), FIRST),
    "edited tests": (edited_tests, FIRST),
    "missing cell": (lambda book: book.cells.remove(answer(book)), FIRST),
    "duplicated ids": (duplicated_ids, NONE),
    "wrong kernel": (lambda book: book.metadata.kernelspec.update(name="julia-1.9", language="julia"), NONE),
    "truncated": (lambda book: None, ALL),
}


def main(students: int) -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    known, lessons, expected = mistakes(), student.lessons(), {}
    exercises = {
        path.name: [grade.exercise(cell) for cell in filter(utils.is_grade, nbformat.read(path, as_version=4).cells)]
        for path in lessons
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "class"
        for number in range(students):
            fault = list(FAULTS)[number - 2] if 2 <= number < 2 + len(FAULTS) else None
            name = ["perfect", "stub", *FAULTS][number] if number < 2 + len(FAULTS) else f"mistake {number:02}"
            changed, task, wrong = known[number * len(known) // students]
            own = folder / name
            own.mkdir(parents=True)
            for path in lessons:
                book = nbformat.read(student.STUDENT / path.name if name == "stub" else path, as_version=4)
                if fault and path.name == changed:
                    FAULTS[fault][0](book)
                for cell in book.cells if name.startswith("mistake") and path.name == changed else []:
                    if cell.metadata.get("nbgrader", {}).get("grade_id") == task:
                        cell.source = wrong
                text = json.dumps(book)  # as it is: nbformat would mend it
                (own / path.name).write_text(text[:-300] if (fault, path.name) == ("truncated", changed) else text)
            lost = {"perfect": [], "stub": sum(exercises.values(), [])}.get(name, [task])
            expected[name.replace(" ", "_")] = exercises[changed][FAULTS[fault][1]] if fault else lost
        start = time.perf_counter()
        grade.main([str(folder)])
        seconds = time.perf_counter() - start
        with open(Path(scratch) / "class-graded" / "reasons.csv", newline="", encoding="utf8") as file:
            rows = [row for row in csv.DictReader(file) if row["exercise"]]
    print(f"{students} submissions of {len(lessons)} lessons: {seconds:.0f} s, {seconds / students:.0f} s each")
    found = {name: [row["exercise"] for row in rows if row["student"] == name] for name in expected}
    wrong = [f"{name} ({found[name]}, expected {lost})" for name, lost in expected.items() if found[name] != lost]
    print("lost other than they should:", ", ".join(wrong) or "nobody")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
