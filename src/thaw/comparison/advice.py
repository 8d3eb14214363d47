"""Write the conclusions of a comparison as sentences."""

from thaw.pages.metric_names import bounds, metric_of, score
from thaw.pages.text import agreeing, amount, duration, p_value, percentage, shown

_WIDEST = 60  # largest width of the recommended candidate's name, in columns
_ENOUGH = 500  # number of images that is enough to show a difference of a few percent
_QUICKER = 2  # mention a tied candidate if it is faster by at least this factor


def advice(facts: dict) -> list[str]:
    """Return sentences that recommend a candidate and say how certain the recommendation is."""
    entries = facts["candidates"]
    if not entries:
        lacking = "has predictions for test images" if facts["split"] == "test" else "has finished"
        return [f"No run {lacking}, so there is nothing to compare."]
    best, others = entries[0], entries[1:]
    low, high = bounds(best)
    seeds = amount(len(best["seeds"]), "seed")
    sentences = [
        f"Use {shown(best['name'], _WIDEST)}: {_achieves(best, facts)} (mean of {seeds}; 95 % interval "
        f"{percentage(low)} to {percentage(high)})."
    ]
    tied, worse = ([other for other in others if other["verdict"] == verdict] for verdict in ("tied", "worse"))
    if worse:
        sentences.append(
            "It is better than "
            + _listed(
                [f"{shown(one['name'])} by {_points(-one['difference'])} (p {p_value(one['p'])})" for one in worse]
            )
            + "."
        )
    if tied:
        sentences.append(_tie_sentence(best, tied))
    return sentences + _robustness_sentence(best, others)


def _achieves(best: dict, facts: dict) -> str:
    images = f"{amount(facts['images'], image_kind(facts))}{_in_groups(facts)}"
    if metric_of(best) == "map":
        return f"its mean average precision on {images} is {percentage(score(best))}"
    return f"it classifies {percentage(score(best))} of {images} correctly"


def _in_groups(facts: dict) -> str:
    return f" in {amount(facts['groups'], 'group')}" if facts.get("groups") else ""


def _robustness_sentence(best: dict, others: list[dict]) -> list[str]:
    """Return a sentence if other candidates are clearly better than the recommended one on corrupted images."""
    if not best.get("robustness") or best["robustness"]["verdict"] != "worse":
        return []
    measured = [one for one in others if one.get("robustness")]
    better = max(measured, key=lambda one: one["robustness"]["acc"])
    accuracies = f"{percentage(better['robustness']['acc'])} instead of {percentage(best['robustness']['acc'])}"
    return [f"On corrupted images (blur, noise, JPEG, brightness), {shown(better['name'])} is better: {accuracies}."]


def _tie_sentence(best: dict, tied: list[dict]) -> str:
    names = _listed([f"{shown(one['name'])} ({percentage(score(one))})" for one in tied])
    sentence = f"On these images, it is not clearly better than {names}"
    quickest = min(tied, key=lambda one: one["seconds"])
    if quickest["seconds"] * _QUICKER <= best["seconds"]:
        name, times = shown(quickest["name"]), f"{_seconds(quickest)} instead of {_seconds(best)}"
        sentence += f"; {name} takes the least time: {times}"
    return sentence + "."


def cautions(facts: dict) -> list[str]:
    """Return sentences that warn why the accuracies may mislead, for example because there are few images."""
    images, entries, sentences = facts["images"], facts["candidates"], []
    if entries and images < _ENOUGH:
        low, high = bounds(entries[0])
        each = f"each of the {images} changes an accuracy by {percentage(1 / images)}, and chance alone changes it"
        changes = "chance alone changes the mAP" if metric_of(facts) == "map" else each
        sentences.append(
            f"There are few {agreeing(f'{image_kind(facts)}[s]', images)}: {changes} by about "
            f"{percentage((high - low) / 2)}. More images would reduce {'this' if changes != each else 'both'}."
        )
    if copies := facts["copies"]:
        sentences.append(
            f"{amount(copies, image_kind(facts))} {agreeing('[are]', copies)} also in training, byte for byte. "
            "Therefore all results are too high; scripts/audit_data.py lists these images."
        )
    if entries and min(len(one["seeds"]) for one in entries) == 1:
        sentences.append(
            "One seed says nothing about how much accuracy varies between seeds; add seed=0,1,2."
            if max(len(one["seeds"]) for one in entries) == 1
            else "Some candidates have only one seed; their variation between seeds is estimated from other candidates."
        )
    if facts["split"] == "val" and any(run["epochs"] > 1 for one in entries for run in one["runs"]):
        sentences.append(
            "The best epoch of each run was chosen on these same images, so all results are a little too high."
        )
    for key, words in (("failures", "failed"), ("unfinished", "did not finish")):
        if facts[key]:
            count = len(facts[key])
            sentences.append(f"{amount(count, 'run')} {words} and {agreeing('[are]', count)} not compared.")
    return sentences + left_out_sentence(facts)


def image_kind(facts: dict) -> str:
    """Return the name of the images on which candidates are compared."""
    return "test image" if facts["split"] == "test" else "validation image"


def left_out_sentence(facts: dict) -> list[str]:
    """Return a list with one sentence that names the left-out finished runs, or an empty list without such runs."""
    names, how = facts["left_out"], "tested" if facts["split"] == "test" else "validated"
    return [f"Runs that were {how} on other images are left out: {_listed(names)}."] if names else []


def _seconds(entry: dict) -> str:
    return f"{entry['seconds']:.3g} s" if entry["seconds"] < 60 else duration(entry["seconds"])


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points" if difference >= 0.0005 else f"{100 * difference:.2g} points"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
