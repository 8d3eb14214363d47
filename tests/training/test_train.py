"""`train.main` as a whole, on a net and images that take a second."""

import json
import shutil

import pytest
import torch
from conftest import rows
from nets import tiny_net
from PIL import Image

from train import main

CONTRACT = [
    ".hydra/config.yaml",
    ".hydra/hydra.yaml",
    ".hydra/lock",
    ".hydra/overrides.yaml",
    ".hydra/resolved.yaml",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "figures/confusion_matrix.png",
    "figures/predictions.png",
    "figures/samples.png",
    "metrics.csv",
    "predictions.csv",
    "summary.json",
]


def test_a_run_leaves_what_the_contract_says(tiny_run, tmp_path):
    accuracy = main(tiny_run("strategy=fine_tune", "strategy.lr=0.1"))
    run = tmp_path / "run"
    files = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    assert [file for file in files if not file.startswith("tensorboard/")] == CONTRACT
    assert [file for file in files if "tfevents" in file]

    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert (summary["classes"], summary["epochs"], summary["weights"]) == (["ants", "bees"], 2, "none")
    assert summary["val"]["acc"] == accuracy
    low, high = summary["val"]["acc_ci95"]
    assert low <= accuracy <= high
    assert summary["val"].keys() == {"acc", "acc_ci95", "macro_acc", "macro_f1", "loss", "ece", "n"}
    assert summary["parameters"] == {"total": 648, "trainable": 648}
    assert summary["seconds"].keys() == {"total", "features", "training", "validation"}
    assert summary["frozen_unchanged"] is True
    assert summary["checkpoints"] == ["checkpoints/best.ckpt", "checkpoints/last.ckpt"]
    assert summary["train_images_per_second"] > 0 < summary["peak_memory_mb"]
    assert summary["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert {"device", "precision", "strategy", "data", "model", "seed"} <= summary.keys()

    metrics = rows(run / "metrics.csv")
    columns = ["epoch", "phase", "lr", "train/loss", "train/acc", "val/loss", "val/acc", "val/macro_acc", "seconds"]
    assert list(metrics[0]) == columns
    assert [(row["epoch"], row["phase"]) for row in metrics] == [("1", "1"), ("2", "1")]

    predictions = rows(run / "predictions.csv")
    assert list(predictions[0]) == ["path", "label", "predicted", "confidence", "p_ants", "p_bees"]
    assert len(predictions) == summary["val"]["n"] == 10
    assert sum(row["label"] == row["predicted"] for row in predictions) / 10 == accuracy


def test_what_is_reported_is_of_the_best_epoch_not_of_the_last(tiny_run, tmp_path, without_pictures):
    # From the fourth epoch on it climbs the loss instead of descending, and becomes the worse the longer it learns.
    descends = "{train: all, epochs: 3}"
    climbs = "{train: all, optimizer: {_target_: torch.optim.SGD, _partial_: true, maximize: true}, lr: 1.0}"
    main(tiny_run(f"strategy.phases=[{descends},{climbs}]", "strategy.lr=0.1", "trainer.max_epochs=6"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    metrics = rows(tmp_path / "run" / "metrics.csv")
    accuracies = [float(row["val/acc"]) for row in metrics]
    assert accuracies[-1] < max(accuracies), "this run is made to end worse than its best"
    losses = [float(row["val/loss"]) if row["val/acc"] == str(max(accuracies)) else 9e9 for row in metrics]
    assert summary["best_epoch"] == losses.index(min(losses)) + 1, "of equal accuracies the one with the lowest loss"
    assert summary["val"]["acc"] == pytest.approx(max(accuracies), abs=1e-6)
    best = metrics[summary["best_epoch"] - 1]
    assert summary["val"]["loss"] == pytest.approx(float(best["val/loss"]), rel=1e-3)


def test_the_best_checkpoint_holds_plain_values_and_gives_the_predictions_again(tiny_run, tmp_path, without_pictures):
    main(tiny_run("strategy=fine_tune", "trainer.precision=32-true"))
    checkpoint = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["thaw"]["model"] == {"name": "resnet34", "num_classes": 2}
    assert checkpoint["thaw"]["classes"] == ["ants", "bees"]
    assert checkpoint["thaw"]["preprocessing"] == {
        "resize": 18,
        "crop": 16,
        "interpolation": "bilinear",
        "grey_range": (0, 65535),
    }
    net = tiny_net(2).eval()
    net.load_state_dict({key.removeprefix("net."): value for key, value in checkpoint["state_dict"].items()})
    from thaw.data.images import load_rgb
    from thaw.data.preprocessing import TUTORIAL
    from thaw.data.transforms import EvalTransform

    for row in rows(tmp_path / "run/predictions.csv"):
        image = EvalTransform(TUTORIAL.scaled(16))(load_rgb(tmp_path / "photos" / row["path"], 2 * 18))
        with torch.inference_mode():
            probabilities = net(image[None]).softmax(1)[0]
        assert [float(row["p_ants"]), float(row["p_bees"])] == pytest.approx(probabilities.tolist(), abs=1e-5)


@pytest.mark.slow
def test_test_images_are_looked_at_once_with_the_best_weights_and_change_nothing(
    tiny_run, image_folder, tmp_path, caplog, without_pictures
):
    caplog.set_level("INFO", "thaw")
    root = image_folder()
    chosen = ["strategy=feature_extractor", "trainer.precision=32-true", "features.views=1"]
    main(tiny_run(*chosen, root=root, folder="without"))
    shutil.copytree(root / "val", root / "test")
    (root / "test" / "bees" / "3.png").unlink()
    main(tiny_run(*chosen, root=root))
    for file in ("metrics.csv", "predictions.csv"):
        without, told = ([{**row, "seconds": ""} for row in rows(tmp_path / run / file)] for run in ("without", "run"))
        assert without == told
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["test"].keys() == summary["val"].keys()
    assert (summary["test"]["n"], summary["split"]) == (9, "folders")
    assert f"test/acc {summary['test']['acc']:.4f} (95 % interval " in caplog.text
    answers = {row["path"]: row for row in rows(tmp_path / "run/predictions.csv")}
    tested = rows(tmp_path / "run/test_predictions.csv")
    assert len(tested) == 9
    for row in tested:  # copies of validation images, of which the best weights must say the same
        twin = answers[row["path"].replace("test/", "val/")]
        assert row["label"] == twin["label"]
        assert float(row["p_ants"]) == pytest.approx(float(twin["p_ants"]), abs=1e-4)
    shutil.rmtree(root / "test")
    main(tiny_run(*chosen, root=root))
    assert not (tmp_path / "run/test_predictions.csv").exists(), "it is that of another run"


def test_class_folders_alone_are_enough_for_a_run(tiny_run, image_folder, tmp_path, without_pictures):
    root = image_folder(train=10)
    shutil.rmtree(root / "val")
    main(tiny_run(root=root / "train"))
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["split"] == "20 % of each class, drawn by Thaw"
    assert sorted({row["path"].partition("/")[0] for row in rows(tmp_path / "run/predictions.csv")}) == ["ants", "bees"]
    assert summary["val"]["n"] == 4


@pytest.mark.slow
def test_folds_of_a_run_validate_every_image_once(tiny_run, image_folder, tmp_path, without_pictures):
    root = image_folder(train=4, val=3)
    for fold in range(3):
        main(tiny_run("data.folds=3", f"data.fold={fold}", root=root, folder=str(fold)))
    summaries = [json.loads((tmp_path / str(fold) / "summary.json").read_text()) for fold in range(3)]
    assert [summary["split"] for summary in summaries] == [f"fold {fold} of 0 to 2, drawn by Thaw" for fold in range(3)]
    told = [row["path"] for fold in range(3) for row in rows(tmp_path / str(fold) / "predictions.csv")]
    assert sorted(told) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))


def test_a_run_can_start_from_another_runs_weights(tiny_run, tmp_path, image_folder, without_pictures):
    main(tiny_run("strategy=fine_tune"))
    best = tmp_path / "run/checkpoints/best.ckpt"
    root = image_folder(("ants", "bees", "cows"), name="more")
    main(tiny_run("strategy=feature_extractor", f"weights={best}", root=root, folder="second"))
    first, second = (
        torch.load(path, weights_only=True)["state_dict"] for path in (best, tmp_path / "second/checkpoints/last.ckpt")
    )
    for key in first:
        assert first[key].equal(second[key]) or key.startswith("net.fc"), key
    assert second["net.fc.weight"].shape == (3, 8)


@pytest.mark.slow
def test_equal_seeds_give_equal_epochs_and_other_seeds_do_not(tiny_run, tmp_path, without_pictures):
    def epochs(folder, *overrides):
        main(tiny_run(*overrides, root=root, folder=folder))
        return [{**row, "seconds": ""} for row in rows(tmp_path / folder / "metrics.csv")]

    root = tmp_path / "photos"
    tiny_run()  # writes the photographs
    assert epochs("a") == epochs("b", "data.num_workers=2") != epochs("c", "seed=1")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_met_in_training_ends_the_run_with_its_path(
    tiny_run, image_folder, tmp_path, caplog, workers
):
    root = image_folder()
    broken = root / "train" / "bees" / "4.png"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(SystemExit) as raised:
        main(tiny_run(f"data.num_workers={workers}", root=root))
    assert raised.value.code == 1
    told = [record.message for record in caplog.records if record.name == "thaw.errors"]
    assert len(told) == 1
    assert told[0].startswith(f"error: cannot read the image {broken}: ")
    assert "\n" not in told[0]
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "failed"


def test_a_run_in_the_folder_of_another_replaces_it_whole(tiny_run, tmp_path):
    main(tiny_run("strategy=fine_tune", "trainer.max_epochs=3"))
    main(tiny_run("strategy=from_scratch", root=tmp_path / "photos"))
    assert len(rows(tmp_path / "run/metrics.csv")) == 2
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert json.loads((tmp_path / "run/summary.json").read_text())["strategy"] == "from_scratch"


def test_a_mistake_leaves_the_results_of_the_run_before(tiny_run, tmp_path):
    main(tiny_run())
    with pytest.raises(SystemExit):
        main(tiny_run("strategy.lr=fast", root=tmp_path / "photos"))
    assert (tmp_path / "run/checkpoints/best.ckpt").exists()
    assert len(rows(tmp_path / "run/metrics.csv")) == 2


@pytest.mark.parametrize(
    ("phases", "told"),
    [
        ("[{train: [layer9]}]", "a phase trains 'layer9', which resnet34 does not have"),
        ("[{train: [layer1, layer1.0]}]", "'layer1.0' and 'layer1', which overlap"),
        ("[{train: head}, {train: all}]", "2 phases do not set epochs, but only one phase"),
        ("[{train: []}]", "train=[], which must be all or a list of stages"),
        ("[]", "it has no phases"),
        ("[{train: head, epochs: 0}]", "epochs=0, which must be a whole number of at least 1"),
        ("[{train: head, epochs: 3}]", "its phases need 3 epochs, more than trainer.max_epochs=2"),
        ("[{train: all, lr_decay: 1.5}]", "lr_decay=1.5, which must be above 0 and at most 1"),
        ("[{train: all, lr_decay: 0}]", "lr_decay=0, which must be above 0 and at most 1"),
    ],
)
def test_phases_that_make_no_sense_are_told_in_a_sentence_with_status_2(tiny_run, caplog, phases, told):
    with pytest.raises(SystemExit) as raised:
        main(tiny_run(f"strategy.phases={phases}"))
    assert raised.value.code == 2
    (sentence,) = [record.message for record in caplog.records if record.name == "thaw.errors"]
    assert sentence.startswith("error: strategy=feature_extractor: ")
    assert told in sentence
    assert sentence.endswith(".") and "\n" not in sentence


def test_a_strategy_can_bring_an_optimizer_and_a_schedule_for_a_phase(tiny_run, tmp_path, without_pictures):
    adamw = "optimizer: {_target_: torch.optim.AdamW, _partial_: true}"
    halving = "scheduler: {_target_: torch.optim.lr_scheduler.ExponentialLR, _partial_: true, gamma: 0.5}"
    phases = f"strategy.phases=[{{train: head, epochs: 3, lr: 0.4, {adamw}, {halving}}}, {{train: all, lr: 0.1}}]"
    main(tiny_run(phases, "trainer.max_epochs=4"))
    table = rows(tmp_path / "run/metrics.csv")
    assert [(row["phase"], float(row["lr"])) for row in table] == [("1", 0.4), ("1", 0.2), ("1", 0.1), ("2", 0.1)]


@pytest.mark.slow
def test_three_classes_are_classified(tiny_run, image_folder, tmp_path):
    main(tiny_run(root=image_folder(("ants", "bees", "cows"))))
    assert json.loads((tmp_path / "run/summary.json").read_text())["classes"] == ["ants", "bees", "cows"]
    with Image.open(tmp_path / "run/figures/confusion_matrix.png") as picture:
        assert min(picture.size) > 300


def test_demo_weights_are_learned_once_for_any_model(tiny_run, monkeypatch, tmp_path, without_pictures):
    learned = []

    def build(name, num_classes, image_size):
        learned.append(num_classes)
        return tiny_net(num_classes)

    monkeypatch.setattr("thaw.demo.pretraining.build_net", build)
    monkeypatch.setattr("thaw.demo.datasets.SOURCE_TRAIN", 4)
    monkeypatch.setattr("thaw.demo.datasets.SOURCE_VAL", 2)
    main(tiny_run("weights=demo"))
    main(tiny_run("weights=demo", root=tmp_path / "photos", folder="second"))
    assert learned == [8]
    first, second = (
        torch.load(tmp_path / folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]["net.conv1.weight"]
        for folder in ("run", "second")
    )
    assert first.equal(second)
    torch.manual_seed(0)
    assert not first.equal(tiny_net(2).conv1.weight)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_net_learns_the_same(tiny_run, tmp_path, without_pictures):
    root = None
    for folder, more in (("plain", "compile=false"), ("compiled", "compile=true")):
        main(tiny_run(more, "strategy=fine_tune", "trainer.precision=32-true", root=root, folder=folder))
        root = tmp_path / "photos"
    for plain, compiled in zip(*(rows(tmp_path / name / "metrics.csv") for name in ("plain", "compiled")), strict=True):
        for column in ("train/loss", "val/loss"):
            assert float(plain[column]) == pytest.approx(float(compiled[column]), rel=1e-3)
    keys = [
        torch.load(tmp_path / name / "checkpoints" / "best.ckpt")["state_dict"].keys() for name in ("plain", "compiled")
    ]
    assert keys[0] == keys[1]
