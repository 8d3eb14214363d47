"""What a comparison comes to, in words."""

from thaw.evaluation.statistics import MCNEMAR
from thaw.pages.duration import duration
from thaw.pages.text import agreeing, amount, shown

_WIDEST = 60  # columns of the recommended candidate's name
_TELLING = 500  # validation images, from which on a difference of a few percent can be seen
_QUICKER = 2


def advice(facts: dict) -> list[str]:
    """Which candidate to use, and how sure that is."""
    entries = facts["candidates"]
    if not entries:
        return ["No run has finished, so that there is nothing to compare."]
    best, others = entries[0], entries[1:]
    low, high = best["acc_ci95"]
    seeds = amount(len(best["seeds"]), "seed")
    told = [
        f"Use {shown(best['name'], _WIDEST)}: it is right on {_percent(best['acc'])} of "
        f"{amount(facts['images'], 'validation image')} (mean of {seeds}; 95 % interval "
        f"{_percent(low)} to {_percent(high)})."
    ]
    tied, worse = ([other for other in others if other["verdict"] == verdict] for verdict in ("tied", "worse"))
    if worse:
        told.append(
            "It is better than "
            + _listed([f"{shown(one['name'])} by {_points(-one['difference'])} ({_p(one['p'])})" for one in worse])
            + "."
        )
    if tied:
        told.append(_of_tied(best, tied))
    return told


def _of_tied(best: dict, tied: list[dict]) -> str:
    names = _listed([f"{shown(one['name'])} ({_percent(one['acc'])})" for one in tied])
    told = f"These images cannot tell it from {names}"
    quickest = min(tied, key=lambda one: one["seconds"])
    if quickest["seconds"] * _QUICKER <= best["seconds"]:
        name, times = shown(quickest["name"]), f"{_seconds(quickest)} instead of {_seconds(best)}"
        told += f", of which {name} takes the least time: {times}"
    return told + "."


def cautions(facts: dict) -> list[str]:
    """What whoever reads the numbers has to know."""
    images, entries, told = facts["images"], facts["candidates"], []
    if entries and images < _TELLING:
        told.append(
            f"The validation set is small: of {images} images one is {_percent(1 / images)}, and by chance alone an "
            f"accuracy may be off by {_percent(_half_width(entries[0]))}. More validation images would tell more."
        )
    if entries and min(len(one["seeds"]) for one in entries) == 1:
        told.append(
            "One seed says nothing of how much another would change an accuracy; add seed=0,1,2."
            if facts["method"] in (None, MCNEMAR)
            else "Some have one seed alone; how much theirs would vary is taken from the others."
        )
    if entries:
        told.append(
            "The best epoch of each run was chosen on these same images, so that all accuracies are a little too good."
        )
    for key, words in (("failures", "failed"), ("unfinished", "did not come to an end")):
        if facts[key]:
            told.append(
                f"{amount(len(facts[key]), 'run')} {words} and {agreeing('[are]', len(facts[key]))} missing here."
            )
    if facts["left_out"]:
        told.append(f"Left out, for they were validated on other images: {_listed(facts['left_out'])}.")
    return told


def _half_width(entry: dict) -> float:
    low, high = entry["acc_ci95"]
    return (high - low) / 2


def _seconds(entry: dict) -> str:
    return f"{entry['seconds']:.3g} s" if entry["seconds"] < 60 else duration(entry["seconds"])


def _percent(share: float) -> str:
    return f"{100 * share:.2f}\N{NO-BREAK SPACE}%"


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points" if difference >= 0.0005 else f"{100 * difference:.2g} points"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
