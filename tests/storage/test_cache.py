import os
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from filelock import FileLock

from thaw.errors import UserError
from thaw.storage.cache import build_bounded, build_once, cache_dir


def build(name, content="made", keep=8, is_whole=lambda path: True):
    return build_once(f"things/{name}", lambda path: path.write_text(content), is_whole, keep)


def test_a_thing_is_built_once():
    assert build("a").read_text() == "made"
    assert build("a", "made again").read_text() == "made"


def test_what_is_not_whole_is_built_again():
    build("a")
    assert build("a", "made again", is_whole=lambda path: "again" in path.read_text()).read_text() == "made again"


def test_a_failed_build_leaves_nothing_behind():
    def fail(path):
        path.mkdir()
        (path / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once("things/a", fail, lambda path: True, keep=8)
    assert [entry.name for entry in (cache_dir() / "things").iterdir()] == ["a.lock"]


def test_leftovers_of_a_killed_build_are_removed():
    (cache_dir() / "things" / "a.part-dead").mkdir(parents=True)
    build("a")
    assert not list((cache_dir() / "things").glob("*.part-*"))


def test_the_most_recently_used_stay():
    for age, name in enumerate("abc"):
        os.utime(build(name), (1000 + age, 1000 + age))
    build("a")  # used again
    build("d", keep=2)
    assert sorted(path.name for path in (cache_dir() / "things").iterdir() if path.suffix != ".lock") == ["a", "d"]


def test_who_waits_for_another_process_is_told(caplog):
    caplog.set_level("INFO")
    build("a")
    with ThreadPoolExecutor() as pool, FileLock(f"{cache_dir()}/things/a.lock"):
        waiting = pool.submit(build, "a")
        deadline = time.monotonic() + 10
        while "waiting for another process" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not waiting.done()
    assert waiting.result().read_text() == "made"
    assert "waiting for another process" in caplog.text


def test_a_cache_that_cannot_be_written_is_told_with_the_cure(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cannot write to the cache folder .*set THAW_CACHE"):
        build("a")


def test_the_cache_lies_in_the_home_folder_by_default(monkeypatch):
    monkeypatch.delenv("THAW_CACHE")
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(cache_dir()) == "/home/ada/.cache/thaw"


def build_sized(name, size, max_size):
    def write(path):
        path.mkdir()
        (path / "data").write_bytes(bytes(size))

    return build_bounded(f"big/{name}", write, lambda path: True, size, max_size)


def entries():
    return sorted(path.name for path in (cache_dir() / "big").iterdir() if path.suffix != ".lock")


def test_what_was_used_least_recently_makes_room():
    for age, name in enumerate("abc"):
        os.utime(build_sized(name, 100, 1000), (1000 + age, 1000 + age))
    build_sized("a", 100, 300)  # used again, and nothing is built
    assert entries() == ["a", "b", "c"]
    build_sized("d", 100, 300)
    assert entries() == ["a", "c", "d"]


def test_without_room_on_the_disk_nothing_is_left(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=99))
    with pytest.raises(OSError, match="are needed"):
        build_sized("a", 100, 1000)
    assert entries() == []
