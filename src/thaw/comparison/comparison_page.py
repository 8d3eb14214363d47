"""Write the files of a comparison: `comparison.json`, `comparison.csv` and the standalone page `report.html`."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from thaw.comparison.advice import image_kind, left_out_sentence
from thaw.comparison.compare import compare
from thaw.comparison.finished_runs import Run
from thaw.data.thumbnails import thumbnail_url
from thaw.pages import plots
from thaw.pages.html import render
from thaw.pages.limits import CANDIDATES, LINES, MATRIX, ROWS
from thaw.pages.metric_names import NAMES, bounds, metric_of, score
from thaw.pages.text import aligned, p_value, shown
from thaw.runs.optional_output import write_page
from thaw.storage.files import write_rows, write_whole

_COLUMNS = ("name", "seeds", "{metric}", "{metric}_low", "{metric}_high", "verdict", "p", "difference", "macro_acc",
            "macro_f1", "ece", "loss", "trainable", "total", "seconds", "train_images_per_second", "peak_memory_mb",
            "pareto", "corrupted_acc")  # fmt: skip


def write_comparison(folder: Path, runs: Sequence[Path], split: str = "val") -> dict:
    """Compare the runs in the folders `runs` on `split`, write the comparison into `folder`, and return it."""
    facts = {"command": _command(folder), **compare([Run(Path(run), split) for run in runs], folder)}
    write_whole(folder / "comparison.json", json.dumps(facts, indent=1) + "\n")
    columns = [name.format(metric=facts["metric"]) for name in _COLUMNS]
    write_rows(folder / "comparison.csv", columns, map(_csv_row, facts["candidates"]))
    write_page(folder / "report.html", lambda: _page(facts))
    return facts


def table(facts: dict) -> str:
    """Return a terminal table of the candidates, followed by the advice and the runs that were left out."""
    rows = [("", f"{facts['split']}/{facts['metric']}", "95 % interval", "seconds", "against the best")]
    for entry in facts["candidates"]:
        low, high = bounds(entry)
        rows.append(
            (
                entry["name"],
                f"{score(entry):.4f}",
                f"{low:.4f} to {high:.4f}",
                f"{entry['seconds']:.1f}",
                verdict(entry),
            )
        )
    lines = aligned([(shown(name, 80), *rest) for name, *rest in rows[: LINES + 1]])
    lines += [f"and {len(rows) - LINES - 1} more, in comparison.csv"] if len(rows) > LINES + 1 else []
    return "\n".join([*(lines if facts["candidates"] else []), "", *facts["advice"], *left_out_sentence(facts)])


def verdict(entry: dict) -> str:
    """Return a candidate's verdict against the best one, with the p-value of the difference."""
    return entry["verdict"] + (f" (p {p_value(entry['p'])})" if entry["p"] is not None else "")


def _csv_row(entry: dict) -> dict:
    (low, high), metric = bounds(entry), metric_of(entry)
    return {
        "macro_acc": None,
        **entry,
        **entry["parameters"],
        "seeds": " ".join(map(str, entry["seeds"])),
        "corrupted_acc": entry["robustness"]["acc"] if entry["robustness"] else None,
        f"{metric}_low": low,
        f"{metric}_high": high,
    }


def _page(facts: dict) -> str:
    entries = facts["candidates"][:CANDIDATES]
    drawn = (
        {
            "intervals": plots.intervals(entries),
            "accuracy_and_time": plots.accuracy_and_time(entries),
            "curves": plots.curves(entries),
        }
        if entries
        else {}
    )
    hardest = sorted(facts["classes"], key=lambda name: entries[0][f"{facts['metric']}_by_class"][name])
    pictures = {
        row["path"]: thumbnail_url(Path(facts["data"]["data_root"]) / row["path"]) for row in facts["disagreements"]
    }
    listed = set(hardest[:ROWS])
    values = {
        **facts,
        "plots": drawn,
        "pictures": pictures,
        "colours": plots.COLOURS,
        "listed": [name for name in facts["classes"] if name in listed],
        "matrix": MATRIX,
        "drawn": CANDIDATES,
        "most_tests": ROWS,
        "image": image_kind(facts),
        "metric_name": NAMES[facts["metric"]],
        "has_robustness": any(entry["robustness"] for entry in entries),
    }
    return render("comparison.html.jinja", **values)


def _command(folder: Path) -> str | None:
    path = folder / "multirun.yaml"
    if not path.is_file():
        return None
    given = OmegaConf.load(path).hydra.overrides
    overrides = [o for o in (*given.task, *given.hydra) if o != "hydra.mode=MULTIRUN"]
    flag = [] if any(o.startswith("sweep=") for o in overrides) else ["-m"]
    return shlex.join(["python", "train.py", *flag, *overrides])
