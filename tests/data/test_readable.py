"""Images that cannot be decoded, at whatever time a run meets them."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import batches, same
from conftest import rows
from PIL import Image

from thaw.data import readable
from thaw.data.datamodule import image_folders
from thaw.data.digests import file_digests
from thaw.data.readable import unreadable, with_replacements
from thaw.errors import RunError, UnreadableImageError, UserError
from train import main


def cut(path):
    """Decodes to some rows, as a download that broke off does."""
    random = np.random.default_rng(len(str(path)))
    jpeg = path.with_suffix(".jpg")
    Image.fromarray(random.integers(0, 256, (40, 49, 3), dtype=np.uint8)).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:1500])
    path.unlink()
    return jpeg


@pytest.fixture
def photos(image_folder):
    """With a cut JPEG among the training images, and another among the validation images."""
    root = image_folder()
    return root, cut(root / "train" / "bees" / "4.png"), cut(root / "val" / "ants" / "2.png")


def relative(paths, root):
    return [Path(path).relative_to(root).as_posix() for path in paths]


def test_another_of_its_class_stands_in_for_a_bad_training_image_and_validation_does_without(photos):
    root, bad, _ = photos
    data = image_folders(root, 16, on_bad_image="skip")
    whole = image_folders(root, 16)
    expected = [path if path != str(bad) else str(root / "train/bees/5.png") for path in whole.train.paths]
    assert data.train.paths == expected
    assert data.train.targets == whole.train.targets
    assert relative(data.val.paths, root) == [f"val/ants/{n}.png" for n in (0, 1, 3, 4)] + [
        f"val/bees/{n}.png" for n in range(5)
    ]
    assert len(data.val.targets) == 9
    assert {name: relative(paths, root) for name, paths in data.skipped.items()} == {
        "train": ["train/bees/4.jpg"],
        "val": ["val/ants/2.jpg"],
    }
    text = data.describe()
    assert "skipped because they cannot be decoded (1 of train and 1 of val): train/bees/4.jpg, val/ants/2.jpg" in text


def test_what_cannot_even_be_opened_is_skipped_as_well(image_folder):
    root = image_folder()
    for path in (root / "train/bees/4.png", root / "val/ants/2.png"):
        path.unlink()
        path.symlink_to("nowhere")
    data = image_folders(root, 16, on_bad_image="skip")
    assert {name: relative(paths, root) for name, paths in data.skipped.items()} == {
        "train": ["train/bees/4.png"],
        "val": ["val/ants/2.png"],
    }
    assert len(data.train) == 12 and len(data.val) == 9
    assert len(batches(data)) > 0
    with pytest.raises(UnreadableImageError, match=r"bees/4\.png: No such file"):
        _ = image_folders(root, 16).fingerprint


def test_the_next_of_the_class_stands_in_and_after_the_last_the_first():
    samples = [("a0", 0), ("b0", 1), ("a1", 0), ("a2", 0), ("b1", 1), ("b2", 1)]
    repaired = with_replacements(samples, {"a1", "a2", "b2"})
    assert repaired == [("a0", 0), ("b0", 1), ("a0", 0), ("a0", 0), ("b1", 1), ("b0", 1)]


def test_skipping_gives_the_same_images_whether_they_are_decoded_kept_or_loaded_by_workers(photos):
    root, _, _ = photos
    chosen = {"on_bad_image": "skip", "batch_size": 5}
    expected = batches(image_folders(root, 16, pixels_gb=0, **chosen))
    for options in ({"pixels_gb": 4}, {"pixels_gb": 0, "num_workers": 2}, {"pixels_gb": 4, "num_workers": 2}):
        data = image_folders(root, 16, **options, **chosen)
        data.setup("fit")
        assert same(batches(data), expected)


def test_images_are_checked_once(photos, monkeypatch):
    root, bad, _ = photos
    first = image_folders(root, 16, on_bad_image="skip")
    monkeypatch.setattr(readable, "load_rgb", None)
    second = image_folders(root, 16, on_bad_image="skip", seed=1)
    assert second.skipped == first.skipped
    monkeypatch.undo()
    bad.write_bytes((root / "train" / "bees" / "3.png").read_bytes())
    assert image_folders(root, 16, on_bad_image="skip").skipped["train"] == [], "what a file holds counts"


def test_a_damaged_verdict_is_found_anew(photos, tmp_path):
    root, bad, _ = photos
    paths = [str(bad), str(root / "train" / "bees" / "3.png")]
    assert unreadable(paths, file_digests(paths), 16) == {str(bad)}
    (verdict,) = (tmp_path / "thaw-cache" / "unreadable").glob("*.json")
    verdict.write_text("[")
    assert unreadable(paths, file_digests(paths), 16) == {str(bad)}


def test_more_than_a_hundredth_of_bad_images_is_too_many(image_folder):
    root = image_folder(train=3, val=101, size=12)
    for number in range(3):
        cut(root / "val" / "bees" / f"{number}.png")
    with pytest.raises(RunError, match=r"3 of 202 val images cannot be decoded.*1%.*bees/0\.jpg, .*bees/2\.jpg\."):
        image_folders(root, 16, on_bad_image="skip")
    (root / "val" / "bees" / "0.jpg").unlink()
    assert len(image_folders(root, 16, on_bad_image="skip").val) == 199


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_without_a_good_image_is_refused(image_folder, split):
    root = image_folder(**{split: 1})
    cut(root / split / "bees" / "0.png")
    with pytest.raises(RunError, match=f"no {split} image of the class 'bees' can be decoded"):
        image_folders(root, 16, on_bad_image="skip")


def test_an_unknown_way_with_bad_images_is_refused(image_folder):
    with pytest.raises(UserError, match=r"data\.on_bad_image='ignore' is unknown; the choices are error, skip\."):
        image_folders(image_folder(), 16, on_bad_image="ignore")


def test_a_bad_test_image_is_told_before_training_and_not_after_it(image_folder):
    root = image_folder()
    shutil.copytree(root / "val", root / "test")
    cut(root / "test" / "ants" / "2.png")
    with pytest.raises(UnreadableImageError, match=r"test/ants/2\.jpg"):
        image_folders(root, 16)
    data = image_folders(root, 16, on_bad_image="skip")
    assert relative(data.skipped["test"], root) == ["test/ants/2.jpg"]
    assert len(data.test) == 9


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_an_image_that_goes_bad_in_the_middle_of_an_epoch_stops_the_run_and_keeps_the_epochs_before(
    tiny_run, image_folder, tmp_path, caplog, without_pictures, workers
):
    root = image_folder(train=30)
    broken = root / "train" / "bees" / "4.png"
    spoiler = ["+callbacks.spoiler._target_=callbacks.Spoiler", f"+callbacks.spoiler.path={broken}"]
    decoding = ["data.pixels_gb=0", "features.views=0", f"data.num_workers={workers}", "callbacks.last.share=1e9"]
    with pytest.raises(SystemExit) as raised:
        main(tiny_run(*spoiler, "+callbacks.spoiler.epoch=2", *decoding, "trainer.max_epochs=4", root=root))
    assert raised.value.code == 1
    messages = [record.message for record in caplog.records if record.name == "thaw.errors"]
    assert len(messages) == 1 and messages[0].startswith(f"error: cannot read the image {broken}: ")
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "failed"
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert 1 <= last["epoch"] + 1 == len(rows(tmp_path / "run/metrics.csv")) < 4


PATHS = {
    "decoded each time": ["data.pixels_gb=0", "features.views=0"],
    "kept decoded": ["data.pixels_gb=4", "features.views=0"],
    "features": ["data.pixels_gb=4", "features.views=1"],
    "features of what is decoded each time": ["data.pixels_gb=0", "features.views=1", "data.num_workers=2"],
}


@pytest.mark.slow
def test_a_run_that_skips_ends_the_same_way_on_every_path_and_counts(
    tiny_run, photos, tmp_path, caplog, without_pictures
):
    root, _, _ = photos
    caplog.set_level(logging.INFO, "thaw")
    exact = ["trainer.precision=32-true", "data.augment=false", "data.on_bad_image=skip"]
    found = {}
    for number, options in enumerate(PATHS.values()):
        caplog.clear()
        main(tiny_run(*exact, *options, root=root, folder=str(number)))
        summary = json.loads((tmp_path / str(number) / "summary.json").read_text())
        assert (summary["status"], summary["skipped"]) == ("finished", {"train": 1, "val": 1})
        assert caplog.text.count("train/bees/4.jpg") == 1
        predictions = rows(tmp_path / str(number) / "predictions.csv")
        assert len(predictions) == summary["val"]["n"] == 9
        assert "val/ants/2.jpg" not in {row["path"] for row in predictions}
        found[number] = summary["fingerprint"], [float(row["p_ants"]) for row in predictions]
    for fingerprint, probabilities in found.values():
        assert fingerprint == found[0][0]
        assert probabilities == pytest.approx(found[0][1], abs=1e-4)
