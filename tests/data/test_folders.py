import itertools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from torchvision.datasets import ImageFolder

from thaw.data.folders import ClassFolders
from thaw.data.layout import aligned_classes
from thaw.data.order import SeededOrder
from thaw.data.preprocessing import Preprocessing
from thaw.data.transforms import EvalTransform, TrainTransform
from thaw.errors import UserError

SMALL = Preprocessing(resize=18, crop=16)


def test_an_index_means_the_same_class_in_both_splits_whatever_the_order_of_the_folders(image_folder):
    for number, order in enumerate(itertools.permutations(["ants", "bees", "cows"])):
        root = image_folder(order, train=1, val=1, name=f"photos{number}")
        classes = aligned_classes(root / "train", root / "val")
        for split in ("train", "val"):
            images = ClassFolders(root / split, classes, transform=None)
            assert all(f"/{classes[label]}/" in path for path, label in images.samples)


def test_classes_that_differ_are_named(image_folder):
    root = image_folder(("ants", "bees"))
    (root / "val" / "bees").rename(root / "val" / "wasps")
    with pytest.raises(UserError, match=r"bees only in .*train and wasps only in .*val"):
        aligned_classes(root / "train", root / "val")


def test_hidden_folders_are_no_classes(image_folder):
    root = image_folder()
    (root / "train" / ".ipynb_checkpoints").mkdir()
    assert aligned_classes(root / "train", root / "val") == ["ants", "bees"]


def test_one_class_is_refused(image_folder):
    root = image_folder(("ants",))
    with pytest.raises(UserError, match=r"at least two class folders, but there is only 'ants'"):
        aligned_classes(root / "train", root / "val")


def test_a_missing_split_is_named_with_what_is_there(image_folder):
    root = image_folder()
    (root / "val").rename(root / "validation")
    with pytest.raises(UserError, match=r"no folder .*val: .*holds train, validation"):
        aligned_classes(root / "train", root / "val")


def test_an_empty_class_is_named(image_folder):
    root = image_folder()
    (root / "train" / "cows").mkdir()
    with pytest.raises(UserError, match=r"no images in .*train/cows"):
        ClassFolders(root / "train", ["ants", "bees", "cows"], transform=None)


def test_files_that_are_not_read_are_listed(image_folder):
    root = image_folder()
    (root / "train" / "ants" / "none.gif").touch()
    (root / "train" / "notes.txt").touch()
    (root / "train" / ".hidden").touch()
    ignored = ClassFolders(root / "train", ["ants", "bees"], transform=None).ignored
    assert [os.path.basename(path) for path in ignored] == ["none.gif", "notes.txt"]


def test_a_seeded_item_depends_on_its_seed_alone(image_folder):
    images = ClassFolders(image_folder() / "train", ["ants", "bees"], TrainTransform(16, (0.1, 1), 15))
    torch.manual_seed(1)
    first = images.augmented((3, 77))[0]
    state = torch.get_rng_state()
    assert images.augmented((3, 77))[0].equal(first)
    assert not images.augmented((3, 78))[0].equal(first)
    assert torch.get_rng_state().equal(state), "the run's own random numbers must not move"


def test_an_epochs_order_is_a_shuffle_fixed_by_seed_and_epoch():
    order = SeededOrder(20, seed=5)
    first = list(order)
    assert sorted(index for index, _ in first) == list(range(20)) != [index for index, _ in first]
    assert list(order) == first == list(SeededOrder(20, seed=5))
    order.set_epoch(1)
    assert dict(order) != dict(first)
    assert list(SeededOrder(20, seed=6)) != first


@pytest.mark.parametrize("size", [12, 14, 15, 13])
def test_the_batches_of_several_processes_are_together_those_of_one(size):
    def batches(order, count):
        items = list(order)
        assert len(items) == len(order)
        return [set(items[start : start + count]) for start in range(0, len(items), count)]

    alone = batches(SeededOrder(size, seed=1), 6)
    ranks = [batches(SeededOrder(size, 1, batch_size=6, rank=rank, processes=2), 3) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1]), "or a process would wait for the others forever"
    left_out = 1 if size % 6 == 1 else 0
    assert [first | second for first, second in zip(*ranks, strict=True)] == alone[: len(alone) - left_out]


def test_a_digest_is_the_same_for_the_same_images_wherever_they_lie(image_folder):
    digests = [
        ClassFolders(image_folder(name=name) / "train", ["ants", "bees"], EvalTransform(SMALL), 36).digest
        for name in ("here", "there")
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 64


def test_a_digest_changes_with_an_image_and_with_whatever_is_done_to_it(image_folder):
    root = image_folder() / "train"

    def digest(transform=TrainTransform(16, (0.1, 1.0), 15), short_side=36):  # noqa: B008
        return ClassFolders(root, ["ants", "bees"], transform, short_side).digest

    transforms = [
        TrainTransform(17, (0.1, 1.0), 15),
        TrainTransform(16, (0.2, 1.0), 15),
        TrainTransform(16, (0.1, 0.9), 15),
        TrainTransform(16, (0.1, 1.0), 14),
        TrainTransform(16, (0.1, 1.0), 15, "bicubic"),
        EvalTransform(SMALL),
        EvalTransform(Preprocessing(18, 17)),
        EvalTransform(Preprocessing(19, 16)),
        EvalTransform(Preprocessing(18, 16, "bicubic")),
    ]
    digests = [digest(), digest(short_side=35), *map(digest, transforms)]
    path = root / "bees" / "3.png"
    stamp, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    digests.append(digest())
    assert len(set(digests)) == len(digests)


@pytest.mark.slow
def test_a_digest_is_equal_in_another_process(image_folder):
    images = ClassFolders(image_folder() / "train", ["ants", "bees"], EvalTransform(SMALL), 36)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(digest_in_process, images.root).result() == images.digest


def digest_in_process(root):
    return ClassFolders(Path(root), ["ants", "bees"], EvalTransform(SMALL), 36).digest


def test_a_split_is_an_image_folder_of_torchvisions_with_the_classes_in_the_order_that_is_asked_for(image_folder):
    folders = ClassFolders(image_folder() / "train", ["bees", "ants"], transform=None)
    theirs = ImageFolder(str(image_folder(name="again") / "train"))
    assert isinstance(folders, ImageFolder)
    assert (folders.classes, folders.class_to_idx) == (["bees", "ants"], {"bees": 0, "ants": 1})
    assert len(folders) == len(theirs) and sorted(folders.targets) == sorted(theirs.targets)
