"""A search keeps to its time, drops what is hopeless first, and does not depend on how many processes share it."""

import json
import os
import random
import signal
import subprocess
import sys
import zlib
from collections import Counter
from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
from conftest import ROOT
from simulated_search import Clock, LastRuns, Runs, search, space

from thaw.sweep.search.final_stage import FinalStage, finalists
from thaw.sweep.search.search_loop import best_trial
from thaw.sweep.search.trial_record import TrialRecord

TOP = {"good": 0.9, "other": 0.88, "decoy": 0.6}


def curve(trial, repetition):
    """A learning curve that depends on nothing but the trial's parameters."""
    drawn = np.random.default_rng(zlib.crc32(repr(sorted(trial.params.items())).encode()) + repetition)
    tuned = 0.05 * (trial.params["strategy"] == "fine_tune")
    tuned -= 0.05 * abs(np.log10(trial.params.get("lr_factor", 1) / 2))
    noise = drawn.normal(0, 0.01, 20)
    rise = 0.3 * np.exp(-np.arange(1, 21) * drawn.uniform(0.3, 1))
    return (TOP[trial.params["backbone"]] + tuned - rise + noise).clip(0, 1).tolist()


def states(trials):
    return [(trial.number, trial.state.name, trial.params, trial.curves, trial.reason) for trial in trials]


def test_probes_of_all_backbones_come_first_and_a_hopeless_one_is_never_tried_again(tmp_path):
    one = search(tmp_path, Runs(Clock(), curve), space(("good", "decoy", "other")), most=30)
    one.search()
    trials = one.record.trials()
    assert [trial.params["strategy"] for trial in trials[:3]] == ["probe"] * 3
    assert [trial.params["backbone"] for trial in trials].count("decoy") == 1
    (dropped,) = one.proposals.dropped(trials).items()
    assert dropped[0] == "decoy" and dropped[1]["p"] < 0.001 and dropped[1]["difference"] < -0.2


def test_the_strategies_defaults_follow_the_probes(tmp_path):
    one = search(tmp_path, Runs(Clock(), curve), space(), most=6)
    one.search()
    tried = [(trial.params["strategy"], trial.params["backbone"]) for trial in one.record.trials()[2:]]
    assert Counter(tried) == Counter((s, n) for s in ("feature_extractor", "fine_tune") for n in ("good", "other"))
    assert all(trial.params["lr_factor"] == 1 for trial in one.record.trials()[2:])


def test_trials_run_with_the_values_that_were_proposed(tmp_path):
    one = search(tmp_path, Runs(Clock(), curve), space(), most=25)
    one.search()
    for trial in one.record.trials():
        values = {"lr_factor": 1.0, "scheduler": "step_lr"} | dict(text.split("=") for text in trial.overrides)
        for key in trial.params.keys() - {"backbone"}:
            assert str(trial.params[key]) == str(values[key]) or float(trial.params[key]) == float(values[key])
    tried = {tuple(trial.overrides) for trial in one.record.trials()}
    assert len(tried) == 25, "no run twice"
    assert any("scheduler=cosine" in overrides for overrides in tried)


def test_proposals_are_better_than_the_defaults(tmp_path):
    one = search(tmp_path, Runs(Clock(), curve), space(), most=40)
    one.search()
    trials = one.record.trials()
    assert best_trial(trials).accuracy > best_trial(trials[:6]).accuracy + 0.005
    assert 1 < best_trial(trials).params["lr_factor"] < 4, "2 is best"


@pytest.mark.parametrize("seed", range(20))
def test_a_search_ends_within_its_budget(tmp_path, seed):
    """Trials take 20 to 300 s, runs of the last stage about as long."""
    drawn = np.random.default_rng(seed)
    seconds = float(drawn.choice([300, 900]))
    clock = Clock()
    epoch = float(drawn.uniform(2, 15 if seconds == 300 else 30))
    runs = Runs(clock, curve, lambda trial: epoch * float(drawn.gamma(4, 0.25)), start=float(drawn.uniform(1, 10)))
    one = search(tmp_path, runs, space(), seconds, seed=seed)
    last = LastRuns(clock, lambda: float(drawn.uniform(0.5, 1.2)) * 10 * epoch)
    stage = FinalStage(last, one.record, one.proposals.space, ["data.val_as_test=true"], 0, clock.sleep)
    one = replace(one, reserve=lambda trials: stage.reserve(trials, seconds))
    one.search()
    searched = one.budget.used()
    stage.run(one.budget, lambda run, result: None)
    assert one.budget.used() <= seconds + 30
    assert searched >= 0.3 * seconds, "the last stage does not take all the time"
    trials = one.record.trials()
    assert best_trial(trials) and stage.winner().number in [
        trial.number for trial in finalists(trials, one.proposals.space)
    ]
    if seconds == 900:
        assert [job.name for job in last.jobs.values() if job.finished], "the winner is measured on unseen images"


def test_a_larger_budget_continues_what_the_smaller_one_left_open(tmp_path):
    first = search(tmp_path, Runs(Clock(), curve), space(), seconds=60)
    first.search()
    before = first.record.trials()
    assert 3 < len(before) < 15
    clock = Clock(2e9)
    second = search(tmp_path, Runs(clock, curve), space(), seconds=600, most=12)
    assert second.budget.used() == pytest.approx(first.budget.used(), abs=1), "time between the two does not count"
    second.search()
    after = second.record.trials()
    assert states(after)[: len(before) - 1] == states(before)[:-1]
    assert len(after) == 12 and not any(trial.open for trial in after)


def test_two_processes_try_what_one_process_tries(tmp_path):
    one = search(tmp_path / "one", Runs(Clock(), curve), space(("good", "other", "decoy")), most=25)
    one.search()
    both = [search(tmp_path / "two", Runs(Clock(), curve), space(("good", "other", "decoy")), most=25) for _ in "ab"]
    threads = [Thread(target=part.search) for part in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states(both[0].record.trials()) == states(one.record.trials())
    ran = [number for part in both for number, _ in part.runner.ran]
    assert sorted(ran) == list(range(25)), "each trial once"


def test_a_repeated_trial_ends_when_it_is_worse_on_the_same_seeds(tmp_path):
    seeds = [[f"seed={seed}"] for seed in range(6)]
    one = search(tmp_path, Runs(Clock(), curve), space(instances=seeds), most=20)
    one.search()
    trials = one.record.trials()
    best = best_trial(trials)
    assert len(best.curves) == 6
    assert best.accuracy == pytest.approx(np.mean([max(curve)[0] for curve in best.curves]))
    assert any(1 < len(trial.curves) < 6 for trial in trials), "ended between two seeds"


def test_a_failing_run_fails_its_trial_only(tmp_path):
    def failing(trial, repetition):
        if trial.params["strategy"] == "feature_extractor":
            raise AssertionError
        return curve(trial, repetition)

    class Failing(Runs):
        def run(self, trial, repetition, watch):
            from thaw.sweep.search.search_loop import RunResult

            try:
                return super().run(trial, repetition, watch)
            except AssertionError:
                return RunResult(error="it broke")

    one = search(tmp_path, Failing(Clock(), failing), space(), most=10)
    one.search()
    trials = one.record.trials()
    assert {t.reason for t in trials if t.params["strategy"] == "feature_extractor"} == {"it broke"}
    assert best_trial(trials).params["strategy"] == "fine_tune"


def test_a_search_ends_when_nothing_new_is_left_to_try(tmp_path):
    one = search(tmp_path, Runs(Clock(), curve), replace(space(strategies=("probe",)), dimensions=[]))
    one.search()
    assert [trial.reason for trial in one.record.trials()] == [None, None, "nothing new is left to try"]


PROCESS = """
import sys, time
sys.path.insert(0, {tests!r})
from simulated_search import Clock, LastRuns, Runs, search, space
from sweep.test_search_loop import curve

class Slow(Runs):
    def run(self, trial, repetition, watch):
        with open({folder!r} + "/ran", "a") as file:
            file.write(f"{{trial.number}}\\n")
        time.sleep(0.02)
        result = super().run(trial, repetition, watch)
        with open({folder!r} + "/done", "a") as file:
            file.write(f"{{trial.number}}\\n")
        return result

from pathlib import Path
one = search(Path({folder!r}), Slow(Clock(time.time()), curve), space(), most=60)
one.search()
"""


@pytest.mark.slow
def test_no_finished_trial_is_lost_or_repeated_when_the_process_is_killed_at_any_moment(tmp_path):
    code = PROCESS.format(tests=str(ROOT / "tests"), folder=str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT / "tests")))}
    drawn = random.Random(0)
    killed, before = 0, []
    while True:
        process = subprocess.Popen([sys.executable, "-c", code], env=environment)
        try:
            process.wait(timeout=drawn.uniform(1.5, 3.5) if killed < 20 else 120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        finished = [trial for trial in TrialRecord(tmp_path).trials() if not trial.open]
        now = {trial.number: json.dumps(trial.curves) for trial in finished}
        assert all(now.get(number) == curves for number, curves in before), "a finished trial is kept as it was"
        before = list(now.items())
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert len(before) == 60
    done = Counter((tmp_path / "done").read_text().split())
    assert set(done) == {str(number) for number in range(60)}
    # Only a run that ended in the instant between its end and its record can run again.
    assert sum(count - 1 for count in done.values()) <= 2
    expected = search(tmp_path / "once", Runs(Clock(), curve), space(), most=60)
    expected.search()
    assert states(TrialRecord(tmp_path).trials()) == states(expected.record.trials())
