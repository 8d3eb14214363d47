"""The result of a shortlist: `shortlist.json`, `shortlist.csv` and the page `shortlist.html`."""

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from thaw.comparison.advice import advice
from thaw.comparison.compare import dominates
from thaw.comparison.comparison_page import verdict
from thaw.errors import UserError
from thaw.features.neighbours import NEIGHBOURS
from thaw.models.backbones import family_of, is_own
from thaw.models.families.timm import full_name
from thaw.pages import plots
from thaw.pages.html import render
from thaw.pages.limits import CANDIDATES, LINES
from thaw.pages.metric_names import bounds, metric_of, score
from thaw.pages.text import aligned, shown
from thaw.runs.configuration import read_resolved
from thaw.runs.optional_output import write_page
from thaw.runs.summary import read_summary
from thaw.storage.files import write_rows, write_whole

PAGE = "shortlist.html"
_COLUMNS = ("name", "model", "weights", "{metric}", "{metric}_low", "{metric}_high", "verdict", "p", "neighbours",
            "images_per_second", "parameters", "size_mb", "licence", "pareto")  # fmt: skip

_COSTS = ("images/s", "parameters", "MB", "licence", "front")


def write_shortlist(folder: Path, compared: dict) -> str:
    """Write the backbones of a comparison, with speeds and sizes, into `folder`; return a terminal table of them."""
    entries = compared["candidates"]
    rows = [_row(entry, folder / entry["runs"][0]["folder"]) for entry in entries]
    names = Counter(row["name"] for row in rows)
    for row, entry in zip(rows, entries, strict=True):
        row["name"] += f", {entry['name']}" if names[row["name"]] > 1 else ""
    timed = [row for row in rows if row["milliseconds"]]
    for row in rows:
        row["pareto"] = row in timed and not any(dominates(other, row, "milliseconds") for other in timed)
    # Rows have shorter names than candidates. Seconds are made equal, because stored features shorten a run.
    named = [{**entry, "name": row["name"], "seconds": 1.0} for entry, row in zip(entries, rows, strict=True)]
    kept = {key: compared[key] for key in ("metric", "cautions", "images", "command", "failures", "machine")}
    sentences = advice({**compared, "candidates": named})
    facts = {"advice": sentences, "backbones": rows, "next": _next_command(compared), **kept}
    write_whole(folder / "shortlist.json", json.dumps(facts, indent=1) + "\n")
    columns = [name.format(metric=compared["metric"]) for name in _COLUMNS]
    write_rows(folder / "shortlist.csv", columns, rows)
    write_page(folder / PAGE, lambda: _page(facts, named))
    return _table(facts)


def _row(entry: dict, run: Path) -> dict:
    summary, built = read_summary(run), read_resolved(run)["model"]
    model, weights = full_name(built["name"], built["_target_"]), summary["weights"]
    published = weights == "imagenet" and not is_own(built["_target_"])
    file, licence = _published(model) if published else (Path(weights).expanduser(), None)
    (low, high), metric = bounds(entry), metric_of(entry)
    rate = summary.get("frozen_images_per_second")
    return {
        "name": model if published else f"{model}, weights={weights}",
        "model": model,
        "weights": weights,
        **{key: entry[key] for key in ("metric", metric, "verdict", "p", "difference")},
        f"{metric}_low": low,
        f"{metric}_high": high,
        "neighbours": (summary.get("probe") or {}).get("neighbours", {}).get("acc"),
        "images_per_second": rate,
        "milliseconds": 1000 / rate if rate else None,
        "parameters": entry["parameters"]["total"],
        "size_mb": round(file.stat().st_size / 1e6, 1) if file and file.is_file() else None,
        "licence": licence,
    }


def _published(model: str) -> tuple[Path | None, str | None]:
    """Return the file of the published weights, and their licence."""
    try:
        family = family_of(model)
        return family.weights_file(model), family.origin(model).licence
    except UserError:  # the package with the weights was removed after the run
        return None, None


def _next_command(compared: dict) -> str | None:
    """Return the command that compares the strategies with the best backbone, on the same images."""
    if not compared["candidates"]:
        return None
    words = shlex.split(compared["candidates"][0]["runs"][0]["command"])
    kept = [
        word for word in words[2:] if not word.startswith(("strategy=", "strategy.", "seed=", "data.fold=", "hydra."))
    ]
    return shlex.join([*words[:2], "sweep=strategies", *kept])


def _table(facts: dict) -> str:
    """Return a terminal table of the backbones, the most accurate first, and the advice."""
    lines = [["", f"probe val/{facts['metric']}", "95 % interval", "against the best", f"{NEIGHBOURS}-NN", *_COSTS]]
    for row in facts["backbones"][:LINES]:
        low, high = (row[f"{facts['metric']}_{end}"] for end in ("low", "high"))
        quality = (f"{score(row):.4f}", f"{low:.4f} to {high:.4f}", verdict(row))
        rates = (_number(row["neighbours"], ".4f"), _number(row["images_per_second"], ".0f"))
        weights = (f"{row['parameters']:,}", _number(row["size_mb"], ".0f"), row["licence"] or "-")
        lines.append([shown(row["name"], 60), *quality, *rates, *weights, "*" if row["pareto"] else ""])
    more = len(facts["backbones"]) - LINES
    rest = [f"and {more} more, in shortlist.csv"] if more > 0 else []
    notes = (
        "images/s: in the frozen stages, on one CPU core or on a GPU",
        "* (front): no other backbone is both as accurate and as fast",
    )
    return "\n".join([*aligned(lines), *rest, "", *facts["advice"], *notes, "", f"next     {facts['next']}"])


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def _page(facts: dict, entries: Sequence[dict]) -> str:
    timed = [row for row in facts["backbones"] if row["milliseconds"]]
    label = "milliseconds per image in the frozen stages"
    drawn = {
        "intervals": plots.intervals(entries[:CANDIDATES]) if entries else None,
        "speed": plots.accuracy_and_cost(timed[:CANDIDATES], "milliseconds", label) if timed else None,
    }
    return render("shortlist.html.jinja", **facts, plots=drawn, colours=plots.COLOURS, neighbours=NEIGHBOURS)
