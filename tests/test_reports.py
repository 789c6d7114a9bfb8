"""The stored reports, and the table in the README that is written from them."""

import json

import pytest
import results_table

from diffusion_helpers.bench import reports


def report(model: str, fid: float, **options) -> dict:
    recipe = {
        "model": model,
        "sampler": "ddim",
        "steps": 20,
        "spacing": "uniform",
        "gamma": 1.5,
        "interval": [0.0, 1.0],
    }
    result = {"value": fid, "error": 0.25, "floor": 0.125, "floor_error": None}
    return {
        "recipe": recipe | options,
        "evaluations_per_sample": 40.0,
        "N": 2000,
        "features": {"network": "judge"},
        "reference": {"data": "mnist", "N": 10_000},
        "error": "one standard deviation",
        "floor": "real images",
        "metrics": {"fid": result},
    }


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    guided = report("guided", 0.5, interval=[0.2, 0.75])
    for name, content in {"a": report("guided", 9.0), "b": guided, "c": report("plain", 2.0, gamma=None)}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_the_table_has_the_best_report_of_each_model(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{results_table.BEGIN}\nold\n{results_table.END}\n\nrest\n", encoding="utf-8")
    assert results_table.write_table(readme, results) == 2
    page = readme.read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    assert rows[0] == ["`guided`", "`plain`"] and rows[1] == ["---"] * 3
    cells = {row[0]: row[1:] for row in rows[2:]}
    assert cells["FID (lower)"] == ["0.500 ± 0.250 (0.125)", "2.000 ± 0.250 (0.125)"]
    assert cells["guidance γ"][0] == "1.5 at t = 0.2 to 0.75"
    assert page.startswith("# Title\n") and page.endswith(f"{results_table.END}\n\nrest\n") and "old" not in page
    results_table.write_table(readme, results)
    assert readme.read_text(encoding="utf-8") == page


def test_experiments_of_other_forms_beside_the_reports_are_passed_over(results):
    (results / "objectives.json").write_text('{"protocol": {}, "runs": []}')
    assert len(reports.stored(results)) == 3
    assert len(reports.stored()) > 40


def test_the_table_needs_reports_and_one_pair_of_marks(results, tmp_path):
    readme, begin, end = tmp_path / "README.md", results_table.BEGIN, results_table.END
    for page in ("none", begin, f"{end}\n{begin}", 2 * f"{begin}{end}"):
        readme.write_text(page)
        with pytest.raises(ValueError, match="expected one line"):
            results_table.write_table(readme, results)
        assert readme.read_text() == page
    with pytest.raises(ValueError, match=r"no \.json file in"):
        results_table.write_table(readme, tmp_path)


def test_every_measure_of_a_stored_report_is_shown():
    for found in reports.stored():
        assert set(found["metrics"]) <= set(reports.FORMATS)
        shown = reports.text(found)
        assert all(reports.FORMATS[key][0] in shown for key in found["metrics"])
