"""The conclusions of a search, in sentences and in a table for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thaw.pages.limits import LINES
from thaw.pages.text import aligned, amount, duration, p_value, percentage, shown


def search_advice(facts: Mapping[str, Any]) -> list[str]:
    """Return sentences that name the winner, say how sure its accuracy is, and what the search itself believed."""
    winner, final = facts["winner"], facts["final"]
    if winner is None:
        failed = [row["reason"] for row in facts["trials"] if row["result"] == "failed" and row["reason"]]
        if failed:
            return [f"No trial succeeded. The first one failed: {failed[0]}"]
        return ["No trial finished an epoch within the budget: give the search more time."]
    if final is None:
        return [
            f"Use {winner['name']}, the best of {amount(len(facts['trials']), 'trial')}. No time was left to measure "
            f"it on other images. Its {percentage(winner['search_acc'])} is too high, because the search chose it by "
            "this number."
        ]
    seeds = "one seed" if len(final["seeds"]) == 1 else f"mean of {len(final['seeds'])} seeds"
    return [
        f"Use {winner['name']}: it classifies {percentage(final['acc'])} of {amount(final['images'], 'unseen image')} "
        f"correctly ({seeds}; 95 % interval {percentage(final['low'])} to {percentage(final['high'])}). Unseen images "
        f"are {final['measured_on']}, which the search did not use.",
        _optimism(winner, final),
        *_verdicts(facts["finalists"]),
        *(
            f"{one['name'].capitalize()} is significantly better: {percentage(one['acc'])}, for {one['cost']}."
            for one in facts["ensembles"]
            if one["verdict"] == "better"
        ),
    ]


def _optimism(winner: Mapping[str, Any], final: Mapping[str, Any]) -> str:
    own, more = final["search_best"], 100 * (final["search_best"] - final["acc"])
    end = f"{more:.1f} points more than the winner reaches on unseen images" if more >= 0.05 else "not too high"
    return f"The search's own best value was {percentage(own)}, on {winner['chosen_on']}: {end}."


def _verdicts(finalists: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence each for the finalists that are better than the winner, tied with it, and worse."""
    named = {
        verdict: ", ".join(
            f"{shown(one['name'], 60)} ({percentage(one['acc'])})" for one in finalists if one["verdict"] == verdict
        )
        for verdict in ("better", "tied", "worse")
    }
    sentences = {
        "better": f"Significantly better on these images: {named['better']}. Use the first of them; its accuracy is a "
        "little too high, because these images chose it.",
        "tied": f"On these images, it is not clearly better than {named['tied']}.",
        "worse": f"It is significantly better than {named['worse']}.",
    }
    return [sentence for verdict, sentence in sentences.items() if named[verdict]]


def search_table(facts: Mapping[str, Any], folder: Path) -> str:
    """Return a summary for the terminal."""
    lines = [["", "search's val/acc", "unseen images", "95 % interval", "against the winner"]]
    searched = {row["number"]: row["acc"] for row in facts["trials"]}
    for one in facts["finalists"][:LINES]:
        verdict = one["verdict"] + (f" (p {p_value(one['p'])})" if one["p"] is not None else "")
        interval = f"{one['acc_low']:.4f} to {one['acc_high']:.4f}"
        lines.append([shown(one["name"], 70), f"{searched[one['trial']]:.4f}", f"{one['acc']:.4f}", interval, verdict])
    epochs, parts = facts["epochs"], []
    parts += aligned(lines) if len(lines) > 1 else []
    parts += ["", *facts["advice"], ""]
    tried = [row for row in facts["trials"] if row["result"] != "unfinished"]
    early = sum(row["result"] == "ended early" for row in tried)
    failed = sum(row["result"] == "failed" and row["strategy"] is not None for row in tried)
    saved = f", {early} ended early, which saved {100 * epochs['saved']:.0f} % of {amount(epochs['full'], 'epoch')}"
    parts.append(
        f"{amount(len(tried), 'trial')} in {duration(facts['used'])}{saved if early else ''}"
        + (f", {failed} failed" if failed else "")
    )
    for name, one in facts["dropped"].items():
        parts.append(
            f"backbone {name} left out after its probe: {100 * one['difference']:.1f} points, p {p_value(one['p'])}"
        )
    if facts["winner"]:
        parts.append(
            f"model    {folder / facts['model']}" if facts["model"] else f"best     trial {facts['winner']['trial']}"
        )
        if facts["model"] and not facts["model_is_final"]:
            parts.append("         trained on a part of the images, because no time was left to train it on all")
        parts.append(f"again    {facts['winner']['command']}")
    return "\n".join(parts)
