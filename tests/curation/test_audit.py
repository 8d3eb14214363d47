"""What an audit finds, and what it does not."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from heap import Heap
from PIL import Image

from thaw.curation.audit import Audit, Doubt, _trees, audit
from thaw.curation.audit_page import facts, table, write_audit
from thaw.curation.source_tree import tabled_trees
from thaw.errors import UserError


@pytest.fixture
def heap(tmp_path):
    return Heap(tmp_path / "heap", 20)


def found(root):
    """Paths by the kind of finding, those together that have to do with each other."""
    return paths_by_kind(audit(root))


def paths_by_kind(done):
    return {
        finding.kind: sorted(tuple(path.as_posix() for path in group) for group in finding.groups)
        for finding in done.findings
    }


def split(heap, tmp_path, val=12):
    """The good pictures as a data set, the last `val` of a class for validation."""
    root = tmp_path / "data"
    for path in heap.good:
        name = "train" if int(path.stem) < 20 - val else "val"
        (root / name / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / name / path.parent.name / path.name)
    return root


def test_a_good_data_set_has_nothing_wrong(heap, tmp_path):
    assert found(heap.root) == {}
    assert found(split(heap, tmp_path, val=8)) == {}


def test_each_planted_defect_is_found_and_nothing_else(heap):
    heap.plant_all()
    expected = {kind: sorted((path.as_posix(),) for path in paths) for kind, paths in heap.planted.items()}
    assert found(heap.root) == expected


def test_copies_are_reported_by_the_problem_they_cause(heap, tmp_path):
    root = split(heap, tmp_path, val=8)
    shutil.copy(root / "train/Cat/1.jpg", root / "train/Cat/again.jpg")
    shutil.copy(root / "train/Cat/2.jpg", root / "val/Cat/seen.jpg")
    shutil.copy(root / "train/Cat/3.jpg", root / "val/Dog/other.jpg")
    with Image.open(root / "train/Dog/4.jpg") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "train/Dog/mirrored.jpg")
        image.resize((100, 80)).save(root / "val/Dog/smaller.jpg")
    with Image.open(root / "train/Dog/5.jpg") as image:
        image.save(root / "train/Dog/encoded.jpg", quality=50)
    assert found(root) == {
        "copy": [("train/Cat/1.jpg", "train/Cat/again.jpg")],
        "leak": [("train/Cat/2.jpg", "val/Cat/seen.jpg"),
                 ("train/Dog/4.jpg", "train/Dog/mirrored.jpg", "val/Dog/smaller.jpg")],
        "conflict": [("train/Cat/3.jpg", "val/Dog/other.jpg")],
        "near copy": [("train/Dog/5.jpg", "train/Dog/encoded.jpg")],
    }  # fmt: skip


def test_classes_that_are_empty_tiny_missing_or_unequal_are_reported(heap, tmp_path):
    root = split(heap, tmp_path, val=8)
    (root / "train" / "Cow").mkdir()
    (root / "val" / "Cow").mkdir()
    (root / "train" / "Ant").mkdir()
    for number in range(3):
        heap.picture(f"ant{number}").save(root / "train" / "Ant" / f"{number}.jpg")
    done = audit(root)
    assert paths_by_kind(done) == {
        "empty class": [("train/Cow",), ("val/Cow",)],
        "classes differ": [("val/Ant",)],
        "tiny class": [("train/Ant",)],
        "imbalance": [],
    }
    told = table(facts(done, None))
    assert "        1 class is missing from a split: val/Ant\n" in told
    assert "        2 classes have no images: train/Cow; val/Cow\n" in told
    assert "warning        classes have unequal sizes: 12 images of Cat and 3 images of Ant; see data.balance" in told


def test_classes_that_look_alike_are_reported_without_a_path(tmp_path):
    empty_files(tmp_path, "Käse/1.jpg", "Ka\u0308se/1.jpg", "dog/1.jpg")
    (told,) = [line for line in table(facts(audit(tmp_path), None)).splitlines() if "look the same" in line]
    assert told.startswith("error          names of classes look the same: ") and not told.endswith(".")


@pytest.mark.parametrize("count", [0, 1, 2, 11])
def test_doubtful_labels_are_counted_in_words(count):
    doubt = Doubt(Path("a/1.jpg"), "a", "b", 0.25, 0.75)
    lines = table(facts(Audit(Path("photos"), {}, [], []), [doubt] * count)).splitlines()
    heading = {
        0: "no label is doubtful",
        1: "1 label is doubtful:",
        2: "2 labels are doubtful:",
        11: "11 labels are doubtful; these are the first 10:",
    }[count]
    assert lines[lines.index(heading) + 1 :] == ["  a/1.jpg: 25% a, 75% b"] * min(count, 10)


def test_what_lies_beside_the_splits_is_stray_but_for_our_own_lists(heap, tmp_path):
    root = split(heap, tmp_path, val=8)
    for name in ("manifest.csv", "quarantine.csv", "prepared.json", "notes.txt", ".git"):
        (root / name).touch()
    assert found(root) == {"stray": [("notes.txt",)], "hidden": [(".git",)]}


@pytest.mark.slow
def test_the_exit_status_says_whether_a_result_would_be_distorted(heap, tmp_path, script, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = partial(script, "audit_data")
    status, told, _ = run("heap", "--out", "audit")
    assert (status, "no problems found" in told) == (0, True)
    heap.plant("misnamed", "Dog/really.jpg", heap.picture("bmp"), format="BMP")
    assert run("heap")[0] == 0, "it is read all the same"
    heap.plant("empty", "Dog/empty.jpg", b"")
    status, told, _ = run("heap")
    assert status == 1
    assert "error        1 file has no bytes: Dog/empty.jpg" in told
    told = json.loads((tmp_path / "outputs/audit/heap/audit.json").read_text())
    assert told["distorted"] is True
    assert run("nowhere") == (2, "", "error: there is no folder nowhere.\n")


def test_a_root_without_classes_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no classes"):
        audit(tmp_path / "empty")


@pytest.mark.slow
def test_the_page_shows_what_was_found(heap, tmp_path, browser):
    heap.plant_all()
    heap.plant_copies(8)
    told = facts(audit(heap.root), None)
    write_audit(tmp_path / "audit", told)
    assert json.loads((tmp_path / "audit" / "audit.json").read_text()) == told
    page = browser.new_context(offline=True).new_page()
    faults = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else faults.append(asked.url))
    page.goto((tmp_path / "audit" / "audit.html").as_uri())
    assert page.locator("#findings + .wide tbody tr").count() == len(told["findings"])
    page.locator(".together .card button").first.click()
    assert page.locator("dialog[open] img").is_visible()
    page.screenshot(path=tmp_path / "audit.png", full_page=True)
    assert faults == []


@pytest.mark.slow
def test_the_gif_among_the_ants_is_odd(photographs):
    told = table(facts(audit(photographs), None))
    assert "train/ants/imageNotFound.gif" in told
    assert "error" not in told


@pytest.mark.slow
def test_names_with_odd_characters_are_reported_as_they_are(heap, tmp_path):
    name = "Käse & <b>1.jpg"
    shutil.copy(heap.good[0], heap.root / "Cat" / name)
    write_audit(tmp_path / "audit", facts(audit(heap.root), None))
    assert "Käse &amp; &lt;b&gt;1.jpg" in (tmp_path / "audit" / "audit.html").read_text()
    assert found(heap.root) == {"copy": [("Cat/0.jpg", f"Cat/{name}")]}


def empty_files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_class_folders_alone_with_test_images_are_audited_as_they_are_trained_on(tmp_path):
    empty_files(tmp_path, "cat/1.jpg", "dog/1.jpg", "dog/2.jpg", "test/cat/1.jpg", "test/dog/1.jpg")
    assert {name: len(tree.images) for name, tree in _trees(tmp_path).items()} == {"": 3, "test": 2}


def test_a_class_called_train_is_one_of_several(tmp_path):
    empty_files(tmp_path, "car/1.jpg", "plane/1.jpg", "train/1.jpg")
    assert set(_trees(tmp_path)) == {""}


@pytest.mark.parametrize("divided", [True, False])
def test_a_table_that_says_what_folders_say_gives_the_same_findings(heap, tmp_path, divided):
    root = split(heap, tmp_path, val=8) if divided else heap.root
    start = root / "train" if divided else root
    shutil.copy(start / "Cat/1.jpg", start / "Cat/again.jpg")
    shutil.copy(start / "Cat/2.jpg", start / "Dog/other.jpg")
    (start / "Dog/empty.jpg").touch()
    images = [path.relative_to(root) for path in sorted(root.rglob("*.jpg"))]
    lines = [f"{path.as_posix()},{path.parts[-2]}" + f",{path.parts[0]}" * divided for path in images]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label" + ",split" * divided, *lines]))
    (root / "notes.txt").touch()  # not in the table, so not reported
    tabled, folders = paths_by_kind(audit(root, tabled_trees(root, tmp_path / "labels.csv"))), found(root)
    assert folders.pop("stray") == [("notes.txt",)]
    assert tabled == folders
    assert {"conflict", "copy", "empty"} <= folders.keys()
