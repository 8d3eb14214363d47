"""Which files are read, by every command alike."""

import io
import os

import pytest

from thaw.curation.source_tree import scan
from thaw.data.folders import ClassFolders
from thaw.data.layout import find_classes
from thaw.data.walk import walk
from thaw.errors import UserError
from thaw.inference.image_paths import image_paths
from thaw.inference.labelled_folder import read_labelled

CLASSES = ["cat", "dog"]


@pytest.fixture
def root(tmp_path):
    for name in ("photos/cat/1.jpg", "photos/cat/more/2.jpg", "photos/dog/1.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def read_by_every_command(root):
    """The images that training, audit and prepare, evaluate, predict and export --images read."""
    found = {
        "train": [path for path, _ in ClassFolders(root, CLASSES, transform=None).samples],
        "audit": [str(root / path) for path, _ in scan(root).images],
        "evaluate": [path for path, _ in read_labelled(root, CLASSES).samples],
        "predict": image_paths([str(root)], io.StringIO())[0],
        "pattern": image_paths([f"{root}/**/*.jpg"], io.StringIO())[0],
    }
    assert all(sorted(paths) == sorted(found["train"]) for paths in found.values()), found
    return {os.path.relpath(path, root) for path in found["train"]}


PLAIN = {"cat/1.jpg", "cat/more/2.jpg", "dog/1.jpg"}


def test_each_real_folder_is_read_once_whatever_links_lead_to_it(root):
    for link, target in (("cat/loop", "."), ("cat/all", ".."), ("cat/up", "../.."), ("a", "cat"), ("cat/d", "../dog")):
        (root / link).symlink_to(target)
    (root / "cat" / "itself").symlink_to("itself")
    (root / "a").unlink()
    assert read_by_every_command(root) == PLAIN
    assert walk(root).repeated == ["cat/all", "cat/d", "cat/loop", "cat/up"]
    assert ClassFolders(root, CLASSES, transform=None).repeated == [str(root / link) for link in walk(root).repeated]


def test_links_to_class_folders_and_to_files_are_followed(root, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in CLASSES:
        (linked / name).symlink_to(root / name)
    (root / "dog" / "same.jpg").symlink_to("1.jpg")
    assert read_by_every_command(linked) == PLAIN | {"dog/same.jpg"}


def test_a_class_keeps_its_images_where_its_folder_really_lies_in_that_of_another(root, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "cat").symlink_to(root / "cat")
    (linked / "dog").symlink_to(root / "cat" / "more")
    assert read_by_every_command(linked) == {"cat/1.jpg", "dog/2.jpg"}


def test_a_link_to_the_folder_of_the_classes_is_no_class(root):
    (root / "self").symlink_to(".")
    (root / "up").symlink_to("..")
    assert read_by_every_command(root) == PLAIN
    assert scan(root).classes == find_classes(root) == CLASSES


def test_paths_in_the_folder_where_one_is_are_as_short_as_can_be(root, monkeypatch):
    monkeypatch.chdir(root)
    os.mkfifo("pipe.jpg")
    assert image_paths(["."], io.StringIO())[0] == ["cat/1.jpg", "cat/more/2.jpg", "dog/1.jpg", "pipe.jpg"]
    assert image_paths(["**/1.jpg"], io.StringIO())[0] == ["cat/1.jpg", "dog/1.jpg"]


def test_two_classes_that_are_one_folder_are_refused(root):
    (root / "wolf").symlink_to("dog")
    with pytest.raises(UserError, match=r"no images in .*wolf \(wolf: a link to a folder that is read elsewhere"):
        ClassFolders(root, [*CLASSES, "wolf"], transform=None)


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/1.jpg",
        "._1.jpg",
        "__MACOSX/cat/1.jpg",
        "@eaDir/1.jpg/thumb.jpg",
        ".hidden.jpg",
        "~$1.jpg",
        "__pycache__/1.jpg",
        "more/.x/1.jpg",
    ],
)
def test_what_is_hidden_or_left_by_a_system_is_no_image_of_a_class(root, name):
    path = root / "cat" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert read_by_every_command(root) == PLAIN
    assert len(walk(root).hidden) == 1


def test_hidden_folders_are_no_classes_and_a_hidden_root_is_read(root, tmp_path):
    (root / "__MACOSX").mkdir()
    (root / "Thumbs.db").touch()
    assert scan(root).classes == CLASSES
    hidden = root.rename(tmp_path / ".photos")
    assert read_by_every_command(hidden) == PLAIN


def test_a_link_to_nothing_is_a_file_and_a_pipe_is_none(root):
    (root / "cat" / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(root / "cat" / "pipe.jpg")
    found = walk(root)
    assert "gone.jpg" in found.files["cat"]
    assert found.special == ["cat/pipe.jpg"]
    assert str(root / "cat/pipe.jpg") in ClassFolders(root, CLASSES, transform=None).ignored


def test_a_folder_that_cannot_be_opened_is_told(root, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(UserError, match=r"the folder .*photos.* cannot be opened: Permission denied\."):
        walk(root)


def test_images_come_class_by_class_folder_by_folder(tmp_path):
    for name in ("b/2.jpg", "b/1.jpg", "b-2/1.jpg", "b/sub/0.jpg", "a/9.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    images = ClassFolders(tmp_path, ["b", "b-2", "a"], transform=None)
    relative = [(os.path.relpath(path, tmp_path), label) for path, label in images.samples]
    assert relative == [("a/9.jpg", 2), ("b/1.jpg", 0), ("b/2.jpg", 0), ("b/sub/0.jpg", 0), ("b-2/1.jpg", 1)]
