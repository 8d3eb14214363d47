"""What files held is known from the cache, and never wrongly."""

import hashlib
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from thaw.data import digests, file_index
from thaw.data.datamodule import image_folders
from thaw.data.digests import file_digests
from thaw.errors import UnreadableImageError
from thaw.storage.cache import cache_dir


@pytest.fixture(autouse=True)
def clocks_that_are_exact(monkeypatch):
    """Else files that were written in the last two seconds would not be kept."""
    monkeypatch.setattr(file_index, "_COARSE", -(10**18))


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "a folder" / name for name in ("1", "2", os.fsdecode(b"caf\xe9"))]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(os.fsencode(path.name) * 9)
    return paths


@pytest.fixture
def read(monkeypatch):
    """The files that are read from now on."""
    found, real = [], digests._file_digest
    monkeypatch.setattr(digests, "_file_digest", lambda path: (found.append(path), real(path))[1])
    return found


def by_hand(paths):
    return [hashlib.sha256(path.read_bytes()).digest() for path in paths]


def database():
    return cache_dir() / "files-1.sqlite"


@pytest.mark.parametrize("options", [{}, {"on_bad_image": "skip"}, {"folds": 2}])
def test_a_second_start_reads_no_image(image_folder, monkeypatch, options):
    def start():
        data = image_folders(root, 16, **options)
        data.setup("fit")
        return data.describe(), data.train.digest, data.val.digest, data.train.augmented((0, 1))[0].tolist()

    root = image_folder()
    first = start()
    for name in (
        "digests._file_digest",
        "pixel_cache.pixel_count",
        "pixel_cache.load_rgb",
        "readable.load_rgb",
        "folders.load_rgb",
    ):
        monkeypatch.setattr(f"thaw.data.{name}", None)
    assert start() == first


def test_a_file_is_read_again_only_if_it_has_changed(files, read):
    assert file_digests(files) == by_hand(files)
    assert read == files
    read.clear()
    files[0].write_bytes(b"x" * 9)
    facts = files[1].stat()
    files[1].write_bytes(b"y" * facts.st_size)
    os.utime(files[1], ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert file_digests([*files, files[0]]) == by_hand([*files, files[0]])
    assert sorted(read) == sorted([files[0], files[0], files[1]]), "the second has its old size and time"


def test_a_file_in_the_place_of_another_is_read(files, read):
    file_digests(files)
    other = files[0].with_name("other")
    other.write_bytes(b"z" * files[0].stat().st_size)
    os.utime(other, ns=(0, files[0].stat().st_mtime_ns))
    other.replace(files[0])
    assert file_digests(files) == by_hand(files)


def test_a_file_that_was_written_just_now_is_read_again(files, read, monkeypatch):
    monkeypatch.setattr(file_index, "_COARSE", 2 * 10**9)
    file_digests(files)
    file_digests(files)
    assert read == [*files, *files]


def test_a_file_from_the_future_is_kept(files, read):
    os.utime(files[0], (4e9, 4e9))
    file_digests(files[:1])
    file_digests(files[:1])
    assert read == files[:1]


def test_a_file_that_changes_while_it_is_read_is_not_kept(files, read, monkeypatch):
    real = digests._file_digest
    monkeypatch.setattr(digests, "_file_digest", lambda path: (real(path), path.write_bytes(b"new"))[0])
    file_digests(files[:1])
    monkeypatch.setattr(digests, "_file_digest", real)
    assert file_digests(files[:1]) == by_hand(files[:1])


def test_paths_are_the_same_from_everywhere(files, read, monkeypatch):
    file_digests(files)
    monkeypatch.chdir(files[0].parent)
    file_digests([path.name for path in files])
    monkeypatch.setattr(file_index, "_FEW", 0)
    file_digests(files)
    assert len(read) == len(files)


def test_a_damaged_index_is_made_anew_and_never_believed(files, read):
    file_digests(files)
    whole = database().read_bytes()
    damaged = [b"", b"no database", whole[: len(whole) // 2], whole[:4096] + b"\xff" * (len(whole) - 4096)]
    damaged += [whole.replace(by_hand(files)[0], bytes(32)), whole.replace(b"a folder", b"b folder")]
    for content in damaged:
        database().write_bytes(content)
        read.clear()
        assert file_digests(files) == by_hand(files)
        assert read
        file_digests(files)  # the first may have found it damaged only when it wrote
        read.clear()
        assert file_digests(files) == by_hand(files)
        assert read == [], "it is whole again"


def test_without_a_cache_that_can_be_written_files_are_read(files, read):
    database().mkdir(parents=True)
    assert file_digests(files) == file_digests(files) == by_hand(files)
    assert len(read) == 2 * len(files)


def test_several_processes_keep_what_each_has_found(tmp_path, read):
    paths = [tmp_path / str(number) for number in range(40)]
    for path in paths:
        path.write_text(path.name)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: file_digests(paths[start::8]), range(8)))
    assert parts == [by_hand(paths[start::8]) for start in range(8)]
    read.clear()
    file_digests(paths)
    assert read == []


def test_what_was_used_least_recently_is_forgotten(files, read, monkeypatch):
    monkeypatch.setattr(file_index, "_MOST", 2)
    file_digests(files[:2])
    with sqlite3.connect(database()) as changed:
        changed.execute("UPDATE files SET used = used - 100 WHERE path = ?", (os.fsencode(files[0]),))
        changed.execute("UPDATE files SET used = used - 50 WHERE path = ?", (os.fsencode(files[1]),))
    file_digests(files[:1])  # which is used now
    file_digests(files[2:])
    read.clear()
    file_digests([files[0], files[2]])
    assert read == []
    file_digests(files[1:2])
    assert read == files[1:2]


def test_a_file_that_cannot_be_read_is_named(files):
    with pytest.raises(UnreadableImageError, match=r"cannot read the image .*gone"):
        file_digests([*files, files[0].with_name("gone")])
    os.mkfifo(files[0].with_name("pipe"))
    with pytest.raises(UnreadableImageError, match=r"pipe: it is not a file\."):
        file_digests([files[0].with_name("pipe")])
