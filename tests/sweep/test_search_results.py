"""The number that a search reports is that of images which it did not choose by."""

import json
import math

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState
from simulated_search import Clock, Runs, search, space
from written_runs import simulated, write_run

from thaw.sweep.search.final_stage import FINAL, FinalRun, FinalStage, finalists
from thaw.sweep.search.search_results import Finished, write_results
from thaw.sweep.search.search_space import Dimension, Space
from thaw.sweep.search.trial_record import Trial

NAMES = [f"net{number:02d}" for number in range(50)]
SPACE = Space({name: [f"model={name}"] for name in NAMES}, ["bias"], [], [[]])


def trial(number, accuracy, **params):
    params = {"backbone": NAMES[number % 50], "strategy": "bias", **params}
    overrides = [f"model={params['backbone']}", f"strategy={params['strategy']}"]
    curve = [[(accuracy, 1 - accuracy)]]
    done = TrialState.COMPLETE
    return Trial(number, done, params, overrides, curve, 1, accuracy, 1 - accuracy, seconds=5.0, ended=5.0 * number + 5)


def final_run(folder, one, right, seed):
    """Writes what a run of the last stage leaves: test predictions that are correct where `right` is True."""
    run = FinalRun(FINAL, one, seed, [*one.overrides, f"seed={seed}"], 5.0)
    acc = float(np.mean(right))
    metrics = {"acc": acc, "acc_ci95": [0, 1], "macro_acc": acc, "macro_f1": acc, "loss": 0.6, "ece": 0.05, "n": 3}
    prints = {"train": "a" * 64, "val": "b" * 64, "test": "c" * 64}
    written = write_run(
        folder / run.folder, right, "bias", seed, [*one.overrides, f"seed={seed}"], test=metrics, fingerprint=prints
    )
    (written / "predictions.csv").rename(written / "test_predictions.csv")
    return run


def conclude(folder, trials, answers, seeds=(1, 2, 3), dimensions=()):
    """Writes the last stage's runs and the results of a search; `answers` returns the correctness of a trial's runs."""
    chosen = finalists(trials, SPACE)[:3]
    runs = [final_run(folder, one, answers(one)[place], seed) for one in chosen for place, seed in enumerate(seeds)]
    write_results(
        Finished(
            folder, trials, [Dimension("backbone", CategoricalDistribution(NAMES)), *dimensions], {}, (300.0, 250.0), 1,
            runs, ["data.root=PHOTOS"], "python train.py sweep=search", next(iter(chosen), None), ("val/", "test/"),
            {one.number: 1000 + one.number for one in trials},
        )
    )  # fmt: skip
    return json.loads((folder / "search.json").read_text())


@pytest.mark.slow
def test_the_reported_accuracy_is_unbiased_among_equal_candidates_and_the_search_s_own_is_not(tmp_path):
    drawn = np.random.default_rng(0)
    final, own = [], []
    for number in range(60):
        searched = simulated(drawn, 50, seeds=1, images=200, accuracy=0.9)[:, 0]
        unseen = simulated(drawn, 50, seeds=3, images=200, accuracy=0.9)
        trials = [trial(place, float(right.mean())) for place, right in enumerate(searched)]
        facts = conclude(tmp_path / str(number), trials, lambda one, unseen=unseen: unseen[one.number])
        final.append(facts["final"]["acc"] - 0.9)
        own.append(facts["final"]["search_best"] - 0.9)
    error = np.std(final, ddof=1) / math.sqrt(len(final))
    assert abs(np.mean(final)) < 2 * error, "the mean error of the reported accuracy"
    assert np.mean(own) > 0.02 and np.mean(own) > 5 * np.std(own, ddof=1) / math.sqrt(len(own)), "the winner's curse"


def test_the_winner_is_the_search_s_best_even_if_another_is_better_on_unseen_images(tmp_path):
    trials = [trial(0, 0.95), trial(1, 0.9), trial(2, 0.85)]
    right = np.arange(400) < 320  # 80 %

    def answers(one):
        better = np.arange(400) < 380
        return [better if one.number == 1 else right] * 3

    facts = conclude(tmp_path, trials, answers)
    assert facts["winner"]["trial"] == 0 and facts["final"]["acc"] == 0.8
    assert [(one["trial"], one["verdict"]) for one in facts["finalists"]] == [(0, "winner"), (1, "better"), (2, "tied")]
    assert facts["advice"][0].startswith("Use bias net00: it classifies 80.00")
    assert "15.0 points more than the winner reaches on unseen images" in facts["advice"][1]
    assert any("Significantly better on these images: bias net01" in sentence for sentence in facts["advice"])
    page = (tmp_path / "search.html").read_text()
    assert "net01" in page and "<svg" in page


@pytest.mark.parametrize("alike", [False, True])
def test_an_average_of_models_is_recommended_only_if_better_beyond_chance(tmp_path, alike):
    drawn = np.random.default_rng(0)
    trials = [trial(number, 0.95 - 0.01 * number) for number in range(3)]
    right = drawn.random((3, 1, 400)) < 0.8
    right = right[[0, 0, 0]] if alike else right
    facts = conclude(tmp_path, trials, lambda one: right[one.number], seeds=(1,))
    (average,) = facts["ensembles"]
    assert (
        average["name"] == "the average of trials 0, 1, 2" if alike else average["name"].startswith("the average of ")
    )
    assert average["acc"] == (right[:, 0].sum(0) > 1).mean(), "equally sure models vote"
    assert average["verdict"] == ("tied" if alike else "better")
    assert any("average" in sentence for sentence in facts["advice"]) == (not alike)


def test_a_search_without_time_for_the_last_stage_says_that_its_number_is_too_high(tmp_path):
    facts = conclude(tmp_path, [trial(0, 0.95), trial(1, 0.9)], None, seeds=())
    assert facts["final"] is None
    assert "too high, because the search chose it" in facts["advice"][0]
    assert (tmp_path / "search.html").is_file()


def test_a_search_that_found_nothing_says_so(tmp_path):
    failed = Trial(0, TrialState.FAIL, {"backbone": "net00", "strategy": "bias"}, reason="it broke")
    facts = conclude(tmp_path, [failed], None, seeds=())
    assert facts["advice"] == ["No trial succeeded. The first one failed: it broke"]
    assert facts["epochs"] == {"run": 0, "full": 0, "saved": 0.0}, "a failed trial saves nothing"
    assert "it broke" in (tmp_path / "search.html").read_text()


def test_the_finalists_are_the_winner_the_best_default_and_the_next_best(tmp_path):
    varied = space(("good", "other"))

    def curve(one, repetition):
        factor = one.params.get("lr_factor", 1)
        start = 0.9 if one.params["strategy"] == "fine_tune" else 0.85
        return [start - 0.02 * abs(factor - 3) / 3 + 0.001 * one.number] * 20

    found = search(tmp_path, Runs(Clock(), curve), varied, most=20)
    found.search()
    trials = found.record.trials()
    chosen = finalists(trials, varied)
    assert chosen[0].accuracy == max(one.accuracy for one in trials if one.complete)
    assert chosen[1].params["lr_factor"] == 1 and chosen[1].params["strategy"] == "fine_tune"
    assert len({one.number for one in chosen}) == len(chosen) <= 7
    names = [run.folder for run in FinalStage(None, found.record, varied, ["data.val_as_test=true"], 4).runs(chosen)]
    assert [name.rpartition("-")[2] for name in names] == [seed for seed in "567" for _ in chosen]
