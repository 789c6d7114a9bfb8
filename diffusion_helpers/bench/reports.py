"""The stored reports on models, and how they are shown: as plain text, and as a table in Markdown.

The reports on the shipped models are JSON files in ``diffusion_helpers/bench/results``; ``evaluate`` writes such files.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev

RESULTS = Path(__file__).parent / "results"
FORMATS = {  # how a measure is printed, and whether more or less of it is better
    "fid": ("FID", "{:.3f}", "lower"),
    "kid": ("KID", "{:.5f}", "lower"),
    "precision": ("precision", "{:.3f}", "higher"),
    "recall": ("recall", "{:.3f}", "higher"),
    "density": ("density", "{:.3f}", "higher"),
    "coverage": ("coverage", "{:.3f}", "higher"),
    "inception_score": ("IS", "{:.3f}", "higher"),
    "label_agreement": ("label agreement", "{:.2%}", "higher"),
    "nearest": ("nearest training image", "{:.2f}", "near the floor"),
}


def text(report: dict) -> str:
    """The report as a table of plain text: each measure, its error bar, and the floor."""
    lines = [f"{'':24}{'value':>10}{'±':>9}{'floor':>10}{'±':>9}   better"]
    for key, result in report["metrics"].items():
        title, form, better = FORMATS[key]
        numbers = ["" if number is None else form.format(number) for number in result.values()]
        lines.append(f"{title:24}{numbers[0]:>10}{numbers[1]:>9}{numbers[2]:>10}{numbers[3]:>9}   {better}")
    reference, features = report["reference"], report["features"]["network"]
    lines.append(
        f"N = {report['N']:,}; features: {features}; reference: {reference['N']:,} {reference['data']} test images"
    )
    lines.append(f"floor: {report['floor']}; ±: {report['error']}")
    lines.append(
        f"{report['evaluations_per_sample']:g} evaluations per sample; {report['seconds_sampling']:.0f} s sampling "
        f"({report['hardware']}), {report['seconds_measuring']:.0f} s measuring"
    )
    return "\n".join(lines)


def markdown(reports: list[dict]) -> str:
    """The reports as one table in Markdown: a column each, a row for each measure, the floor in brackets."""
    recipes = [report["recipe"] for report in reports]
    rows = {
        "": [f"`{recipe['model']}`" for recipe in recipes],
        "---": ["---"] * len(reports),
        "sampler": [f"{recipe['sampler']}, {recipe['steps']} {recipe['spacing']} steps" for recipe in recipes],
        "guidance γ": [_guidance(recipe) for recipe in recipes],
        "evaluations per sample": [f"{report['evaluations_per_sample']:g}" for report in reports],
        "N": [f"{report['N']:,}" for report in reports],
    }
    for key, (title, form, better) in FORMATS.items():
        found = [report["metrics"].get(key) for report in reports]
        rows[f"{title} ({better})"] = [_cell(form, **result) if result else "" for result in found]
    rows["features"] = [report["features"]["network"] for report in reports]
    notes = sorted({f"Reference: {r['reference']['N']:,} {r['reference']['data']} test images." for r in reports})
    notes += sorted({f"±: {r['error']}. In brackets the floor: {r['floor']}." for r in reports})
    return "\n".join("| " + " | ".join([name, *row]) + " |" for name, row in rows.items()) + "\n\n" + " ".join(notes)


def _guidance(recipe: dict) -> str:
    if recipe["gamma"] is None:
        return ""
    low, high = recipe["interval"]
    return f"{recipe['gamma']:g}" + ("" if (low, high) == (0, 1) else f" at t = {low:g} to {high:g}")


def _cell(form: str, value: float, error: float, floor: float, floor_error: float | None) -> str:
    return f"{form.format(value)} ± {form.format(error)} ({form.format(floor)})"


def stored(folder: Path | None = None) -> list[dict]:
    """The reports in ``folder`` (default: those on the shipped models), by model, evaluations and guidance.

    Raises ValueError when there are none.
    """
    folder = folder or RESULTS
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    reports = [report for report in found if "recipe" in report]  # experiments of other forms lie there too
    if not reports:
        raise ValueError(f"no .json file in {folder}: expected reports that this command wrote")
    return sorted(reports, key=lambda r: (r["recipe"]["model"], r["evaluations_per_sample"], r["recipe"]["gamma"] or 0))


def best(reports: list[dict]) -> list[dict]:
    """Of each model the report with the lowest FID, in the order the models come in."""
    found: dict[str, dict] = {}
    for report in reports:
        name = report["recipe"]["model"]
        if name not in found or report["metrics"]["fid"]["value"] < found[name]["metrics"]["fid"]["value"]:
            found[name] = report
    return list(found.values())


def ladder() -> str:
    """The stored rungs of ``tools/measure_ladder.py`` as text: means over the seeds, of FID ± standard deviation."""
    found: dict[str, list[dict]] = {}
    for run in _runs("ladder"):
        if run["kind"] == "rung":
            found.setdefault(run["name"], []).append(run)
    lines = [f"{'each with all before it':40}{'steps':>6}{'FID':>15}{'read as asked':>15}{'recall':>8}"]
    for name, runs in found.items():
        fid, agree, recall = ([run[key]["value"] for run in runs] for key in ("fid", "label_agreement", "recall"))
        steps = mean(run["training"]["steps"] for run in runs)
        lines.append(f"{name:40}{steps:6.0f}{_spread(fid):>15}{mean(agree):15.1%}{mean(recall):8.2f}")
    floors = runs[0]["fid"]["floor"], runs[0]["label_agreement"]["floor"], runs[0]["recall"]["floor"]
    return "\n".join([*lines, "{:46}{:15.2f}{:15.1%}{:8.2f}".format("real digits", *floors)])


def tries() -> str:
    """The stored results of ``tools/measure_tries.py`` as text: means over the seeds, and FID minus that of the base.

    After ± stands the standard deviation over the seeds, and for the difference the standard error of its mean.
    """
    drawn: dict[str, list[dict]] = {}
    anew: dict[str, list[dict]] = {}
    for run in _runs("tries"):
        for name, result in run["results"].items():
            rows = drawn if run["name"] == "base" else anew
            rows.setdefault(name, []).append(result | {"steps": run["training"]["steps"]})
    base = [result["fid"] for result in drawn["base"]]
    lines = [f"{'':40}{'steps':>10}{'FID':>15}{'minus base':>16}{'read as asked':>15}"]
    for title, rows in (("the same networks, drawn otherwise", drawn), ("trained anew, drawn as the base", anew)):
        lines += ["", title]
        for name, results in rows.items():
            fid, agree, steps = ([result[key] for result in results] for key in ("fid", "label_agreement", "steps"))
            gaps = [one - other for one, other in zip(fid, base, strict=True)]
            gap = "" if name == "base" else f"{round(mean(gaps), 2) + 0.0:+.2f} ± {stdev(gaps) / len(gaps) ** 0.5:.2f}"
            span = f"{min(steps)}-{max(steps)}"
            lines.append(f"  {name:38}{span:>10}{_spread(fid):>15}{gap:>16}{mean(agree):15.1%}")
    return "\n".join(lines)


def _runs(name: str) -> list[dict]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["runs"]


def _spread(values: list[float]) -> str:
    return f"{mean(values):.2f} ± {stdev(values):.2f}"
