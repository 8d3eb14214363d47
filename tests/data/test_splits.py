"""Who is learned from and who is validated on, whatever the folders look like."""

import hashlib
import itertools
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.data.datamodule import image_folders
from thaw.data.description import copies_in_training
from thaw.data.layout import is_divided
from thaw.data.splits import read_splits
from thaw.errors import UserError


@pytest.fixture
def class_folders(tmp_path):
    """Writes root/<class>/<n>.png, `counts` of each class, every image different."""

    def write(counts, name="photos"):
        random = np.random.default_rng(0)
        for folder, count in counts.items():
            (tmp_path / name / folder).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / folder / f"{number:03d}.png")
        return tmp_path / name

    return write


def contents(split):
    return {hashlib.sha256(Path(path).read_bytes()).hexdigest() for path, _ in split.samples}


def paths(split):
    return {path for path, _ in split.samples}


@pytest.mark.parametrize("layout", ["three folders", "class folders"])
def test_an_index_means_the_same_class_everywhere_whatever_the_order_in_which_folders_are_listed(
    image_folder, monkeypatch, layout
):
    root = image_folder(("ants", "bees", "cows"), train=3, val=2)
    if layout == "three folders":
        shutil.copytree(root / "val", root / "test")
    else:
        (root / "val").rename(root / "test")
        for folder in list((root / "train").iterdir()):
            folder.rename(root / folder.name)
        (root / "train").rmdir()
    real = Path.iterdir
    for order in itertools.permutations(range(4)):
        monkeypatch.setattr(Path, "iterdir", lambda path, order=order: iter(_in_order(real(path), order)))
        data = image_folders(root, 16)
        assert data.classes == ["ants", "bees", "cows"]
        for images in data.splits.values():
            assert all(Path(path).parent.name == data.classes[label] for path, label in images.samples)
            assert set(images.targets) == {0, 1, 2}


def _in_order(listed, order):
    listed = sorted(listed)
    return [listed[place] for place in order if place < len(listed)] + listed[len(order) :]


def test_class_folders_alone_are_divided_class_by_class(class_folders):
    splits = read_splits(class_folders({"ants": 20, "bees": 11, "cows": 2}), val_fraction=0.25)
    assert Counter(label for _, label in splits.val.samples) == {0: 5, 1: 3, 2: 1}
    assert Counter(label for _, label in splits.train.samples) == {0: 15, 1: 8, 2: 1}
    assert not paths(splits.train) & paths(splits.val)
    assert splits.split_note == "25 % of each class, drawn by Thaw"


def test_a_draw_follows_from_the_images_alone(class_folders):
    root = class_folders({"ants": 12, "bees": 9})
    drawn = [image_folders(root, 16, seed=seed).val.paths for seed in (0, 1)]
    assert drawn[0] == drawn[1], "or runs with other seeds could not be compared"
    before = contents(read_splits(root).val)
    for folder in ("ants", "bees"):
        for number, path in enumerate(sorted((root / folder).iterdir(), reverse=True)):
            path.rename(path.with_name(f"renamed {number}.png"))
    assert contents(read_splits(root.rename(root.with_name("elsewhere"))).val) == before
    more = root.with_name("elsewhere")
    Image.new("RGB", (9, 9)).save(more / "bees" / "new.png")
    assert len(contents(read_splits(more).val) - before) <= 1, "a new image moves no others"


@pytest.mark.parametrize("how", [{}, {"folds": 3}])
def test_copies_of_an_image_are_never_on_both_sides(class_folders, how):
    root = class_folders({"ants": 15, "bees": 15})
    for number in range(4):
        shutil.copy(root / "ants" / f"{number:03d}.png", root / "ants" / f"copy of {number}.png")
        shutil.copy(root / "ants" / f"{number:03d}.png", root / "ants" / f"again {number}.png")
    shutil.copy(root / "bees" / "000.png", root / "ants" / "mistaken.png")
    for fold in range(how.get("folds", 1)):
        splits = read_splits(root, **how, fold=fold)
        assert not contents(splits.train) & contents(splits.val)
        assert len(splits.train.samples) + len(splits.val.samples) == 39


def test_every_class_is_validated_even_if_all_of_its_images_are_there_many_times(class_folders):
    root = class_folders({"ants": 2, "bees": 5})
    for number, copy in itertools.product(range(2), range(4)):
        shutil.copy(root / "ants" / f"{number:03d}.png", root / "ants" / f"{number} {copy}.png")
    splits = read_splits(root, val_fraction=0.1)
    assert Counter(label for _, label in splits.val.samples) == {0: 5, 1: 1}
    assert Counter(label for _, label in splits.train.samples) == {0: 5, 1: 4}


@pytest.mark.parametrize("divided", [False, True])
def test_folds_validate_every_image_once_and_are_alike(class_folders, image_folder, divided):
    if divided:
        root = image_folder(train=13, val=4)
        everything = set(map(str, root.rglob("*.png")))
    else:
        root = class_folders({"ants": 17, "bees": 17})
        everything = set(map(str, root.rglob("*.png")))
    folds = [read_splits(root, folds=5, fold=fold) for fold in range(5)]
    assert sorted(path for splits in folds for path, _ in splits.val.samples) == sorted(everything)
    for splits in folds:
        assert paths(splits.train) == everything - paths(splits.val)
        assert set(Counter(label for _, label in splits.val.samples).values()) <= {3, 4}
    assert {len(splits.val.samples) for splits in folds} <= {6, 7}
    assert folds[2].split_note == "fold 2 of 0 to 4, drawn by Thaw"


def test_test_images_are_in_no_fold(image_folder):
    root = image_folder(train=4, val=3)
    shutil.copytree(root / "val", root / "test")
    splits = read_splits(root, folds=2)
    tested = {str(path) for path in (root / "test").rglob("*.png")}
    assert paths(splits.test) == tested
    assert not (paths(splits.train) | paths(splits.val)) & tested


def test_a_class_may_be_called_test(class_folders):
    splits = read_splits(class_folders({"control": 5, "test": 5}))
    assert (splits.classes, splits.test) == (["control", "test"], None)


def test_test_images_of_other_classes_are_refused(image_folder):
    root = image_folder()
    shutil.copytree(root / "val", root / "test")
    (root / "test" / "bees").rename(root / "test" / "wasps")
    with pytest.raises(UserError, match=r"train and test must have the same class folders, .* wasps only in .*test"):
        read_splits(root)


def test_training_images_alone_are_not_divided_and_the_way_to_do_it_is_told(image_folder):
    root = image_folder()
    shutil.rmtree(root / "val")
    with pytest.raises(UserError, match=r"no folder .*val: .*holds train.* or only class folders"):
        read_splits(root)


@pytest.mark.parametrize("names", [("Train", "Val"), ("training", "validation")])
def test_splits_with_other_names_are_not_taken_for_classes(image_folder, names):
    root = image_folder()
    for name, other in zip(("train", "val"), names, strict=True):
        (root / name).rename(root / f"{name}_")
        (root / f"{name}_").rename(root / other)
    with pytest.raises(UserError, match=f"named like splits, not like classes: {names[0]}, {names[1]}"):
        read_splits(root)


def test_a_folder_of_data_sets_is_not_taken_for_one(image_folder):
    root = image_folder(name="all/photos").parent
    image_folder(name="all/drawings")
    with pytest.raises(UserError, match=r"drawings holds folders named like splits, not like classes: train, val"):
        read_splits(root)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"val_fraction": 0}, r"data\.val_fraction=0 must be above 0 and below 1\."),
        ({"val_fraction": 1}, r"data\.val_fraction=1 must be above 0 and below 1\."),
        ({"val_fraction": "some"}, r"data\.val_fraction='some' must be above 0 and below 1\."),
        ({"folds": 1}, r"data\.folds=1 must be null or a whole number of at least 2\."),
        ({"fold": 2}, r"data\.fold=2 needs data\.folds"),
        ({"folds": 4, "fold": 4}, r"data\.fold=4 must be a whole number from 0 to 3; 'data\.fold=range\(4\)'"),
        ({"folds": 5}, r"data\.folds=5 is not possible: each of 5 parts needs an image of 'bees', .* only 3 "),
        ({"val_fraction": 0.2, "counts": {"bees": 1}}, r"data\.val_fraction=0\.2 is not possible: .*'bees'"),
    ],
)
def test_a_split_that_cannot_be_is_refused(class_folders, asked, sentence):
    root = class_folders({"ants": 6, "bees": 3, **asked.get("counts", {})})
    asked = {name: value for name, value in asked.items() if name != "counts"}
    with pytest.raises(UserError, match=sentence):
        read_splits(root, **asked)


@pytest.mark.parametrize("layout", ["train and val", "class folders"])
@pytest.mark.parametrize("folds", [None, 3])
def test_validation_images_can_become_test_images(class_folders, image_folder, layout, folds):
    root = image_folder(train=12, val=5) if layout == "train and val" else class_folders({"ants": 15, "bees": 20})
    usual = read_splits(root)
    nested = [read_splits(root, 0.2, folds, fold, val_as_test=True) for fold in range(folds or 1)]
    for splits in nested:
        assert paths(splits.test) == paths(usual.val), "the images that a run without the option validates on"
        assert paths(splits.train) | paths(splits.val) == paths(usual.train)
        assert not paths(splits.train) & paths(splits.val)
        assert {label for _, label in splits.val.samples} == {0, 1}
        assert len(splits.val.samples) == pytest.approx(len(usual.train.samples) / (folds or 5), abs=2)
    if folds:
        assert set.union(*(paths(splits.val) for splits in nested)) == paths(usual.train)
    hidden = read_splits(root, val_as_test=True, test=False)
    assert hidden.test is None and paths(hidden.train) == paths(read_splits(root, val_as_test=True).train)


def test_test_images_can_be_left_out_and_are_not_replaced(image_folder):
    root = image_folder()
    shutil.copytree(root / "val", root / "test")
    assert read_splits(root).test and read_splits(root, test=False).test is None
    assert paths(read_splits(root, test=False).val) == paths(read_splits(root).val)
    with pytest.raises(UserError, match=r"data\.val_as_test=true: .* has test images already"):
        read_splits(root, val_as_test=True)


def test_the_description_says_how_images_are_divided(class_folders, image_folder):
    root = class_folders({"ants": 10, "bees": 10})
    (root / "notes.txt").touch()
    described = image_folders(root, 16).describe()
    assert "16 training and 4 validation images of 2 classes (ants, bees), validated on 20 % of each class" in described
    assert described.endswith("not read because they have no image file extension or no class folder: notes.txt")
    root = image_folder(name="divided")
    shutil.copytree(root / "val", root / "test")
    sentence = "and 10 test images; exact copies of training images: 0 validation images and 0 test images"
    assert image_folders(root, 16).describe().endswith(sentence)


@pytest.mark.parametrize("names", [("car", "plane", "train"), ("car", "plane", "val"), ("bike", "car", "training")])
def test_a_class_may_be_called_like_a_split_among_others(class_folders, names):
    root = class_folders(dict.fromkeys(names, 5))
    assert (read_splits(root).classes, is_divided(root)) == (list(names), False)


def test_train_and_val_without_classes_in_them_are_no_classes(class_folders):
    with pytest.raises(UserError, match=r"train needs at least two class folders, but there is none"):
        read_splits(class_folders(dict.fromkeys(("images", "masks", "train", "val"), 3)))


def test_train_and_val_with_classes_in_them_are_splits_whatever_lies_beside_them(image_folder):
    root = image_folder(("train", "val"))
    for name in ("docs", "masks"):
        (root / name).mkdir()
    splits = read_splits(root)
    assert (splits.classes, len(splits.train.samples)) == (["train", "val"], 12)


def test_validation_images_that_are_also_in_training_are_counted_before_training(image_folder):
    root = image_folder()
    shutil.copytree(root / "val", root / "test")
    for split, number in (("val", 0), ("val", 1), ("test", 2)):
        shutil.copy(root / "train" / "ants" / f"{number}.png", root / split / "ants" / f"seen {number}.png")
    data = image_folders(root, 16)
    assert copies_in_training(data.splits) == {"val": 2, "test": 1}
    described = data.describe()
    assert "; exact copies of training images: 2 validation images and 1 test image (scripts/audit_data.py" in described
