"""The result of a search: `search.json`, `trials.csv` and the page `search.html`."""

import json
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from thaw.comparison.compare import dominates
from thaw.comparison.comparison_page import write_comparison
from thaw.evaluation.statistics import LEVEL, holm
from thaw.pages import search_plots
from thaw.pages.html import render
from thaw.pages.limits import ROWS
from thaw.pages.text import duration
from thaw.runs import run_files
from thaw.runs.optional_output import warn_on_failure, write_page
from thaw.storage.files import write_rows, write_whole
from thaw.sweep.search.ensembles import ensembles
from thaw.sweep.search.final_stage import FINAL, MODEL, FinalRun
from thaw.sweep.search.merged_weights import Merged
from thaw.sweep.search.search_advice import search_advice, search_table
from thaw.sweep.search.search_space import BACKBONE, STRATEGY, Dimension
from thaw.sweep.search.trial_record import Trial, finished

PAGE = "search.html"
_COLUMNS = ("number", "result", "backbone", "strategy", "options", "acc", "loss", "epochs", "of_epochs",
            "parameters", "seconds", "ended", "pareto", "reason")  # fmt: skip
_RESULTS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "ended early", TrialState.FAIL: "failed"}
_FEWEST = 6  # trials without which nothing can be said about the importance of an option


@dataclass(frozen=True)
class Finished:
    """A search at its end.

    Args:
        seconds: the budget, and how much of it was used.
        repetitions: the number of runs of a complete trial.
        runs: the finished runs of the last stage.
        command: the command line of the search.
        winner: the trial that won, or None without any.
        sizes: the number of parameters of each trial's network, by the trial's number.
        merged: networks of averaged weights.
        holds_back: whether runs of the last stage train on fewer images than a run without a search.
        chosen_on: what the search chose by, and what its winner was measured on.

    """

    folder: Path
    trials: Sequence[Trial]
    dimensions: Sequence[Dimension]
    dropped: Mapping[str, dict]
    seconds: tuple[float, float]
    repetitions: int
    runs: Sequence[FinalRun]
    fixed: Sequence[str]
    command: str
    winner: Trial | None
    chosen_on: tuple[str, str]
    sizes: Mapping[int, int]
    merged: Sequence[Merged] = ()
    holds_back: bool = False


def write_results(search: Finished) -> str:
    """Write the files, and return a summary for the terminal."""
    facts = _facts(search)
    write_whole(search.folder / run_files.SEARCH, json.dumps(facts, indent=1) + "\n")
    write_rows(search.folder / "trials.csv", _COLUMNS, facts["trials"])
    write_page(search.folder / PAGE, lambda: _page(facts, search))
    return search_table(facts, search.folder)


def _facts(search: Finished) -> dict[str, Any]:
    rows = [{**_row(trial), "parameters": search.sizes.get(trial.number)} for trial in search.trials]
    on_front = [row["number"] for row in _with_front(rows, "seconds") if row["pareto"]]
    for row in rows:
        row["pareto"] = row["number"] in on_front
    ended = finished(search.trials)
    full = sum(trial.epochs * search.repetitions for trial in ended)
    run = sum(len(curve) for trial in ended for curve in trial.curves)
    winner = search.winner
    facts = {
        "command": search.command,
        "budget": search.seconds[0],
        "used": search.seconds[1],
        "trials": rows,
        "epochs": {"run": run, "full": full, "saved": 1 - run / full if full else 0.0},
        "dropped": dict(search.dropped),
        "importances": _importances(search),
        "winner": _winner(winner, search) if winner else None,
        **_final_facts(winner, search),
    }
    return {"advice": search_advice(facts), **facts}


def _with_front(rows: Sequence[dict], cost: str) -> list[dict]:
    """Return the complete trials; `pareto` says that no other is at least as accurate and costs less."""
    complete = [row for row in rows if row["result"] == "complete" and row[cost]]
    return [{**row, "pareto": not any(dominates(other, row, cost) for other in complete)} for row in complete]


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "result": _RESULTS.get(trial.state, "unfinished"),
        "backbone": trial.params.get(BACKBONE),
        "strategy": trial.params.get(STRATEGY),
        "options": _options(trial),
        "params": trial.params,
        "acc": trial.accuracy,
        "loss": trial.loss,
        "epochs": sum(map(len, trial.curves)),
        "of_epochs": trial.epochs,
        "seconds": trial.seconds,
        "ended": trial.ended,
        "reason": trial.reason,
    }


def trial_name(trial: Trial) -> str:
    """Return the trial's strategy and backbone, and the options in which it differs from their defaults."""
    return " ".join(filter(None, (trial.params.get(STRATEGY), trial.params.get(BACKBONE), _options(trial))))


def _options(trial: Trial) -> str:
    varied = trial.params.keys() - {STRATEGY}
    return " ".join(one for one in trial.overrides if one.partition("=")[0] in varied)


def _winner(trial: Trial, search: Finished) -> dict[str, Any]:
    overrides = [one for one in search.fixed if not one.startswith("hydra.")] + trial.overrides
    return {
        "trial": trial.number,
        "name": trial_name(trial),
        "search_acc": trial.accuracy,
        "chosen_on": search.chosen_on[0],
        "command": shlex.join(["python", "train.py", *overrides]),
    }


def _final_facts(winner: Trial | None, search: Finished) -> dict[str, Any]:
    """Return what the last stage found: the winner's accuracy on unseen images, and the other finalists' verdicts."""
    runs = [run for run in search.runs if run.stage == FINAL]
    model = next((run.folder for run in search.runs if run.stage == MODEL), None)
    own = [run for run in runs if winner and run.trial.number == winner.number]
    facts: dict[str, Any] = {
        "final": None,
        "finalists": [],
        "ensembles": [],
        "model": model,
        "model_is_final": bool(model),
    }
    if winner is None or not own:
        return facts
    compared = write_comparison(search.folder / FINAL, [search.folder / run.folder for run in runs], split="test")
    trial_of = {run.folder.removeprefix(f"{FINAL}/"): run.trial.number for run in runs}
    entries = {trial_of[run["folder"]]: entry for entry in compared["candidates"] for run in entry["runs"]}
    if winner.number not in entries:  # another trial with an equal configuration stands for it
        return facts
    best = entries[winner.number]
    low, high = best["acc_ci95"]
    facts["final"] = {
        "acc": best["acc"],
        "low": low,
        "high": high,
        "images": compared["images"],
        "seeds": best["seeds"],
        "measured_on": search.chosen_on[1],
        "search_best": max(trial.accuracy for trial in search.trials if trial.accuracy is not None),
    }
    facts["finalists"] = _verdicts(best, entries, compared["tests"], search.trials)
    facts["model"] = model or f"{FINAL}/{best['runs'][0]['folder']}"
    facts["model_is_final"] = bool(model) or not search.holds_back
    with warn_on_failure("the ensembles"):
        own_runs = {number: entry["runs"] for number, entry in entries.items()}
        facts["ensembles"] = ensembles(search.folder, own_runs, winner.number, search.merged)
    return facts


def _verdicts(best: dict, entries: Mapping[int, dict], tests: Sequence[dict], trials: Sequence[Trial]) -> list[dict]:
    """Return each finalist's accuracy, and its verdict compared with the winner, corrected for all finalists."""
    others = {number: entry for number, entry in entries.items() if entry is not best}
    pairs = [{entry["name"], best["name"]} for entry in others.values()]
    adjusted = holm([next(test["p"] for test in tests if {test["a"], test["b"]} == pair) for pair in pairs])
    rows = [_finalist(number, entry, trials, "winner", None) for number, entry in entries.items() if entry is best]
    for (number, entry), p in zip(others.items(), adjusted, strict=True):
        verdict = "tied" if p >= LEVEL else "better" if entry["acc"] > best["acc"] else "worse"
        rows.append(_finalist(number, entry, trials, verdict, p))
    return rows


def _finalist(number: int, entry: dict, trials: Sequence[Trial], verdict: str, p: float | None) -> dict:
    low, high = entry["acc_ci95"]
    kept = {key: entry[key] for key in ("acc", "seeds", "seconds")}
    return {"trial": number, "name": trial_name(trials[number]), **kept, "acc_low": low, "acc_high": high,
            "verdict": verdict, "p": p}  # fmt: skip


def _importances(search: Finished) -> dict[str, float]:
    """Return the share of each option in the differences between good trials (PED-ANOVA, Watanabe et al. 2023)."""
    kinds = {one.key: one.distribution for one in search.dimensions}
    found = {}
    for key, kind in kinds.items():
        having = [trial for trial in finished(search.trials) if key in trial.params]
        if len(having) < _FEWEST or len({str(trial.params[key]) for trial in having}) < 2:
            continue
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            [create_trial(params={key: t.params[key]}, distributions={key: kind}, value=t.accuracy) for t in having]
        )
        with warn_on_failure(f"the importance of {key}"), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            found |= optuna.importance.get_param_importances(study, evaluator=evaluator, params=[key], normalize=False)
    total = sum(found.values())
    return {key: value / total for key, value in sorted(found.items(), key=lambda item: -item[1])} if total else {}


def _page(facts: dict, search: Finished) -> str:
    ended = [row for row in facts["trials"] if row["acc"] is not None]
    keys = [one.key for one in search.dimensions]
    sized = [{**row, "millions": row["parameters"] / 1e6} for row in ended if row["parameters"]]
    winner, colours = facts["winner"] and facts["winner"]["trial"], search_plots.strategy_colours(ended)
    drawn = {
        "progress": search_plots.best_so_far(ended, facts["final"]) if ended else None,
        "importances": search_plots.importances(facts["importances"]) if facts["importances"] else None,
        "parallel": search_plots.parallel(ended, keys, winner) if len(ended) > 1 else None,
        "seconds": search_plots.front(_with_front(ended, "seconds"), colours, "seconds", "seconds per trial"),
        "size": search_plots.front(_with_front(sized, "millions"), colours, "millions", "millions of parameters"),
    }
    listed = sorted(facts["trials"], key=lambda row: -1.0 if row["acc"] is None else row["acc"], reverse=True)[:ROWS]
    return render("search.html.jinja", **{**facts, "listed": listed}, plots=drawn, duration=duration)
