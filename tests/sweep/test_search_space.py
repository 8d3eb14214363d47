"""The space, the budget and the early ends of a search, as a command line describes them."""

import json
import math
import random
import time

import numpy as np
import pytest
from conftest import ROOT
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import open_dict
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from simulated_search import Clock

from thaw.errors import UserError
from thaw.sweep.search.proposals import LAG
from thaw.sweep.search.rungs import KEPT, RUNGS, clearly_worse, falls_behind
from thaw.sweep.search.search_setup import plan_search
from thaw.sweep.search.search_space import dimension, parsed
from thaw.sweep.search.time_budget import TimeBudget, process_start, seconds_of


def of(text):
    (override,) = parsed([text])
    return dimension(override)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("strategy.lr=tag(log,interval(0.001,0.1))", FloatDistribution(0.001, 0.1, log=True)),
        ("strategy.lr_decay=interval(0.5,1)", FloatDistribution(0.5, 1)),
        ("trainer.max_epochs=int(interval(2,20))", IntDistribution(2, 20)),
        ("data.augment=true,false", CategoricalDistribution(["true", "false"])),
        ("data.crop_scale=[0.08,1],[0.5,1]", CategoricalDistribution(["[0.08,1]", "[0.5,1]"])),
        ("data.rotation=range(0,45,15)", CategoricalDistribution([0, 15, 30])),
        ("mix=choice(mixup,cutmix)", CategoricalDistribution(["mixup", "cutmix"])),
    ],
)
def test_hydras_sweep_syntax_describes_what_is_varied(text, kind):
    assert of(text).distribution == kind


def test_a_dimension_writes_overrides_that_hydra_reads_back():
    drawn = of("strategy.lr=tag(log,interval(0.001,0.1))").override(0.0123456)
    assert drawn == "strategy.lr=0.0123"
    assert of("strategy.lr=tag(log,interval(0.001,0.1))").rounded(0.0123456) == 0.0123
    assert of("strategy.lr=interval(0.00123456,0.1)").rounded(0.00123457) == 0.00123457, "0.00123 lies outside"
    assert of("data.augment=true,false").rounded("true") == "true"
    assert parsed([of("data.crop_scale=[0.08,1],[0.5,1]").override("[0.5,1]")])[0].value() == [0.5, 1]


def test_configured_values_are_found_in_a_dimension():
    assert of("data.augment=true,false").value_of(True) == "true"
    assert of("loss.label_smoothing=0.0,0.1").value_of(0.0) == "0.0"
    assert of("strategy.lr=interval(0.1,1)").value_of(0.5) == 0.5
    assert of("strategy.lr=interval(0.1,1)").value_of(5) is None
    assert of("scheduler=step_lr,cosine").value_of("step_lr") == "step_lr"
    assert of("data.augment=true,false").value_of("auto") is None


@pytest.mark.parametrize("text", ["a=glob(*)", "a=interval(2,1)", "a=tag(log,interval(0,1))"])
def test_what_cannot_be_searched_is_refused(text):
    with pytest.raises(UserError, match=r"^a="):
        of(text)


@pytest.fixture
def plan():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()

    def go(*arguments, **changes):
        plain = [one for one in arguments if not parsed([one])[0].is_sweep_override()]
        cfg = loader.load_configuration("train", overrides=["sweep=search", *plain], run_mode=RunMode.MULTIRUN)
        with open_dict(cfg):
            cfg.update(changes)
        return plan_search(cfg, ["sweep=search", *arguments], loader.get_group_options("model"))

    return go


NETS = "backbones=[resnet18,{model:vgg11,weights:none}]"


def test_the_command_line_replaces_fixes_and_adds_options(plan):
    made = plan(NETS, "budget=5min", "trials=7", "trainer.max_epochs=3", "data.rotation=0,15", "data.root=photos")
    assert made.space.backbones == {
        "resnet18": ["model=resnet18", "weights=imagenet"],
        "vgg11 weights=none": ["model=vgg11", "weights=none"],
    }
    assert made.fixed == ["trainer.max_epochs=3", "data.root=photos"]
    keys = [one.key for one in made.space.dimensions]
    assert "data.rotation" in keys and "trainer.max_epochs" not in keys and "lr_factor" in keys
    assert (made.budget, made.trials, made.workers, made.seed) == (300, 7, 1, 0)
    assert made.space.instances == [[]]
    assert made.space.strategies[0] == "probe"


def test_seeds_and_folds_repeat_trials_instead_of_being_chosen(plan):
    made = plan(NETS, "seed=3,4", "data.folds=5", "data.fold=range(2)")
    assert made.space.instances == [[f"seed={s}", f"data.fold={f}"] for s in (3, 4) for f in (0, 1)]
    assert made.seed == 4
    assert not {"seed", "data.fold"} & {one.key for one in made.space.dimensions}


def test_a_model_and_a_strategy_can_be_fixed_or_listed(plan):
    one = plan("model=resnet50", "strategy=lp_ft").space
    assert (one.backbones, one.strategies) == ({"resnet50": []}, ["lp_ft"])
    several = plan("model=resnet50,resnet18", "strategy=lp_ft,bias").space
    assert list(several.backbones) == ["resnet50", "resnet18"]
    assert several.strategies == ["lp_ft", "bias"]
    with pytest.raises(UserError, match="both choose networks"):
        plan("model=resnet50", NETS)


@pytest.mark.parametrize(
    "wrong", ["budget=0s", "budget=soon", "budget=30", "trials=0", "sweep.workers=0", "sweep.workers=5000", "seed=0,x"]
)
def test_wrong_extents_are_refused(plan, wrong):
    with pytest.raises(UserError, match=f"^{wrong.partition('=')[0]}="):
        plan(NETS, wrong)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30min", 1800), ("2h", 7200), ("1.5h", 5400), ("1h30min", 5400), ("1 h", 3600)]
)
def test_budgets_are_durations(text, seconds):
    assert seconds_of(text) == seconds


def test_time_counts_once_however_many_processes_use_it(tmp_path):
    clock = Clock(1000.0)
    first, second = (TimeBudget(tmp_path, 100, clock) for _ in "ab")
    clock.sleep(10)
    first.tick()
    clock.sleep(5)
    second.tick()
    assert first.used() == pytest.approx(15)
    clock.now = 5000.0  # both were killed long ago
    third = TimeBudget(tmp_path, 100, clock)
    clock.sleep(20)
    assert third.left() == pytest.approx(65)


def rising(top, epochs=10):
    return [(top - 0.3 * math.exp(-0.5 * epoch), 1.0) for epoch in range(1, epochs + 1)]


def test_a_trial_ends_at_the_first_rung_that_too_many_others_pass():
    others = [(rising(top), 10) for top in (0.9, 0.92, 0.94, 0.96, 0.98)]
    assert falls_behind(rising(0.8)[:1], 10, others) == 1
    assert falls_behind(rising(0.99), 10, others) is None
    assert falls_behind(rising(0.8), 10, others[:2]) is None, "too few to compare with"
    assert falls_behind([], 10, others) is None
    late = [*rising(0.99)[:1], *[(0.1, 1.0)] * 9]
    assert falls_behind(late, 10, others) in (3, 6)


def test_equal_accuracies_are_ranked_by_their_losses():
    others = [([(0.9, 0.1)] * 10, 10)] * 5
    assert falls_behind([(0.9, 0.2)], 10, others) == 1
    assert falls_behind([(0.9, 0.05)], 10, others) is None


def test_trials_of_different_lengths_are_compared_at_equal_shares():
    others = [(rising(0.9, 20), 20)] * 5
    assert falls_behind(rising(0.9, 20)[1:2], 10, others) is None, "one of 10 epochs beside two of 20"


def test_the_time_before_the_budget_is_made_counts(tmp_path):
    clock = Clock(1000.0)
    assert TimeBudget(tmp_path, 100, clock, start=990.0).used() == pytest.approx(10)
    assert 0 < time.time() - process_start() < 3600


def test_wilcoxons_test_ends_a_trial_that_is_worse_on_the_same_seeds():
    best = [0.9, 0.91, 0.92, 0.93, 0.94]
    assert clearly_worse([0.85, 0.86, 0.87, 0.88], best)
    assert not clearly_worse([0.85], best)
    assert not clearly_worse([0.95, 0.86, 0.93, 0.93], best)
    assert not clearly_worse(best, best)


def test_half_of_the_epochs_are_saved_and_the_winner_stays():
    """The curves are those of runs on 195 photographs of ants and bees, validated on 49 others."""
    recorded = json.loads((ROOT / "tests" / "sweep" / "learning_curves.json").read_text())
    curves = [[tuple(epoch) for epoch in curve] for curve in recorded]
    best = max(curves, key=lambda curve: max((acc, -loss) for acc, loss in curve))
    saved = []
    for seed in range(10):
        done, ran, full, kept = [], 0, 0, []
        for number, curve in enumerate(random.Random(seed).sample(curves, len(curves))):
            ended = falls_behind(curve, len(curve), done[: max(0, number - LAG + 1)])
            done.append((curve[:ended], len(curve)))
            ran, full = ran + len(curve[:ended]), full + len(curve)
            kept += [] if ended else [curve]
        assert best in kept
        saved.append(1 - ran / full)
    assert np.mean(saved) >= 0.5, (RUNGS, KEPT)
