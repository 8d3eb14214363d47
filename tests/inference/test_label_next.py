"""Which images to label next: typical ones first, later doubtful and different ones, and never a copy."""

import os
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import rows
from PIL import Image

from thaw.inference.labelling.choice import DOUBTFUL, TYPICAL, choose
from thaw.inference.labelling.clusters import clusters
from train import main

SIZES = (200, 100, 50, 25, 12, 6)  # images per group; groups 0, 2 and 4 are one class


@pytest.fixture
def label_next(script):
    return partial(script, "label_next")


def groups(seed=0, sizes=SIZES, spread=0.02):
    """Return features (n, 16) around one direction per group, and each image's group."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    centres = np.eye(16)[: len(sizes)] * 10
    features = centres[group] + spread * 10 * random.standard_normal((len(group), 16)) / 4
    return features.astype(np.float32), group


def one_sided(count, classes=2):
    return np.tile([1.0, *[0.0] * (classes - 1)], (count, 1)).astype(np.float32)


def test_without_labels_the_first_images_are_one_of_each_group_and_the_largest_group_comes_first():
    features, group = groups()
    chosen = choose(features, one_sided(len(features)), features[:0], 6)
    assert sorted(group[one.index] for one in chosen) == [0, 1, 2, 3, 4, 5]
    assert group[chosen[0].index] == 0
    assert {one.reason for one in chosen} == {TYPICAL}
    centre = np.eye(16)[0]
    own = features[group == 0] / np.linalg.norm(features[group == 0], axis=1, keepdims=True)
    distances = np.linalg.norm(own - centre, axis=1)
    assert np.linalg.norm(features[chosen[0].index] / np.linalg.norm(features[chosen[0].index]) - centre) < np.median(
        distances
    )


def test_groups_that_have_labels_are_left_out_at_first():
    features, group = groups()
    labelled = np.concatenate([features[group == number][:1] for number in (0, 1, 2)])
    chosen = choose(features, one_sided(len(features)), labelled, 3)
    assert sorted(group[one.index] for one in chosen) == [3, 4, 5]


def test_with_enough_labels_doubtful_images_are_chosen_that_differ():
    features, group = groups()
    probabilities = one_sided(len(features))
    doubtful = np.concatenate([np.flatnonzero(group == number)[:3] for number in (1, 2, 5)])
    probabilities[doubtful] = 0.5
    chosen = choose(features, probabilities, features[:20], 3)
    assert {one.reason for one in chosen} == {DOUBTFUL}
    assert {one.index for one in chosen} <= set(doubtful.tolist())
    assert sorted(group[one.index] for one in chosen) == [1, 2, 5], "one of each group"


@pytest.mark.parametrize("labelled", [0, 40], ids=["typical", "doubtful"])
def test_no_image_is_chosen_twice_and_all_are_chosen_if_there_are_too_few(labelled):
    features, _ = groups(sizes=(9, 5))
    features[3:8] = features[0]  # equal images share a place
    chosen = choose(features, one_sided(14), np.zeros((labelled, 16), np.float32), 50)
    assert sorted(one.index for one in chosen) == list(range(14))
    assert choose(features, one_sided(14), np.zeros((labelled, 16), np.float32), 5, seed=3) == choose(
        features, one_sided(14), np.zeros((labelled, 16), np.float32), 5, seed=3
    )


def nearest_label(features, labels, others):
    """Return probabilities that fall with the squared distance to the nearest labelled image of each class."""
    distances = np.square(others[:, None] - features).sum(2)
    nearest = np.stack([distances[:, labels == one].min(1) for one in (0, 1)], 1)
    weights = np.exp(-nearest / nearest.max(1).mean())
    return weights / weights.sum(1, keepdims=True)


def curve(choose_next, seed):
    """Return the accuracy on other images after every 10 labels."""
    features, group = groups(seed, spread=0.9)
    others, truth = groups(seed + 100, spread=0.9)
    labels, known, accuracies = group % 2, [], []
    while len(known) < 120:
        left = np.setdiff1d(np.arange(len(labels)), known)
        if len(set(labels[known].tolist())) == 2:
            probabilities = nearest_label(features[known], labels[known], features[left])
        else:
            probabilities = np.full((len(left), 2), 0.5)
        known += left[choose_next(features[left], probabilities, features[known])].tolist()
        if len(set(labels[known].tolist())) == 2:
            right = nearest_label(features[known], labels[known], others).argmax(1) == truth % 2
        else:
            right = truth % 2 == labels[known[0]]
        accuracies.append(right.mean())
    return np.array(accuracies)


def test_chosen_images_need_fewer_labels_than_random_ones():
    def chosen(features, probabilities, labelled):
        return [one.index for one in choose(features, probabilities, labelled, 10)]

    ours = np.mean([curve(chosen, seed) for seed in range(5)], axis=0)
    draws = [np.random.default_rng(seed) for seed in range(5)]
    plain = np.mean(
        [curve(lambda f, p, k, d=draw: d.permutation(len(f))[:10], seed) for seed, draw in enumerate(draws)], axis=0
    )
    assert (ours >= plain - 0.01).all(), "never more than a point below random images"
    assert ours[8] >= plain[11], "90 labels are as good as 120 random ones"


def test_clusters_are_those_of_separate_groups():
    features, group = groups()
    cluster, distance = clusters(features, 6, np.random.default_rng(0))
    assert len(set(zip(cluster.tolist(), group.tolist(), strict=True))) == 6
    for number in range(6):
        own = features[group == number]
        assert distance[group == number] == pytest.approx(np.square(own - own.mean(0)).sum(1), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("labelled", "classes"), [(20, 100), (500, 1000), (2000, 10)])
def test_ten_thousand_images_take_about_ten_seconds_at_most(labelled, classes):
    random = np.random.default_rng(0)
    features = random.standard_normal((10_000, 1280)).astype(np.float32)
    probabilities = random.dirichlet(np.ones(classes), 10_000).astype(np.float32)
    start = time.perf_counter()
    assert len(choose(features, probabilities, features[:labelled] + 0.1, 50)) == 50
    assert time.perf_counter() - start < 20, "6 s on two idle cores; other tests run at the same time"


@pytest.fixture
def run(tiny_run, tmp_path, without_pictures):
    """A finished run, and a folder of five unlabelled images: a copy of a training image, and two equal ones."""
    main(tiny_run("strategy=feature_extractor", "strategy.lr=0.1"))
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    shutil.copy(folder / "1.png", folder / "again.png")
    shutil.copy(next((tmp_path / "photos/train/ants").iterdir()), folder / "known.png")
    return tmp_path / "run"


def test_the_folder_has_copies_to_sort_a_folder_per_class_a_table_and_a_page(run, tmp_path, label_next):
    out = tmp_path / "to label"
    status, output, errors = label_next(run, tmp_path / "unlabelled", "-n", 2, "--out", out)
    assert (status, errors) == (0, "")
    assert f"2 images of 3 candidates (2 copies left out) in {out}/unsorted" in output
    assert sorted(os.listdir(out)) == ["label_next.csv", "label_next.html", "train", "unsorted"]
    assert sorted(os.listdir(out / "train")) == ["ants", "bees"]
    table = rows(out / "label_next.csv")
    assert [row["rank"] for row in table] == ["1", "2"]
    for row in table:
        assert (out / row["file"]).read_bytes() == Path(row["path"]).read_bytes()
        assert row["reason"] == TYPICAL, "12 labelled images of two classes are few"
        assert row["predicted"] in ("ants", "bees")
        assert 0 <= float(row["margin"]) <= float(row["confidence"]) <= 1
    page = (out / "label_next.html").read_text()
    assert page.count("data:image/") == 2 and "2 images to label" in page


def test_labelled_images_are_named_if_those_of_the_run_are_gone(run, tmp_path, label_next, caplog):
    (tmp_path / "photos").rename(tmp_path / "moved")
    status, output, errors = label_next(run, tmp_path / "unlabelled", "--out", tmp_path / "unknown")
    assert (status, errors) == (0, "") and "4 images of 4 candidates (1 copy left out)" in output
    assert "labelled images may be chosen again; --labelled PATH names them." in caplog.text
    named = ["--labelled", tmp_path / "moved/train", "--out", tmp_path / "known"]
    status, output, errors = label_next(run, tmp_path / "unlabelled", *named)
    assert (status, errors) == (0, "") and "3 images of 3 candidates (2 copies left out)" in output


def test_validation_images_and_a_relative_data_root_are_known_wherever_the_command_runs(
    tiny_run, image_folder, tmp_path, label_next, monkeypatch, without_pictures
):
    image_folder()
    monkeypatch.chdir(tmp_path)
    main(tiny_run("strategy=feature_extractor", root="photos"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for split in ("train", "val"):
        status, _, errors = label_next("../run", f"../photos/{split}", "--out", split)
        assert (status, errors) == (2, "error: there is nothing to label: all images are copies of labelled images.\n")


def test_a_long_name_is_cut(run, tmp_path, label_next):
    (tmp_path / "unlabelled/0.png").rename(tmp_path / f"unlabelled/{'L' * 251}.png")
    assert label_next(run, tmp_path / "unlabelled", "--out", tmp_path / "out")[0] == 0
    assert len(os.listdir(tmp_path / "out/unsorted")) == 3


def test_unreadable_images_are_named_and_skipped(run, tmp_path, label_next):
    (tmp_path / "unlabelled/broken.jpg").write_bytes(b"no image")
    status, output, errors = label_next(run, tmp_path / "unlabelled", "--out", tmp_path / "out")
    assert status == 1 and "3 images of 3" in output
    assert errors.count("error: ") == 1 and "broken.jpg" in errors


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["photos/train"], "there is nothing to label: all images are copies of labelled images."),
        (["unlabelled", "--out", "photos"], "photos is not empty; choose a new folder."),
        (
            ["unlabelled", "--curve", "photos"],
            "needs finished runs of feature_extractor with resnet34 on the classes of",
        ),
        (["nothing"], "there is no file nothing."),
        ([""], "a path is empty."),
        (["unlabelled", "--labelled", "nothing"], "--labelled: there is no file nothing."),
        (["unlabelled", "--out", "photos/val/ants/0.png"], "photos/val/ants/0.png is a file; choose a new folder."),
        (["unlabelled", "--out", "x" * 300], "cannot be written (File name too long): choose another folder."),
        (["unlabelled", "-n", "0"], "'0' must be a whole number of at least 1"),
    ],
)
def test_a_request_that_cannot_work_is_refused_in_a_sentence(
    run, tmp_path, label_next, monkeypatch, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    status, _, errors = label_next(run, *arguments)
    assert status == 2
    assert sentence in errors
    assert not (tmp_path / "outputs/label_next/unsorted").exists()
