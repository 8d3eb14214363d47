"""Labels that are likely wrong."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from conftest import ROOT
from heap import Heap

from thaw.curation.audit import audit
from thaw.curation.labels import _folds, doubted_labels, load_backbone, out_of_fold, ranked
from thaw.errors import UserError


def blobs(count=120, wrong=8, seed=0):
    """Three clouds of points, of some of which the label was changed."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 3
    points = rng.normal(0, 1, (count, 6))
    points[np.arange(count), truth] += 6
    labels = truth.copy()
    changed = rng.choice(count, wrong, replace=False)
    labels[changed] = (truth[changed] + 1) % 3
    return points, labels, truth, set(changed.tolist())


def test_changed_labels_are_found_with_what_they_were():
    points, labels, truth, changed = blobs()
    probabilities = out_of_fold(points, labels, np.arange(len(labels)) % 5)
    found = ranked(probabilities, labels)
    assert {image for image, _ in found} <= changed
    assert len(found) >= 0.7 * len(changed), "some are too near the other class to be sure of"
    assert all(suggested == truth[image] for image, suggested in found)


def test_right_labels_are_not_doubted():
    points, labels, _, _ = blobs(wrong=0)
    assert ranked(out_of_fold(points, labels, np.arange(len(labels)) % 5), labels) == []


def test_an_image_is_judged_by_what_has_not_seen_it():
    """Points without any order can be learned by heart, but not foretold."""
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(60, 80)), np.arange(60) % 2
    probabilities = out_of_fold(points, labels, np.arange(60) // 2 % 5)
    assert abs((probabilities.argmax(1) == labels).mean() - 0.5) < 0.25
    assert probabilities.sum(1) == pytest.approx(np.ones(60), abs=1e-5)


def test_the_most_doubtful_comes_first():
    """Worked by hand: class 0 is usually 0.7 likely where it is the label, class 1 is 0.6."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert ranked(probabilities, labels) == [(5, 0), (2, 1)]


def test_equal_files_are_in_one_fold_and_classes_in_all():
    digests = [str(number % 40) for number in range(60)]  # the last twenty are copies
    labels = np.arange(60) % 2
    folds = _folds(digests, labels)
    assert all(folds[number] == folds[number - 40] for number in range(40, 60))
    for label in (0, 1):
        assert set(folds[labels == label]) == set(range(5))


@pytest.mark.slow
def test_the_audit_shows_swapped_pictures_first(tmp_path):
    """With random weights, on pictures that colours tell apart."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, name in enumerate(("red", "blue")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(0, 130, (40, 40, 3), dtype=np.uint8)
            pixels[..., 2 * label] += 120
            Image.fromarray(pixels).resize((80, 80)).save(tmp_path / "data" / name / f"{number}.png")
    shutil.move(tmp_path / "data" / "red" / "7.png", tmp_path / "data" / "blue" / "was_red.png")
    weights = tmp_path / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    script = [sys.executable, str(ROOT / "scripts" / "audit_data.py"), "data", "--labels", "--model", "resnet18"]
    done = subprocess.run([*script, "--weights", str(weights)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    doubts = json.loads((tmp_path / "outputs/audit/data/audit.json").read_text())["doubted_labels"]
    assert (doubts[0]["path"], doubts[0]["label"], doubts[0]["suggested"]) == ("blue/was_red.png", "blue", "red")
    assert "blue/was_red.png" in done.stdout


@pytest.mark.slow
def test_files_that_cannot_be_read_have_no_doubtful_label(tmp_path):
    heap = Heap(tmp_path / "heap", 6)
    heap.plant("empty", "Cat/empty.jpg", b"")
    doubts = doubted_labels(audit(heap.root).files, load_backbone("squeezenet1_1", "none"))
    assert all(doubt.path.name != "empty.jpg" for doubt in doubts)


def test_a_net_that_cannot_be_had_is_reported_in_the_words_of_the_audit():
    told = r"^--weights imagenet: .* --model efficientnet_lite0 .*--weights demo, --weights none or --weights PATH\.$"
    with pytest.raises(UserError, match=told):
        load_backbone("squeezenet1_1", "imagenet")
    with pytest.raises(UserError, match=r"^--model 'resnet35' "):
        load_backbone("resnet35", "none")
