"""A heap becomes a data set."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from conftest import ROOT, rows
from heap import CLASSES, Heap, snapshot
from PIL import Image

from thaw.curation.audit import audit
from thaw.curation.decisions import plan
from thaw.curation.inspection import Inspection
from thaw.curation.placement import place, places
from thaw.curation.prepare import Request, prepare
from thaw.curation.source_tree import Tree, read_tree, scan
from thaw.curation.split import Shares, assign
from thaw.errors import UserError

SCRIPT = [sys.executable, str(ROOT / "scripts" / "prepare_data.py")]


@pytest.fixture
def heap(tmp_path):
    return Heap(tmp_path / "heap", 10)


def tree_of(root):
    """Contents by name, but for lists that name the folder."""
    return {name: content for name, (content, _) in snapshot(root).items() if name != "prepared.json"}


def split_of(dest):
    return {row["path"]: row["split"] for row in rows(dest / "manifest.csv")}


def prepared(heap, dest, *, link="hard", pattern=None, **shares):
    return prepare(Request(heap.root, dest, Shares(**shares), pattern, link))


@pytest.mark.slow
def test_every_class_gives_the_number_that_is_asked_for(tmp_path):
    heap = Heap(tmp_path / "heap", 30)
    told = prepared(heap, tmp_path / "data", val=5, test=3, limit=20)
    counts = Counter((path.parent.parent.name, path.parent.name) for path in (tmp_path / "data").rglob("*.jpg"))
    assert counts == {(split, name): n for split, n in (("train", 12), ("val", 5), ("test", 3)) for name in CLASSES}
    assert Counter(split_of(tmp_path / "data").values()) == {"train": 24, "val": 10, "test": 6, "unused": 20}
    assert "unused" in told
    assert read_tree(tmp_path / "data" / "train").classes == list(CLASSES)


@pytest.mark.slow
def test_a_split_depends_on_contents_and_seed_and_not_on_names_or_order(heap, tmp_path):
    prepared(heap, tmp_path / "one", val=5)
    names = list(range(100, 130))
    random.Random(3).shuffle(names)
    other = tmp_path / "renamed"
    for path in heap.good:
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other / path.parent.name / f"{names[int(path.stem)]}.jpg")
    prepare(Request(other, tmp_path / "two", Shares(val=5)))
    val = [
        {row["sha256"] for row in rows(tmp_path / name / "manifest.csv") if row["split"] == "val"}
        for name in ("one", "two")
    ]
    assert val[0] == val[1]
    prepared(heap, tmp_path / "three", val=5, seed=1)
    assert split_of(tmp_path / "one") != split_of(tmp_path / "three")


@pytest.mark.slow
def test_copies_of_an_image_are_in_one_split(tmp_path):
    heap = Heap(tmp_path / "heap", 30)
    pairs = heap.plant_copies(16)
    prepared(heap, tmp_path / "data", val=12, test=6)
    splits = split_of(tmp_path / "data")
    together = [splits[str(a)] == splits[str(b)] for a, b in pairs]
    assert sum(together) >= 0.95 * len(pairs)
    assert len({splits[str(a)] for a, _ in pairs}) > 1, "not all of them in training"


def test_everything_wrong_is_set_aside_with_its_reason_and_nothing_else(heap, tmp_path):
    heap.plant_all()
    copy, twice = heap.root / "Cat" / "copy.jpg", heap.root / "Dog" / "cat.jpg"
    shutil.copy(heap.good[3], copy)
    shutil.copy(heap.good[4], twice)
    before = snapshot(heap.root)
    prepared(heap, tmp_path / "data", val=5)
    assert snapshot(heap.root) == before, "the source is as it was"
    found = defaultdict(set)
    for row in rows(tmp_path / "data" / "quarantine.csv"):
        found[row["kind"]].add(row["path"])
    unusable = ("empty", "truncated", "unreadable", "no image", "bomb", "stray", "hidden")
    expected = {kind: {path.as_posix() for path in heap.planted[kind]} for kind in unusable}
    expected |= {"copy": {"Cat/copy.jpg"}, "conflict": {"Cat/4.jpg", "Dog/cat.jpg"}}
    assert found == expected
    manifest = rows(tmp_path / "data" / "manifest.csv")
    assert list(manifest[0])[:7] == ["path", "class", "split", "sha256", "size", "mode", "verdict"]
    misnamed = [row for row in manifest if "used anyway" in row["verdict"]]
    assert {row["path"] for row in misnamed} == {path.as_posix() for path in heap.planted["misnamed"]}
    assert len(manifest) == sum(path.suffix in (".jpg", ".png") for path in heap.root.rglob("[!.]*"))


@pytest.mark.parametrize("link", ["hard", "symbolic", "copy"])
def test_files_are_linked_or_copied(heap, tmp_path, link):
    prepared(heap, tmp_path / "data", val=5, link=link)
    (path,) = (tmp_path / "data").glob("*/Cat/0.jpg")
    assert path.is_symlink() == (link == "symbolic")
    assert path.samefile(heap.good[0]) == (link != "copy")
    assert path.read_bytes() == heap.good[0].read_bytes()


def test_classes_can_be_in_the_names_of_files(tmp_path):
    heap = Heap(tmp_path / "heap", 8)
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in heap.good:
        shutil.copy(path, flat / f"{path.parent.name.lower()}.{path.name}")
    (flat / "notes.jpg").write_bytes(b"")
    prepare(Request(flat, tmp_path / "data", Shares(val=2), pattern="{class}.*.jpg"))
    names = sorted(path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.jpg"))
    assert len(names) == 16
    assert names[0].startswith("train/cat/cat.")
    assert [row["path"] for row in rows(tmp_path / "data" / "quarantine.csv")] == ["notes.jpg"]


def test_the_same_again_does_just_what_is_missing(heap, tmp_path):
    dest = tmp_path / "data"
    prepared(heap, dest, val=5)
    before = snapshot(dest)
    assert "there is nothing to do" in prepared(heap, dest, val=5)
    lost = sorted(dest.rglob("*.jpg"))[:3]
    for path in lost:
        path.unlink()
    assert "3 missing files were restored" in prepared(heap, dest, val=5)
    assert snapshot(dest) == before


def altered(heap, dest):
    heap.plant("new", "Cat/new.jpg", heap.picture("new"))
    prepared(heap, dest, val=5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda heap, dest: prepared(heap, dest, val=6), "was prepared with val=5"),
        (altered, "from other files"),
        (lambda heap, dest: prepared(heap, heap.root / "data", val=5), "must not contain each other"),
        (lambda heap, dest: prepared(heap, heap.root.parent, val=5), "must not contain each other"),
        (lambda heap, dest: prepared(heap, dest.parent / "none", val=40), "none is left to train on"),
        (lambda heap, dest: prepared(heap, dest.parent / "none", val=5, pattern="cat"), "must contain {class} once"),
        (
            lambda heap, dest: prepare(Request(dest, dest.parent / "again", Shares())),
            "divided into train and val already",
        ),
        (lambda heap, dest: prepare(Request(dest.parent / "nowhere", dest, Shares())), "there is no folder"),
        (lambda heap, dest: prepare(Request(heap.root / "Cat", dest, Shares())), "0 classes"),
    ],
)
def test_what_cannot_be_done_is_reported_in_a_sentence(heap, tmp_path, change, told):
    dest = tmp_path / "data"
    prepared(heap, dest, val=5)
    before = snapshot(dest)
    with pytest.raises(UserError, match=told):
        change(heap, dest)
    assert snapshot(dest) == before


def test_a_folder_of_somebody_elses_is_not_touched(heap, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="was not made by this command"):
        prepared(heap, tmp_path / "data")


def test_copies_that_do_not_add_up_are_reported():
    groups = {"a": [0, 1, 2], "b": [3]}
    assert Counter(assign(groups, "cat", Shares(val=1)).values()) == {"train": 3, "val": 1}
    with pytest.raises(UserError, match="cannot give exactly 2 images to val"):
        assign(groups, "cat", Shares(val=2))


def test_near_copies_in_two_classes_are_both_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr("thaw.curation.decisions.similar_pairs", lambda paths, thumbnails: [(0, 7), (1, 2)])
    tree = Tree(tmp_path, [(Path(f"{name}/{n}.jpg"), name) for name in CLASSES for n in range(5)])
    found = [Inspection(path, 1, f"{n}", format="JPEG") for n, (path, _) in enumerate(tree.images)]
    entries = plan(tree, found, Shares(val=1))
    assert [entry.path for entry in entries if entry.kind == "conflict"] == [Path("Cat/0.jpg"), Path("Dog/2.jpg")]
    assert entries[1].split == entries[2].split


@pytest.mark.slow
def test_a_prepare_that_is_killed_at_any_moment_ends_as_one_that_was_not(tmp_path):
    heap = Heap(tmp_path / "heap", 150)
    heap.plant_all()
    heap.plant_copies(16)
    command = [*SCRIPT, str(heap.root), str(tmp_path / "killed"), "--val", "20", "--link", "copy"]
    start = time.monotonic()
    subprocess.run([*command[:3], str(tmp_path / "clean"), *command[4:]], check=True, capture_output=True)
    seconds, rng = time.monotonic() - start, random.Random(0)
    for _ in range(10):
        with subprocess.Popen(command, stdout=-3, stderr=-3, start_new_session=True) as process:
            time.sleep(rng.uniform(0.3, 1.0) * seconds)
            os.killpg(process.pid, signal.SIGKILL)
        assert not (tmp_path / "killed").exists() or (tmp_path / "killed" / "prepared.json").exists(), "all or nothing"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tree_of(tmp_path / "killed") == tree_of(tmp_path / "clean")
    assert sorted(path.name for path in tmp_path.iterdir() if "killed" in path.name) == ["killed"]
    assert json.loads((tmp_path / "killed" / "prepared.json").read_text())["val"] == 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_petimages_look_alike_of_2000_files_comes_out_with_each_defect_and_nothing_else(tmp_path):
    heap = Heap(tmp_path / "PetImages", 930)
    heap.plant_all()
    pairs = heap.plant_copies(100)
    assert len(list(heap.root.rglob("*"))) > 1980
    before = snapshot(heap.root)
    done = subprocess.run(
        [*SCRIPT, str(heap.root), str(tmp_path / "data"), "--val", "150"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert snapshot(heap.root) == before
    unusable = ("empty", "truncated", "unreadable", "no image", "bomb", "stray", "hidden")
    found = {(row["kind"], row["path"]) for row in rows(tmp_path / "data" / "quarantine.csv")}
    assert found == {(kind, path.as_posix()) for kind in unusable for path in heap.planted[kind]}
    assert Counter((p.parts[-3], p.parts[-2]) for p in (tmp_path / "data" / "val").rglob("*.*")) == {
        ("val", "Cat"): 150,
        ("val", "Dog"): 150,
    }
    splits = split_of(tmp_path / "data")
    assert sum(splits[str(a)] == splits[str(b)] for a, b in pairs) >= 0.95 * len(pairs)

    told = {finding.kind: {tuple(group) for group in finding.groups} for finding in audit(heap.root).findings}
    near = told.pop("near copy")
    assert told == {kind: {(path,) for path in paths} for kind, paths in heap.planted.items() if kind != "near copy"}
    expected = {tuple(sorted(pair)) for pair in pairs}
    assert len(near & expected) >= 0.95 * len(expected)
    assert len(near - expected) <= 2, "one in a thousand images"


def test_torch_is_not_imported_for_it():
    code = "import sys, thaw.curation.prepare, thaw.curation.audit_page; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_command_tells_mistakes_in_a_sentence(tmp_path):
    done = subprocess.run([*SCRIPT, "nowhere", "data"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: there is no folder nowhere.\n")


def test_images_of_any_depth_keep_their_place(tmp_path):
    heap = Heap(tmp_path / "heap", 6)
    (heap.root / "Cat" / "more").mkdir()
    Image.open(heap.good[0]).transpose(Image.Transpose.ROTATE_90).save(heap.root / "Cat" / "more" / "0.jpg")
    prepared(heap, tmp_path / "data", val=1)
    with (tmp_path / "data" / "manifest.csv").open() as file:
        assert "Cat/more/0.jpg" in {row["path"] for row in csv.DictReader(file)}
    assert len(list((tmp_path / "data").glob("*/Cat/more/0.jpg"))) == 1


@pytest.mark.parametrize("link", ["hard", "symbolic", "copy"])
def test_equal_names_in_several_folders_each_get_a_place(tmp_path, link):
    paths = [tmp_path / "heap" / name for name in ("a/cat.1.jpg", "b/cat.1.jpg", "b/c/CAT.1.jpg", "cat.2.jpg")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    heap, data = tmp_path / "heap", tmp_path / "data"
    targets = places([(path.relative_to(heap), "cat", "train") for path in paths], in_class_folders=False)
    place(targets, heap, data, link)
    assert [target.as_posix() for target in targets.values()] == [
        "train/cat/a/cat.1.jpg",
        "train/cat/b/cat.1.jpg",
        "train/cat/b/c/CAT.1.jpg",
        "train/cat/cat.2.jpg",
    ]
    assert [(data / target).read_text() for target in targets.values()] == [str(path) for path in paths]
    with pytest.raises(UserError, match=r"cat\.1\.jpg exists already: the file system of DEST treats two names"):
        place(targets, heap, data, link)


def test_a_class_in_a_name_that_would_be_hidden_or_lead_elsewhere_is_none(tmp_path):
    for name in ("x_cat.jpg", "x_dog.jpg", "x_..jpg", "x_...jpg", "x_.git.jpg"):
        (tmp_path / name).touch()
    assert scan(tmp_path, "x_{class}.jpg").classes == ["cat", "dog"]


def test_names_in_any_bytes_are_prepared_and_listed_as_those_bytes(tmp_path):
    heap = Heap(tmp_path / "heap", 4)
    latin = heap.root / os.fsdecode(b"caf\xe9")
    (heap.root / "Cat").rename(latin)
    (latin / "1.jpg").rename(latin / os.fsdecode(b"caf\xe9.jpg"))
    told = prepared(heap, tmp_path / "data", val=1)
    assert "caf\N{REPLACEMENT CHARACTER}" in told and told.encode()
    assert b"caf\xe9/caf\xe9.jpg,caf\xe9," in (tmp_path / "data" / "manifest.csv").read_bytes()
    assert len(list((tmp_path / "data").rglob("*.jpg"))) == 8
    assert "there is nothing to do" in prepared(heap, tmp_path / "data", val=1)


def test_a_link_that_leads_nowhere_is_set_aside_with_its_reason(tmp_path):
    heap = Heap(tmp_path / "heap", 3)
    (heap.root / "Cat" / "dead.jpg").symlink_to("nowhere.jpg")
    prepared(heap, tmp_path / "data", val=1)
    (aside,) = rows(tmp_path / "data" / "quarantine.csv")
    assert (aside["path"], aside["reason"]) == ("Cat/dead.jpg", "cannot be read (No such file or directory)")
    assert "there is nothing to do" in prepared(heap, tmp_path / "data", val=1)


def test_a_prepare_that_another_one_overtakes_has_nothing_to_do(tmp_path, monkeypatch):
    heap, dest = Heap(tmp_path / "heap", 3), tmp_path / "data"

    def overtaken(part, option):
        monkeypatch.undo()
        prepared(heap, dest, val=1)

    monkeypatch.setattr("thaw.curation.prepare.refuse_unwritable", overtaken)
    assert "there is nothing to do" in prepared(heap, dest, val=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "heap"]


def test_a_prepare_whose_lock_another_one_deletes_ends_with_a_sentence(tmp_path, monkeypatch):
    heap = Heap(tmp_path / "heap", 1)

    def acquire(lock, timeout):
        raise FileNotFoundError(lock.lock_file)

    monkeypatch.setattr("thaw.curation.prepare.FileLock.acquire", acquire)
    with pytest.raises(UserError, match="is being prepared by another process; wait until it ends"):
        prepared(heap, tmp_path / "data", val=1)
