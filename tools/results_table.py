"""Write the table of results into website/pages/results.md from the stored reports: ``python tools/results_table.py``."""

import sys
from pathlib import Path

from diffusion_helpers.bench import reports

PAGE = Path(__file__).resolve().parents[1] / "website" / "pages" / "results.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def write_table(path: Path, results: Path) -> int:
    """Replace what is between the two marks in ``path`` by the best report of each model in ``results``; how many.

    Raises ValueError when there is no report, and when there is not exactly one pair of marks.
    """
    found = reports.best(reports.stored(results))
    page = path.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"{path}: expected one line {BEGIN} and below it one line {END}")
    before, rest = page.split(BEGIN)
    table = reports.markdown(found)
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return len(found)


if __name__ == "__main__":
    try:
        print(f"{write_table(PAGE, reports.RESULTS)} models in the table of {PAGE.name}")
    except ValueError as error:
        sys.exit(str(error))
