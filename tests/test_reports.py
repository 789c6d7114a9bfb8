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


def test_the_stored_tries_are_compared_seed_by_seed(monkeypatch, tmp_path):
    values = {"base": (1.0, 3.0), "better": (0.5, 2.5), "anew": (1.5, 2.5)}
    runs = [
        {
            "name": kind,
            "training": {"steps": 100 + seed},
            "results": {name: {"fid": values[name][seed], "label_agreement": 0.5} for name in names},
        }
        for seed in range(2)
        for kind, names in (("base", ["base", "better"]), ("anew", ["anew"]))
    ]
    (tmp_path / "tries.json").write_text(json.dumps({"runs": runs}))
    monkeypatch.setattr(reports, "RESULTS", tmp_path)
    rows = {cells[0]: cells for line in reports.tries().splitlines() if (cells := line.split())}
    assert rows["better"][1:] == ["100-101", "1.50", "±", "1.41", "-0.50", "±", "0.00", "50.0%"]
    assert rows["anew"][1:] == ["100-101", "2.00", "±", "0.71", "+0.00", "±", "0.50", "50.0%"]
    assert rows["base"][1:] == ["100-101", "2.00", "±", "1.41", "50.0%"]


def test_the_ladder_as_text_holds_every_rung_and_the_floor():
    stored = json.loads((reports.RESULTS / "ladder.json").read_text(encoding="utf-8"))["runs"]
    rungs = dict.fromkeys(run["name"] for run in stored if run["kind"] == "rung")
    *lines, floor = reports.ladder().splitlines()[1:]
    assert [line[:40].strip() for line in lines] == list(rungs) and floor.startswith("real digits")
