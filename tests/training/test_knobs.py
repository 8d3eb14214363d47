"""Parts of the recipe that are off by default."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import rows
from nets import tiny_net
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from thaw.data.datamodule import image_folders
from thaw.errors import UserError
from thaw.training.averaging import ExponentialAverage
from thaw.training.classifier import ImageClassifier, Recipe
from thaw.training.interruption import RunTimer
from thaw.training.rate_finder import steepest
from thaw.training.schedules import OneCycle, WarmupCosine
from train import main


def rates(schedule, steps, *initial):
    optimizer = SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in initial])
    scheduler, seen = schedule(optimizer, steps), []
    for _ in range(steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen


def test_cosine_rises_in_a_line_and_falls_to_nothing_keeping_the_ratio_of_the_rates():
    seen = rates(WarmupCosine(0.2), 20, 1.0, 0.1)
    warm = [0.2, 0.4, 0.6, 0.8]
    falling = [(1 + math.cos(math.pi * step / 16)) / 2 for step in range(16)]
    assert [first for first, _ in seen] == pytest.approx([*warm, *falling])
    assert [second for _, second in seen] == pytest.approx([0.1 * rate for rate in [*warm, *falling]])


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_cosine_has_a_rate_for_phases_of_any_length(steps):
    assert all(rate > 0 for (rate,) in rates(WarmupCosine(0.5), steps, 1.0))
    assert len(rates(OneCycle(), steps, 1.0)) == steps


def test_every_phase_has_a_cosine_of_its_own(tiny_run, tmp_path, without_pictures):
    phases = "strategy.phases=[{train: head, epochs: 2}, {train: all}]"
    main(tiny_run("scheduler=cosine", "scheduler.warmup=0", phases, "strategy.lr=0.1", "trainer.max_epochs=4"))
    assert [float(row["lr"]) for row in rows(tmp_path / "run/metrics.csv")] == pytest.approx([0.1, 0.05, 0.1, 0.05])


def classifier(**options):
    net = tiny_net(3)
    with torch.no_grad():
        net.fc.weight.mul_(5)
    made = ImageClassifier(net.eval(), ["a", "b", "c"], Recipe(SGD, StepLR, **options))
    made.logged = {}
    made.log = lambda name, value, **_: made.logged.__setitem__(name, value.compute())
    made.log_dict = lambda values: None
    made._weighted = lambda loss, images: loss
    return made


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return images, torch.tensor([0, 1, 2, 2, 2, 2])


def test_smoothing_and_weights_are_in_the_training_loss_alone(batch):
    from functools import partial

    weights = torch.tensor([2.0, 2.0, 0.5])
    made = classifier(loss=partial(F.cross_entropy, label_smoothing=0.2), class_weights=weights)
    logits = made(batch[0])
    expected = F.cross_entropy(logits, batch[1], weight=weights, label_smoothing=0.2)
    assert made.training_step(batch, 0).item() == pytest.approx(expected.item())
    made.validation_step(batch, 0)
    assert made.logged["val/loss"].item() == pytest.approx(F.cross_entropy(logits, batch[1]).item())
    assert not [key for key in made.state_dict() if "weights" in key], "a checkpoint holds the net alone"


@pytest.mark.parametrize("mix", ["mixup", "cutmix", "mixup_cutmix"])
def test_mixing_blends_images_as_it_blends_labels(configure, batch, mix):
    from hydra.utils import instantiate

    seen = {}
    mixer = instantiate(configure(f"mix={mix}").mix, num_classes=3)

    def recorded(images, labels):
        seen["images"], seen["shares"] = mixer(images, labels)
        return seen["images"], seen["shares"]

    made = classifier(mix=recorded)
    torch.manual_seed(1)
    loss = made.training_step(batch, 0)
    images, labels = batch[0].float(), F.one_hot(batch[1], 3).float()
    share = (seen["shares"] - labels.roll(1, 0))[0] / (labels - labels.roll(1, 0))[0]
    share = share[share.isfinite()][0]
    assert torch.allclose(seen["shares"], share * labels + (1 - share) * labels.roll(1, 0), atol=1e-5)
    kept = (seen["images"] == images).float().mean()
    if mix == "mixup":
        assert torch.allclose(seen["images"], share * images + (1 - share) * images.roll(1, 0), atol=1e-2)
    elif mix == "cutmix":
        assert kept.item() == pytest.approx(share.item(), abs=0.02)
    assert loss.item() == pytest.approx(F.cross_entropy(made(seen["images"]), seen["shares"]).item(), rel=1e-5)


@pytest.fixture
def unequal(image_folder):
    root = image_folder(train=8)
    for number in range(2, 8):
        (root / "train" / "bees" / f"{number}.png").unlink()
    return root


def test_class_weights_are_inverse_to_the_number_of_images(unequal):
    weights = image_folders(unequal, image_size=16, balance="weights").class_weights
    assert weights.tolist() == pytest.approx([10 / (2 * 8), 10 / (2 * 2)])
    assert image_folders(unequal, image_size=16).class_weights is None


def test_the_sampler_draws_rare_classes_as_often_as_others_and_augments_each_draw_anew(unequal):
    data = image_folders(unequal, image_size=16, balance="sampler", batch_size=2)
    order = data.train_dataloader().sampler
    labels, draws = [], []
    for epoch in range(200):
        order.set_epoch(epoch)
        draws += list(order)
        labels += [data.train.targets[index] for index, _ in order]
    assert sum(labels) / len(labels) == pytest.approx(0.5, abs=0.04)
    assert len(set(draws)) == len(draws)
    order.set_epoch(7)
    assert list(order) == list(order), "an epoch is the same again"


def test_an_unknown_balance_is_refused_with_the_choices(unequal):
    with pytest.raises(UserError, match=r"data\.balance='yes' is unknown; the choices are null, weights, sampler"):
        image_folders(unequal, balance="yes")


@pytest.mark.slow
def test_a_run_with_every_knob_turned_ends_well(tiny_run, tmp_path, without_pictures):
    knobs = ["optimizer=adamw", "scheduler=cosine", "loss.label_smoothing=0.1", "mix=mixup", "data.balance=weights"]
    main(tiny_run("strategy=lp_ft", *knobs, "callbacks=[default,ema,find_lr]", "trainer.max_epochs=4"))
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "finished"
    drawn = sorted(path.name for path in (tmp_path / "run/figures").glob("learning*"))
    assert drawn == ["learning_rate_2.png"], "the first phase is solved and has no rate"


def test_averaged_weights_are_what_is_validated_and_kept(tiny_run, tmp_path, without_pictures):
    """With an average that never moves, nothing is learned, however high the rate."""
    main(
        tiny_run(
            "strategy=fine_tune",
            "callbacks=[default,ema]",
            "callbacks.ema.decay=1",
            "strategy.lr=0.5",
            "trainer.precision=32-true",
        )
    )
    losses = {row["val/loss"] for row in rows(tmp_path / "run/metrics.csv")}
    assert len(losses) == 1
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["val"]["loss"] == pytest.approx(float(losses.pop()), rel=1e-5)


@pytest.mark.parametrize(("phase", "count"), [(1, 5), (2, 0)])
@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback")
def test_a_new_phase_of_a_resumed_run_begins_a_new_average(phase, count):
    averaged, current = {"weight": torch.ones(1)}, {"weight": torch.zeros(1)}
    checkpoint = {"phase": 1, "state_dict": averaged, "current_model_state": current}
    checkpoint["averaging_state"] = {"n_averaged": torch.tensor(5)}
    module = SimpleNamespace(phase=SimpleNamespace(number=phase))
    ExponentialAverage(0.9).on_load_checkpoint(None, module, checkpoint)
    assert checkpoint["averaging_state"]["n_averaged"] == count
    assert checkpoint["current_model_state"] is (current if phase == 1 else averaged)


@pytest.mark.slow
def test_the_search_for_a_rate_leaves_the_run_as_it_is(tiny_run, tmp_path, without_pictures):
    def epochs(folder):
        return [{**row, "seconds": ""} for row in rows(tmp_path / folder / "metrics.csv")]

    main(tiny_run("strategy=fine_tune", "+model.dropout=0.2"))
    found = ["callbacks=[default,find_lr]", "callbacks.find_lr.steps=20", "+model.dropout=0.2"]
    main(tiny_run("strategy=fine_tune", *found, root=tmp_path / "photos", folder="found"))
    assert epochs("run") == epochs("found")


def test_early_stopping_ends_the_run_and_keeps_the_best(tiny_run, tmp_path, without_pictures):
    stop = ["callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=2", "trainer.max_epochs=30"]
    phases = "strategy.phases=[{train: head, epochs: 20}, {train: all}]"
    main(tiny_run(*stop, phases, "strategy.lr=1e-30"))  # which moves no loss
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["status"], summary["epochs"], summary["best_epoch"]) == ("finished", 3, 1)


@pytest.mark.slow
def test_the_limit_of_time_holds_for_all_phases_together(tiny_run, tmp_path, without_pictures):
    phases = "strategy.phases=[{train: head, epochs: 2}, {train: all}]"
    main(tiny_run("trainer.max_time=00:00:00:01", phases, "trainer.max_epochs=5000"))
    assert 2 < json.loads((tmp_path / "run/summary.json").read_text())["epochs"] < 200

    timer = RunTimer("00:00:10:00")
    timer.on_train_start(None, None)
    started = timer.start_time()
    timer.on_train_end(None, None)
    timer.on_train_start(None, None)
    assert timer.start_time() == started
    assert timer.end_time() is None


@pytest.mark.parametrize(
    ("duration", "told"), [("1h", "must be days:hours:minutes:seconds"), ("00:00:00:00", "leaves no time")]
)
def test_a_limit_of_time_that_is_none_is_refused(duration, told):
    with pytest.raises(UserError, match=rf"trainer\.max_time='{duration}' {told}"):
        RunTimer(duration)


def test_the_proposed_rate_is_where_the_loss_falls_most_steeply():
    rates = torch.logspace(-6, 0, 61).tolist()
    noise = torch.randn(61, generator=torch.Generator().manual_seed(0)) * 0.02
    falling = 1 - torch.sigmoid(torch.linspace(-6, 0, 61).add(3).mul(4)) + noise
    assert 4e-4 < steepest(rates, falling.tolist()) < 2.5e-3
    assert steepest(rates, rates) is None
    assert steepest(rates[:1], [1.0]) is None
