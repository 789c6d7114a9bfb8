"""How long does a class take to grade? ``python tests/measure_grading.py [STUDENTS]``, by default 30.

Each student hands in all lessons: the first a perfect one, the second the untouched copies, and each of the others
a submission with one known mistake, taken evenly from the table in test_checks.py. Everything runs as it does for an
instructor, in kernels. Prints what grade.py prints, then the seconds, and who has not lost exactly one exercise.
"""

import csv
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "notebooks")]
import grade  # noqa: E402
import student  # noqa: E402
from nbgrader import utils  # noqa: E402
from test_checks import MISTAKES  # noqa: E402


def mistakes() -> list[tuple[str, str, str]]:
    """(lesson, grade id of the answer, wrong answer) for every known mistake; the wrong answer is taken from the table."""
    tables, found = {check.__name__: known for check, known in MISTAKES.items()}, []
    for path in student.lessons():
        for cell in filter(utils.is_grade, nbformat.read(path, as_version=4).cells):
            check, function = re.search(r"checks\.(\w+)\((\w+)", cell.source).groups()
            for number in range(len(tables[check])):
                source = f"from test_checks import MISTAKES\n\n{function} = MISTAKES[checks.{check}][{number}][0]"
                found.append((path.name, grade.exercise(cell), source))
    return found


def main(students: int) -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    known = mistakes()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "class"
        for number in range(students):
            own = folder / f"student {number:02}"
            own.mkdir(parents=True)
            lesson, task, wrong = known[number * len(known) // students]
            for path in student.lessons():
                book = nbformat.read(student.STUDENT / path.name if number == 1 else path, as_version=4)
                for cell in book.cells if number > 1 and path.name == lesson else []:
                    if cell.metadata.get("nbgrader", {}).get("grade_id") == task:
                        cell.source = wrong
                nbformat.write(book, own / path.name)
        start = time.perf_counter()
        grade.main([str(folder)])
        seconds = time.perf_counter() - start
        with open(Path(scratch) / "class-graded" / "reasons.csv", newline="", encoding="utf8") as file:
            lost = [row["student"] for row in csv.DictReader(file)]
    print(
        f"{students} submissions of {len(student.lessons())} lessons: {seconds:.0f} s, {seconds / students:.0f} s each"
    )
    print("not exactly one exercise lost:", *(n for n in range(2, students) if lost.count(f"student_{n:02}") != 1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
