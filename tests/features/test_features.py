"""Runs on features: the same as runs on images, only sooner; and which features a run may use."""

import errno
import json
import logging
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command_line import TINY, TRAIN, with_nets
from conftest import rows
from nets import tiny_resnet
from safetensors.torch import load_file, save_file

from thaw.features import feature_data
from thaw.features.store import stored_features
from thaw.storage import arrays
from thaw.storage.cache import cache_dir
from train import main

EXACT = ["trainer.precision=32-true", "data.augment=false", "model._target_=nets.tiny_resnet", "trainer.max_epochs=4"]
EXACT += ["head.standardize=false"]  # the features of random layers hardly differ; that would be magnified
CUTS = {
    "head": ["strategy=feature_extractor"],
    "middle": ["strategy=layer3_layer4"],
    "phases": ["strategy=lp_ft", "strategy.phases=[{train: head, epochs: 2}, {train: [layer2, layer4]}]"],
}


@pytest.fixture
def run(tiny_run, tmp_path, image_folder, caplog, without_pictures):
    root = image_folder()
    caplog.set_level(logging.INFO, "thaw")

    def run_in(folder, *overrides):
        caplog.clear()
        main(tiny_run(*overrides, root=root, folder=folder))
        summary = json.loads((tmp_path / folder / "summary.json").read_text())
        return tmp_path / folder, summary, caplog.text

    run_in.root = root
    return run_in


@pytest.fixture
def recipe(run):
    weights = run.root / "weights.safetensors"
    torch.manual_seed(0)
    save_file({k: v for k, v in tiny_resnet(2).state_dict().items() if not k.startswith("fc")}, weights)
    return [*EXACT, "strategy=feature_extractor", f"weights={weights}", "features.views=1"]


def stores():
    folder = cache_dir() / "features"
    return {path.name: path.stat().st_ino for path in folder.iterdir() if path.is_dir()} if folder.exists() else {}


def tensors(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", "cpu", weights_only=True)["state_dict"]


@pytest.mark.parametrize(
    ("strategy", "kept"),
    [
        (CUTS["phases"], True),
        (CUTS["phases"], False),
        *(pytest.param(given, True, marks=pytest.mark.slow) for given in CUTS.values()),
    ],
)
def test_features_change_nothing_but_time(run, strategy, kept):
    images, _, _ = run("images", *EXACT, *strategy, "features.views=0")
    assert stores() == {}
    limit = [] if kept else ["features.max_gb=1e-9"]  # then they are computed in every epoch
    features, summary, told = run("features", *EXACT, *strategy, "features.views=1", *limit)
    assert bool(stores()) == kept
    assert (": 1 view × 12 training images, 10 validation images" if kept else ": none") in told
    for one, other in zip(rows(images / "metrics.csv"), rows(features / "metrics.csv"), strict=True):
        for column in one.keys() - {"seconds"}:
            assert float(one[column]) == pytest.approx(float(other[column]), abs=1e-4), column
    predicted = [[row["predicted"] for row in rows(folder / "predictions.csv")] for folder in (images, features)]
    assert predicted[0] == predicted[1]
    for name, tensor in tensors(images).items():
        assert torch.allclose(tensor, tensors(features)[name], atol=1e-4), name
    assert summary["frozen_unchanged"] is True and summary["seconds"]["features"] > 0


def test_runs_with_other_rates_and_seeds_share_features(run, recipe):
    recipe = [*recipe, "data.augment=true", "features.views=2"]
    first, _, _ = run("first", *recipe)
    before = stores()
    assert len(before) == 3, "two views and the validation images"
    second, _, _ = run("second", *recipe, "seed=1", "strategy.lr=0.5")
    assert stores() == before
    assert (first / "metrics.csv").read_text() != (second / "metrics.csv").read_text()


def change_an_image(run):
    path = run.root / "train" / "ants" / "0.png"
    path.write_bytes((run.root / "train" / "bees" / "0.png").read_bytes())


def change_a_weight(run):
    path = run.root / "weights.safetensors"
    tensors = load_file(path)
    tensors["layer4.conv2.bias"][0] += 1e-3
    save_file(tensors, path)


CHANGES = {
    "an image": (change_an_image, [], 1),
    "a weight": (change_a_weight, [], 2),
    "a transform": (None, ["data.augment=true", "data.crop_scale=[0.5,1]"], 1),
    "a size": (None, ["data.image_size=18"], 2),
    "the cut": (None, ["strategy=layer3_layer4"], 2),
    "the precision": (None, ["trainer.precision=bf16-mixed"], 2),
    "nothing": (None, [], 0),
}


QUICK = ("an image", "a weight", "nothing")  # the others take the same way


@pytest.mark.parametrize(
    ("change", "overrides", "new"),
    [pytest.param(*given, marks=() if name in QUICK else pytest.mark.slow) for name, given in CHANGES.items()],
    ids=CHANGES,
)
def test_features_are_used_again_only_where_nothing_they_depend_on_changed(run, recipe, change, overrides, new):
    run("first", *recipe)
    before = stores()
    if change:
        change(run)
    run("second", *recipe, *overrides)
    assert len(stores().keys() - before.keys()) == new
    assert before.items() <= stores().items()


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [pytest.param(lambda data: data[:-8], marks=pytest.mark.slow), lambda data: data[:-2] + b"\1\1"],
    ids=["cut", "changed"],
)
def test_damaged_features_are_noticed_and_computed_again(run, recipe, damage):
    first, _, _ = run("first", *recipe)
    for path in (cache_dir() / "features").rglob("*.bin"):
        path.write_bytes(damage(path.read_bytes()))
    second, _, told = run("second", *recipe)
    assert "computed again" in told
    assert (first / "predictions.csv").read_text() == (second / "predictions.csv").read_text()
    _, _, told = run("third", *recipe)
    assert "computed again" not in told


def full(*given):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_full_disk_leaves_nothing_half_written_and_the_run_goes_on_with_images(run, recipe, monkeypatch, when):
    images, _, _ = run("images", *recipe, "features.views=0")
    if when == "before":
        monkeypatch.setattr(
            "thaw.storage.cache.shutil", SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=10))
        )
    else:
        monkeypatch.setattr(arrays, "zlib", SimpleNamespace(crc32=full))  # when a piece has been written
    features, summary, told = run("features", *recipe)
    assert summary["status"] == "finished"
    assert "features cannot be written" in told and "they are computed in every epoch" in told
    assert [path for path in (cache_dir() / "features").iterdir() if path.suffix != ".lock"] == []
    assert (images / "predictions.csv").read_text() == (features / "predictions.csv").read_text()


def test_epochs_see_one_view_after_the_other(run, monkeypatch):
    seen, groups = [], feature_data.ViewGroups.__iter__

    def look(self):
        for view, indices in groups(self):
            seen.append((view, len(indices)))
            yield view, indices

    monkeypatch.setattr(feature_data.ViewGroups, "__iter__", look)
    run("run", *EXACT[2:], "data.augment=true", "strategy=feature_extractor", "features.views=3")
    assert seen == [(0, 12), (1, 12), (2, 12), (0, 12)]


def test_views_are_augmented_each_in_its_own_way(run):
    run("run", *EXACT[2:], "trainer.precision=32-true", "strategy=feature_extractor", "features.views=3")
    contents = [path.read_bytes() for path in (cache_dir() / "features").rglob("*.bin")]
    assert len(set(contents)) == len(contents) == 4


def test_mixed_images_are_trained_on_as_images(run):
    _, _, told = run("run", *EXACT, "strategy=feature_extractor", "mix=mixup", "features.views=1")
    assert ": 10 validation images" in told and "mixed" in told
    assert len(stores()) == 1


def test_what_takes_more_than_its_share_of_the_disk_is_not_kept(run):
    _, _, told = run("run", *EXACT, "strategy=feature_extractor", "features.views=1", "features.max_gb=0.0000001")
    assert ": none; " in told and "more than features.max_gb" in told
    assert stores() == {}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("features.views=-1", "error: features.views=-1 must be auto or a whole number of at least 0.\n"),
        ("features.views=some", "error: features.views='some' must be auto or a whole number of at least 0.\n"),
        ("features.max_gb=much", "error: features.max_gb='much' must be a number of at least 0.\n"),
    ],
)
def test_a_mistake_is_told_with_status_2(run, override, sentence, capfd):
    with pytest.raises(SystemExit) as end:
        run("run", override)
    assert end.value.code == 2


def test_the_best_checkpoint_of_a_run_on_features_is_a_whole_model(run, recipe):
    features, _, _ = run("features", *recipe)
    best = torch.load(features / "checkpoints" / "best.ckpt", "cpu", weights_only=True)["state_dict"]
    assert {key.removeprefix("net.") for key in best if key.startswith("net.")} == tiny_resnet(2).state_dict().keys()


def test_features_of_another_epochs_weights_are_not_predicted_from(run):
    # The best epoch is one of the first phase, whose frozen stages the second phase has changed.
    phases = "strategy.phases=[{train: head, epochs: 2, lr: 0.5}, {train: [layer1, layer4], lr: 100}]"
    images, _, _ = run("images", *EXACT, "strategy=lp_ft", phases, "features.views=0")
    features, _, _ = run("features", *EXACT, "strategy=lp_ft", phases, "features.views=1")
    predicted = [[row["predicted"] for row in rows(folder / "predictions.csv")] for folder in (images, features)]
    assert predicted[0] == predicted[1]
    assert Path(cache_dir() / "features").exists()


def test_one_of_two_that_need_the_same_features_computes_them():
    computed = []

    def batches():
        computed.append(threading.get_ident())
        time.sleep(0.2)
        yield torch.ones(3, 4)
        yield torch.zeros(2, 4)

    def needed(_):
        return stored_features("key", torch.ones(1, 4), 5, 1e9, batches)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(needed, range(2)))
    assert len(computed) == 1
    for features in found:
        assert features[[0, 4]].tolist() == [[1] * 4, [0] * 4]


@pytest.mark.slow
def test_two_runs_at_once_end_with_one_good_store(tmp_path, image_folder):
    recipe = [*TINY, f"data.root={image_folder(train=40)}", "strategy=feature_extractor", "features.views=2", "seed=1"]
    runs = [
        subprocess.Popen([*TRAIN, *recipe, f"hydra.run.dir={name}"], cwd=tmp_path, env=with_nets()) for name in "ab"
    ]
    assert [run.wait() for run in runs] == [0, 0]
    assert len(stores()) == 3
    third = subprocess.run([*TRAIN, *recipe, "hydra.run.dir=c"], cwd=tmp_path, env=with_nets(), capture_output=True)
    assert b"computed again" not in third.stdout + third.stderr and len(stores()) == 3
    assert len({(tmp_path / name / "predictions.csv").read_text() for name in "abc"}) == 1
