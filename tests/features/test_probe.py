"""The solved head is the optimum, its penalty is chosen inside the training images, and it is a run like any other."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import rows
from hydra.utils import instantiate
from PIL import Image
from scipy.optimize import minimize

from thaw.errors import UserError
from thaw.features import linear_objective, linear_solver
from thaw.features.linear_objective import FeatureRows, LinearLoss, PrincipalAxes
from thaw.features.linear_solver import LogisticProbe
from thaw.features.store import StoredFeatures
from thaw.models.backbones import build_net
from thaw.storage.checkpoints import read_checkpoint
from train import main

CPU = torch.device("cpu")


def clouds(images=60, width=8, classes=3, views=1, seed=0):
    """Features of overlapping classes, on an odd scale and far from zero: (views of stored features, labels)."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    centres = random.normal(size=(classes, width))
    drawn = [7 + 0.3 * (centres[labels] + 1.5 * random.normal(size=(images, width))) for _ in range(views)]
    return [StoredFeatures(torch.from_numpy(view.astype(np.float32))) for view in drawn], labels.tolist()


def table(views, labels, classes=3):
    return FeatureRows(views, labels, classes, CPU)


def whole(views):
    return torch.cat([view[0 : len(view)] for view in views]).double()


def gradient(x, labels, solution, weights):
    """Of the objective as it is written in the docstring, by autograd, as a share of that at zero."""
    z = x - x.mean(0)
    norm = z.square().sum(1).mean().sqrt()

    def at(weight, bias):
        weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        losses = F.cross_entropy(x @ (weight / norm).T + bias, labels, reduction="none")
        ((losses * weights).sum() / weights.sum() + solution.penalty / 2 * weight.square().sum()).backward()
        by_bias, by_weight = bias.grad, weight.grad - torch.outer(bias.grad, x.mean(0) / norm)
        return torch.cat([by_weight.flatten(), by_bias]).norm().item()

    zero = torch.zeros_like(solution.weight)
    return at(solution.weight * norm, solution.bias) / at(zero, torch.zeros_like(solution.bias))


@pytest.mark.parametrize(("images", "width"), [(60, 8), (24, 40)], ids=["more images", "more features"])
def test_the_gradient_is_zero_where_the_solver_stops(images, width):
    views, labels = clouds(images, width)
    weights = torch.tensor([1.0, 2.0, 0.5])
    solution = LogisticProbe().solve(table(views, labels), class_weights=weights)
    assert solution.gradient <= 1e-6
    assert gradient(whole(views), torch.tensor(labels), solution, weights[labels].double()) < 1e-6


def test_the_solution_is_that_of_another_optimizer():
    views, labels = clouds()
    x, y = whole(views), torch.tensor(labels)
    solution = LogisticProbe(penalties=[0.01]).solve(table(views, labels))
    z = (x - x.mean(0)) / (x - x.mean(0)).square().sum(1).mean().sqrt()

    def value(flat):
        parameters = torch.tensor(flat).view(3, 9).requires_grad_()
        loss = F.cross_entropy(z @ parameters[:, :-1].T + parameters[:, -1], y)
        loss = loss + 0.005 * parameters[:, :-1].square().sum()
        loss.backward()
        return loss.item(), parameters.grad.flatten().numpy()

    other = minimize(value, np.zeros(27), jac=True, method="BFGS", options={"gtol": 1e-10})
    assert solution.loss == pytest.approx(other.fun, abs=1e-10)
    found = torch.tensor(other.x).view(3, 9)
    probabilities = (z @ found[:, :-1].T + found[:, -1]).softmax(1)
    assert torch.allclose((x @ solution.weight.T + solution.bias).softmax(1), probabilities, atol=1e-5)


def test_an_image_that_counts_twice_is_as_good_as_two():
    views, labels = clouds(30)
    first = [place for place, label in enumerate(labels) if label == 0]
    twice = [StoredFeatures(torch.cat([view[0:30], view[first]])) for view in views]
    x, axes = table(views, labels), PrincipalAxes(table(views, labels))
    doubled = table(twice, labels + [0] * len(first))
    parameters = torch.randn(9, 3, dtype=torch.float64)
    weighted = LinearLoss(x, axes, torch.tensor([2.0, 1.0, 1.0])[x.labels], 0.1, torch.float64)
    plain = LinearLoss(doubled, axes, torch.ones(len(doubled)), 0.1, torch.float64)
    assert weighted(parameters)[0] == pytest.approx(plain(parameters)[0])
    assert torch.allclose(weighted(parameters)[1], plain(parameters)[1])


def test_features_that_do_not_fit_in_memory_are_read_in_chunks_to_the_same_end(monkeypatch):
    views, labels = clouds(views=2)
    probe = LogisticProbe(penalties=[0.1, 0.01])
    kept = probe.solve(table(views, labels))
    monkeypatch.setattr(linear_objective, "_free_memory", lambda device: 0)
    monkeypatch.setattr(linear_objective, "_CHUNK", 8 * 7)
    streamed = table(views, labels)
    assert len(list(streamed.chunks())) == 2 * 9 and streamed._kept is None
    solution = probe.solve(streamed)
    assert solution.penalty == kept.penalty and torch.allclose(solution.weight, kept.weight, atol=1e-5)


@pytest.mark.parametrize(
    ("penalties", "told"),
    [
        (
            [1e-3, 1e-4],
            "0.001 is the largest one tried, and the held-out loss still falls there: add",
        ),
        ([100.0, 10.0], "10 is the smallest one tried, and"),
        ([1e-7], None),
        (None, None),
    ],
)
def test_a_penalty_at_an_end_of_those_that_were_tried_is_told(penalties, told):
    views, labels = clouds()
    solution = LogisticProbe(penalties=penalties).solve(table(views, labels))
    assert solution.note is None if told is None else solution.note.startswith(told)
    assert solution.facts()["note"] == solution.note
    assert min(point.penalty for point in solution.path) >= (1e-4 if penalties is None else 0), "60 images"


def test_the_smallest_penalty_for_so_few_images_is_told(monkeypatch):
    monkeypatch.setattr(linear_solver, "_WEAKEST", 1.0)
    solution = LogisticProbe().solve(table(*clouds()))
    assert solution.note.startswith("0.032 is the smallest one tried, and the held-out loss still falls there")


def test_all_views_of_an_image_are_in_one_fold_and_classes_are_spread_over_folds():
    views, labels = clouds(images=33, views=3)
    fold = linear_solver._folds(table(views, labels), 5, seed=1).view(3, 33)
    assert (fold == fold[0]).all()
    assert sorted(fold[0].bincount().tolist()) == [6, 6, 7, 7, 7]
    for label in range(3):
        assert set(fold[0][torch.tensor(labels) == label].bincount(minlength=5).tolist()) <= {2, 3}
    assert not fold[0].equal(linear_solver._folds(table(views, labels), 5, seed=2)[:33])


def test_images_that_all_look_alike_give_every_class_its_share():
    views = [StoredFeatures(torch.full((20, 4), 3.3))]
    solution = LogisticProbe().solve(FeatureRows(views, [0] * 15 + [1] * 5, 2, CPU))
    assert torch.allclose(
        (whole(views) @ solution.weight.T + solution.bias).softmax(1)[0], torch.tensor([0.75, 0.25]).double()
    )


def test_a_head_without_biases_has_none():
    views, labels = clouds()
    solution = LogisticProbe().solve(table(views, labels), bias=False)
    assert solution.bias.equal(torch.zeros(3, dtype=torch.float64)) and solution.gradient <= 1e-6


@pytest.fixture
def probed(tiny_run, tmp_path):
    def run(*overrides, folder="run", **options):
        main(tiny_run("strategy=probe", *overrides, folder=folder, **options))
        return tmp_path / folder, json.loads((tmp_path / folder / "summary.json").read_text())

    return run


def test_a_solved_run_leaves_what_every_run_leaves_and_its_certificate(probed):
    folder, summary = probed()
    assert (summary["status"], summary["epochs"], summary["best_epoch"]) == ("finished", 1, 1)
    probe = summary["probe"]
    assert probe["gradient"] <= 1e-6 and probe["penalty"] in [point["penalty"] for point in probe["path"]]
    assert {"iterations", "folds", "seconds", "loss"} <= probe.keys()
    assert (folder / "figures" / "probe.png").is_file() and (folder / "figures" / "predictions.png").is_file()
    assert [row["epoch"] for row in rows(folder / "metrics.csv")] == ["1"]
    best = read_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert not [key for key in best["state_dict"] if "feature_" in key], "the head is a plain layer"
    assert summary["val"]["acc"] == float(rows(folder / "metrics.csv")[0]["val/acc"])


def test_the_penalty_never_sees_a_validation_image(probed, image_folder, tmp_path, without_pictures):
    root = image_folder()
    _, before = probed(root=root)
    for path in (root / "val").rglob("*.png"):
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 49, 3), dtype=np.uint8)).save(path)
    _, after = probed(root=root, folder="other")
    assert before["val"]["loss"] != after["val"]["loss"]
    del before["probe"]["seconds"], after["probe"]["seconds"]
    assert before["probe"] == after["probe"]


def test_views_of_the_solver_are_added_to_the_images_as_validation_sees_them(probed, without_pictures, caplog):
    caplog.set_level("INFO", "thaw")
    views = "strategy.phases=[{train: [head], solver: {_target_: thaw.features.linear_solver.LogisticProbe, views: 2}}]"
    probed(views, "data.balance=weights")
    assert "12 training images and 2 augmented views of each" in caplog.text


def test_features_that_no_disk_can_hold_stay_in_memory(probed, without_pictures, monkeypatch, caplog):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("thaw.training.phase_data.stored_features", full)
    _, summary = probed()
    assert summary["status"] == "finished" and "they stay in memory" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["trainer.precision=bf16-true"], "trainer.precision=bf16-true does not work with a phase that has a solver"),
        (["features.max_gb=0"], "features.max_gb=0 is too little: a phase with a solver"),
        (["strategy.phases.0.train=all"], "a phase with a solver must train only the head; set train: [head]"),
        (["+strategy.phases.0.epochs=3"], "a phase has a solver and epochs=3, but a solver takes one epoch"),
        (["+strategy.phases.0.solver.folds=1"], "a solver's folds=1 must be a whole number of at least 2"),
        (["+strategy.phases.0.solver.penalties=[0]"], "a solver has penalties=[0], which must be numbers above 0"),
    ],
)
def test_what_cannot_be_solved_is_told_with_status_2(probed, capfd, overrides, sentence, caplog):
    with pytest.raises(SystemExit) as end:
        probed(*overrides)
    assert end.value.code == 2
    assert sentence in caplog.text + capfd.readouterr().err


def test_a_head_that_is_no_linear_layer_is_refused(configure):
    strategy = instantiate(configure("strategy=probe").strategy)
    with (
        torch.device("meta"),
        pytest.raises(UserError, match="needs a head that is one linear layer, unlike the head of squeezenet1_1"),
    ):
        strategy.schedule(build_net("squeezenet1_1", 2), 10)


def test_fine_tuning_goes_on_from_the_optimum(tiny_run, tmp_path, without_pictures):
    main(tiny_run("strategy=lp_ft", "trainer.max_epochs=3"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    metrics = rows(tmp_path / "run" / "metrics.csv")
    assert [row["phase"] for row in metrics] == ["1", "2", "2"]
    assert summary["probe"]["gradient"] <= 1e-6 and float(metrics[0]["lr"]) == 0


def test_with_several_classes_each_class_is_a_problem_of_its_own():
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(size=(80, 6)).astype(np.float32)) * 3 + 5
    members = torch.from_numpy(random.random((80, 3)) < 0.4)
    rows = FeatureRows([StoredFeatures(x)], list(range(80)), 3, CPU, members)
    solution = LogisticProbe(penalties=[0.01], folds=2, tolerance=1e-9).solve(rows)
    z = x.double() - x.double().mean(0)
    norm = z.square().sum(1).mean().sqrt()
    for label in range(3):
        weight = (solution.weight[label] * norm).clone().requires_grad_()
        bias = solution.bias[label].clone().requires_grad_()
        logits = x.double() @ (weight / norm) + bias
        loss = F.binary_cross_entropy_with_logits(logits, members[:, label].double()) + 0.005 * weight.square().sum()
        slopes = torch.autograd.grad(loss, (weight, bias))
        assert max(slope.abs().max().item() for slope in slopes) < 1e-7
    assert solution.path[0].acc == pytest.approx(0.6, abs=0.25)
