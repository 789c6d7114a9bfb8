"""Write the glossary of the lessons, ``notebooks/glossary.md``, from ``diffusion_helpers/lessons/glossary.py``."""

from pathlib import Path

from diffusion_helpers.lessons.glossary import THEMES, Term

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def row(term: Term) -> str:
    """One line of a table. A bare | would end a cell there, also within a formula."""
    [lesson] = NOTEBOOKS.glob(f"{term.lesson}_*.ipynb")
    symbol = f"${term.symbol}$" if term.symbol else ""
    cells = (f"**{term.name}**", symbol, term.meaning, term.elsewhere, f"[{term.lesson}]({lesson.name})")
    return f"| {' | '.join(cells)} |"


def text() -> str:
    """The whole page."""
    parts = [
        "# Symbols and terms\n\nOne notation runs through all lessons. What papers and the code call it stands beside it.\n"
    ]
    for theme, terms in THEMES.items():
        lines = [
            "| term | symbol | what it means | in code and papers | lesson |",
            "|---|---|---|---|---|",
            *map(row, terms),
        ]
        parts.append(f"## {theme}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    (NOTEBOOKS / "glossary.md").write_text(text(), encoding="utf-8")
