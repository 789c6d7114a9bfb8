"""The glossary: one source, written out, linked from each lesson, and about what the lessons say."""

import re

import glossary
import nbformat
import pytest

from diffusion_helpers.lessons.glossary import THEMES

LESSONS = sorted(glossary.NOTEBOOKS.glob("*.ipynb"))
TERMS = [term for terms in THEMES.values() for term in terms]


def words(path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)


@pytest.mark.parametrize("folder", ["notebooks", "teaching/student"])
def test_the_page_is_what_the_source_says(folder) -> None:
    page = glossary.NOTEBOOKS.parent / folder / "glossary.md"
    assert page.read_text(encoding="utf-8") == glossary.text(), "python tools/glossary.py, then make student"


def test_no_term_stands_twice_and_no_formula_breaks_the_table() -> None:
    assert len({term.name.lower() for term in TERMS}) == len(TERMS)
    assert all("|" not in "".join(term) for term in TERMS)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_each_lesson_links_to_it(path) -> None:
    assert "[glossary](glossary.md)" in nbformat.read(path, as_version=4).cells[0].source


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_a_term_is_in_the_lesson_that_is_said_to_bring_it(term) -> None:
    [path] = [path for path in LESSONS if path.name.startswith(term.lesson)]
    assert re.search(re.escape(term.name), words(path), re.IGNORECASE)
