"""What runs say together, from their folders alone."""

import json
import re
import subprocess
from itertools import combinations

import numpy as np
import pytest
from conftest import rows
from PIL import Image
from written_runs import simulated, write_run

from thaw.comparison.comparison_page import table, write_comparison
from thaw.comparison.finished_runs import Run, find_runs
from thaw.pages.plots import accuracy_and_time
from thaw.runs.summary import write_summary


@pytest.fixture
def compared(tmp_path):
    """Compares candidates with the answers that are given for each, three seeds or as many as there are."""

    def go(**answers):
        for name, each in answers.items():
            for seed, right in enumerate(each):
                write_run(tmp_path / "sweep" / f"{seed}-{name}", right, name, seed)
        return write_comparison(tmp_path / "sweep", [run.folder for run in find_runs([tmp_path / "sweep"])])

    return go


def some(candidates=1, **regime):
    return simulated(np.random.default_rng(0), candidates, **regime)


def entry(facts, name):
    return next(one for one in facts["candidates"] if one["name"] == name)


def test_the_most_accurate_is_recommended_and_worse_ones_are_listed(compared):
    (good,) = some()
    facts = compared(good=good, shuffled=np.random.default_rng(1).random((3, 300)) < 0.5)
    assert [one["verdict"] for one in facts["candidates"]] == ["best", "worse"]
    assert facts["advice"][0].startswith("Use good: it classifies ")
    assert "better than shuffled by" in facts["advice"][1]
    (test,) = facts["tests"]
    assert (test["a"], test["b"], test["verdict"]) == ("good", "shuffled", "better")
    assert test["adjusted"] < 0.05


def test_two_names_of_one_strategy_are_tied_and_the_faster_one_is_named(tmp_path):
    (right,) = some()
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", right[seed], "slow", seed, seconds=60.0)
        write_run(tmp_path / f"b{seed}", right[seed], "quick", seed, seconds=20.0)
    facts = write_comparison(tmp_path, [run.folder for run in find_runs([tmp_path])])
    assert [one["verdict"] for one in facts["candidates"]] == ["best", "tied"]
    assert facts["advice"][1].startswith("On these images, it is not clearly better than quick (")
    assert "quick takes the least time: 20 s instead of 1 min 00 s." in facts["advice"][1]
    assert [one["pareto"] for one in facts["candidates"]] == [False, True]


def test_numbers_are_those_of_the_run_folders(compared):
    (right,) = some(images=10)
    facts = compared(bias=right)
    one = entry(facts, "bias")
    assert one["acc"] == pytest.approx(right.mean())
    assert one["acc_by_seed"] == pytest.approx(right.mean(1).tolist())
    assert one["acc_by_class"] == pytest.approx({"ant": right[:, ::2].mean(), "bee": right[:, 1::2].mean()})
    assert one["confusion"][0] == [right[:, ::2].sum(), (~right[:, ::2]).sum()]
    assert one["curves"]["val/acc"]["mean"] == pytest.approx([0.5, right.mean()])
    assert one["curves"]["val/acc"]["low"][1] == pytest.approx(right.mean(1).min())
    assert (one["seconds"], one["parameters"]["trainable"], facts["images"]) == (10.0, 100, 10)


def test_the_files_hold_the_same(compared, tmp_path):
    facts = compared(bias=some()[0], head=some()[0])
    assert json.loads((tmp_path / "sweep" / "comparison.json").read_text()) == json.loads(json.dumps(facts))
    table = rows(tmp_path / "sweep" / "comparison.csv")
    assert [row["name"] for row in table] == [one["name"] for one in facts["candidates"]]
    assert [float(row["acc"]) for row in table] == [one["acc"] for one in facts["candidates"]]
    page = (tmp_path / "sweep" / "report.html").read_text()
    assert all(f"{100 * one['acc']:.2f}&nbsp;%" in page for one in facts["candidates"])


def test_candidates_are_named_by_what_sets_them_apart(tmp_path):
    given = {
        "lp_ft strategy.lr=0.1": ["strategy=lp_ft", "strategy.lr=0.1"],
        "lp_ft strategy.lr=0.2": ["strategy=lp_ft", "strategy.lr=0.2"],
    }
    for number, overrides in enumerate(given.values()):
        write_run(tmp_path / str(number), [1, 0, 1], "lp_ft", overrides=["model=tiny", *overrides, "seed=0"])
    facts = write_comparison(tmp_path, [tmp_path / "0", tmp_path / "1"])
    assert {one["name"] for one in facts["candidates"]} == {"strategy.lr=0.1", "strategy.lr=0.2"}
    write_run(tmp_path / "2", [1, 0, 1], "bias", overrides=["model=tiny", "strategy=bias", "seed=0"])
    facts = write_comparison(tmp_path, [tmp_path / str(number) for number in range(3)])
    assert {one["name"] for one in facts["candidates"]} == {*given, "bias"}


def test_a_run_that_was_repeated_counts_once(tmp_path):
    first, again = (write_run(tmp_path / name, right) for name, right in (("a", [1, 0, 0]), ("b", [1, 1, 0])))
    facts = write_comparison(tmp_path, [first, again])
    assert entry(facts, "bias")["acc"] == pytest.approx(2 / 3)
    assert entry(facts, "bias")["seeds"] == [0]


def test_runs_on_other_images_are_left_out_by_name(tmp_path):
    runs = [write_run(tmp_path / str(seed), [1, 0, 1], seed=seed) for seed in range(2)]
    runs.append(write_run(tmp_path / "longer", [1, 0, 1, 1], "head"))
    runs.append(write_run(tmp_path / "altered", [1, 0, 1], "fine_tune", fingerprint={"train": "a", "val": "c"}))
    facts = write_comparison(tmp_path, runs)
    assert [one["name"] for one in facts["candidates"]] == ["bias"]
    assert facts["left_out"] == ["longer", "altered"]
    sentence = "Runs that were validated on other images are left out: longer and altered."
    assert sentence in facts["cautions"]
    assert table(facts).endswith(f"\n{sentence}")


def test_validation_images_that_are_also_in_training_limit_what_the_page_can_say(tmp_path):
    runs = [write_run(tmp_path / f"{seed}", [1, 0], seed=seed, copies_in_training={"val": 2 * seed}) for seed in (0, 1)]
    (sentence,) = [one for one in write_comparison(tmp_path, runs)["cautions"] if "in training" in one]
    assert sentence.startswith("2 validation images are also in training, byte for byte")


def write_folds(folder, right, name, seed, folds=5):
    """The same answers, from a run for each fold."""
    part = np.random.default_rng(0).permutation(len(right)) % folds
    for fold in range(folds):
        own = np.flatnonzero(part == fold)
        contents = {"train": "a", "val": f"fold {fold}"}
        write_run(
            folder / f"{fold}-{seed}-{name}", right[own], name, seed, fold=fold, numbers=own, fingerprint=contents
        )


def test_folds_are_one_candidate_that_answers_every_image_once(tmp_path):
    good, bad = some(2, images=60)
    for name, right in (("good", good), ("bad", bad)):
        for seed in range(3):
            write_run(tmp_path / "whole" / f"{seed}-{name}", right[seed], name, seed)
            write_folds(tmp_path / "folds", right[seed], name, seed)
    whole, folds = (
        write_comparison(tmp_path / name, [run.folder for run in find_runs([tmp_path / name])])
        for name in ("whole", "folds")
    )
    assert folds["images"] == 60
    assert folds["left_out"] == []
    for fact in ("name", "seeds", "acc", "acc_ci95", "acc_by_seed", "confusion", "verdict", "p", "acc_by_class"):
        assert [one[fact] for one in folds["candidates"]] == [one[fact] for one in whole["candidates"]], fact
    assert folds["tests"] == whole["tests"]
    assert folds["disagreements"] == whole["disagreements"]
    assert [len(one["runs"]) for one in folds["candidates"]] == [15, 15]


def test_a_seed_without_all_of_its_folds_is_left_out(tmp_path):
    (right,) = some(images=60)
    for seed in range(3):
        write_folds(tmp_path, right[seed], "bias", seed)
    (tmp_path / "3-1-bias" / "summary.json").write_text('{"status": "failed", "strategy": "bias"}')
    facts = write_comparison(tmp_path, [run.folder for run in find_runs([tmp_path])])
    assert entry(facts, "bias")["seeds"] == [0, 2]
    assert facts["left_out"] == ["0-1-bias", "1-1-bias", "2-1-bias", "4-1-bias"]


def test_failed_and_unfinished_runs_are_listed(compared, tmp_path):
    failed, cut = tmp_path / "sweep" / "7-bad", tmp_path / "sweep" / "8-cut"
    for folder in (failed, cut):
        (folder / ".hydra").mkdir(parents=True)
    write_summary(failed, {"status": "failed", "strategy": "bad", "error": "a <b>wrong</b> stage."})
    (failed / "traceback.txt").write_text("Traceback")
    write_summary(cut, {"status": "interrupted", "strategy": "cut", "error": "stopped by SIGTERM"})
    facts = compared(bias=some()[0])
    (failure,) = facts["failures"]
    assert (failure["folder"], failure["error"]) == ("7-bad", "a <b>wrong</b> stage.")
    assert facts["unfinished"] == ["8-cut"]
    page = (tmp_path / "sweep" / "report.html").read_text()
    assert "a &lt;b&gt;wrong&lt;/b&gt; stage." in page
    assert 'href="7-bad/traceback.txt"' in page


def test_where_nothing_finished_the_page_says_so(tmp_path):
    (tmp_path / "0" / ".hydra").mkdir(parents=True)
    write_summary(tmp_path / "0", {"status": "failed", "strategy": "bad", "error": "no."})
    facts = write_comparison(tmp_path, [tmp_path / "0"])
    assert facts["advice"] == ["No run has finished, so there is nothing to compare."]
    assert "No run has finished" in table(facts)
    assert "nothing to compare" in (tmp_path / "report.html").read_text()


def test_few_images_and_single_seeds_are_warned_of(compared):
    facts = compared(bias=some(seeds=1, images=153)[0])
    assert "each of the 153 changes an accuracy by 0.65\N{NO-BREAK SPACE}%" in facts["cautions"][0]
    assert any("One seed says nothing" in sentence for sentence in facts["cautions"])


def test_many_images_are_not_warned_of(compared):
    assert not any("small" in sentence for sentence in compared(bias=some(images=2000)[0])["cautions"])


def test_the_images_with_the_most_different_answers_are_shown(tmp_path):
    (tmp_path / "photos" / "val" / "bee").mkdir(parents=True)
    Image.new("RGB", (900, 600), "orange").save(tmp_path / "photos" / "val" / "bee" / "1.png")
    all_right, half = np.ones(6, bool), np.array([1, 0, 1, 0, 1, 1], bool)
    runs = [write_run(tmp_path / f"a{s}", all_right, "a", s, root=tmp_path / "photos") for s in range(2)]
    runs += [
        write_run(tmp_path / f"b{s}", [1, 0, 1, s, 1, 1] if s else half, "b", s, root=tmp_path / "photos")
        for s in range(2)
    ]
    facts = write_comparison(tmp_path, runs)
    assert [row["path"] for row in facts["disagreements"]] == ["val/bee/1.png", "val/bee/3.png"]
    assert facts["disagreements"][0]["answers"] == {"a": {"bee": 2}, "b": {"ant": 2}}
    assert facts["disagreements"][1]["answers"] == {"a": {"bee": 2}, "b": {"ant": 1, "bee": 1}}
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 1, "the other one is not there any more"


def test_the_page_is_the_same_each_time(compared, tmp_path):
    compared(bias=some()[0], head=some()[0])
    page = (tmp_path / "sweep" / "report.html").read_text()
    write_comparison(tmp_path / "sweep", [run.folder for run in find_runs([tmp_path / "sweep"])])
    assert (tmp_path / "sweep" / "report.html").read_text() == page


def test_commands_can_be_pasted_into_a_shell(tmp_path):
    given = ["strategy=bias", "seed=0", "strategy.phases=[{train: head}]", "data.root='/my photos'"]
    run = Run(write_run(tmp_path / "run", [1, 0], overrides=given))
    output = subprocess.run(
        ["bash", "-c", run.command.replace("python train.py", "printf '%s\\n'")], capture_output=True, text=True
    )
    assert output.stdout.splitlines() == given


def test_compare_makes_the_page_of_any_runs(tmp_path, script, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_run(tmp_path / "runs" / name, [1, 0, 1, 1], name)
    status, output, _ = script("compare", "runs")
    assert (status, "Use a" in output) == (0, True)
    assert (tmp_path / "runs" / "report.html").is_file()
    (tmp_path / "empty").mkdir()
    status, _, errors = script("compare", "empty", "--out", "page")
    assert status == 2
    assert errors.startswith("error: there is no run in empty")


def test_counts_and_ties_are_exact(compared, tmp_path):
    (right,) = some()
    page = tmp_path / "sweep" / "report.html"
    compared(alone=right)
    assert "1 candidate compared on 300 validation images" in page.read_text()
    assert "corrected for all" not in page.read_text()
    compared(twin=right)
    assert "2 candidates compared" in page.read_text() and "corrected for all" not in page.read_text()
    assert ">0 points, p = 1<" in page.read_text()
    nearly = right.copy()
    nearly[0, right[0].argmax()] = False
    compared(nearly=nearly)
    assert "corrected for all 3 pairs (Holm 1979)" in page.read_text()
    assert ">−0.1 points, p = 1<" in page.read_text()


@pytest.mark.parametrize("times", [[10.0], [4.1, 4.3, 4.2], [1.0, 900.0], [31.0, 32.0] * 4])
@pytest.mark.parametrize("accuracies", [(0.97, 0.97), (0.99991, 0.99992), (0.5, 1.0)])
def test_accuracy_and_time_has_numbers_at_both_axes(times, accuracies):
    entries = [
        {"name": f"candidate {place}", "seconds": seconds, "acc": accuracies[place % 2], "pareto": place == 0}
        for place, seconds in enumerate(times)
    ]
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", accuracy_and_time(entries))
    assert sum(text.endswith(" %") for text in drawn) >= 1
    assert sum(text.replace(".", "").isdecimal() for text in drawn) >= 2
    assert {entry["name"] for entry in entries} <= set(drawn)


def test_names_beside_points_cover_no_other():
    entries = [
        {"name": f"candidate {place}", "seconds": seconds, "acc": acc, "pareto": place == 0}
        for place, (seconds, acc) in enumerate([(10.0, 0.97), (10.1, 0.9702), (9.9, 0.9699), (30.0, 0.9), (2.0, 0.99)])
    ]
    drawn = re.findall(
        r'<text[^>]*text-anchor: (start|end);[^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>candidate', accuracy_and_time(entries)
    )
    near = [(side, float(y)) for side, _, y in drawn[:3]]
    assert len(drawn) == 5
    assert all(side != other or abs(y - above) > 9 for (side, y), (other, above) in combinations(near, 2))


def test_candidates_are_compared_on_test_images(tmp_path):
    right = some(2, images=100)
    metrics = {"macro_acc": 0.5, "macro_f1": 0.5, "loss": 0.6, "ece": 0.05}
    for name, each in zip(("a", "b"), right, strict=True):
        for seed, one in enumerate(each):
            acc = {"acc": float(one.mean()), **metrics}
            folder = write_run(tmp_path / f"{name}{seed}", one, name, seed, test=acc)
            (folder / "predictions.csv").rename(folder / "test_predictions.csv")
            (folder / "predictions.csv").write_text("path,label,predicted,confidence\n")
    facts = write_comparison(tmp_path, [run.folder for run in find_runs([tmp_path])], "test")
    assert {one["name"]: one["acc"] for one in facts["candidates"]} == pytest.approx(
        {name: each.mean() for name, each in zip(("a", "b"), right, strict=True)}
    )
    assert "of 100 test images correctly" in facts["advice"][0]
    assert table(facts).splitlines()[0].split()[0] == "test/acc"
    assert "compared on 100 test images" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("seeds", [1, 3])
def test_robustness_is_compared_with_a_paired_test(tmp_path, seeds):
    drawn = np.random.default_rng(0)
    (right,) = some(images=200, seeds=seeds)
    shares = {"robust": 0.9, "equal": 0.9, "fragile": 0.6}
    for name, share in shares.items():
        for seed in range(seeds):
            folder = write_run(tmp_path / f"{name}{seed}", right[seed], name, seed)
            corrupted = (drawn.random((200, 12)) < share).astype(int)
            lines = [f"val/x/{n}.png,{','.join(map(str, row))}" for n, row in enumerate(corrupted)]
            columns = ",".join(f"blur {n}" for n in range(12))
            (folder / "corrupted_predictions.csv").write_text("\n".join([f"path,{columns}", *lines]) + "\n")
    facts = write_comparison(tmp_path, [run.folder for run in find_runs([tmp_path])])
    found = {one["name"]: one["robustness"] for one in facts["candidates"]}
    assert sorted(one["verdict"] for one in found.values()) == ["best", "tied", "worse"]
    assert found["fragile"]["verdict"] == "worse" and found["fragile"]["p"] < 0.001
    assert found["fragile"]["acc"] == pytest.approx(0.6, abs=0.03)
    assert ">corrupted</th>" in (tmp_path / "report.html").read_text()
    (tmp_path / "fragile0" / "corrupted_predictions.csv").unlink()
    facts = write_comparison(tmp_path, [run.folder for run in find_runs([tmp_path])])
    assert entry(facts, "fragile")["robustness"] is None and entry(facts, "robust")["robustness"]
