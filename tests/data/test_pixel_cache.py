import errno
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.data import pixel_cache
from thaw.data.digests import file_digests, joint_digest
from thaw.data.images import load_rgb
from thaw.data.pixel_cache import bytes_needed, stored_pixels
from thaw.errors import UnreadableImageError
from thaw.storage.cache import cache_dir

SIDE = 40


def contents_digest(paths):
    return joint_digest(file_digests(paths))


@pytest.fixture
def paths(tmp_path):
    """Of images of which some are larger than is needed."""
    random, sizes = np.random.default_rng(0), [(30, 50), (90, 120), (64, 48), (7, 7), (200, 41), (40, 40)]
    for number, size in enumerate(sizes):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"{number}.jpg")
    return [str(tmp_path / f"{number}.jpg") for number in range(len(sizes))]


def kept(paths, max_size=1e9):
    return stored_pixels(
        paths, contents_digest(paths), SIDE, bytes_needed(paths, contents_digest(paths), SIDE), max_size
    )


def is_decoded(stored, paths):
    expected = [np.asarray(load_rgb(path, SIDE)) for path in paths]
    return len(stored) == len(paths) and all(
        np.array_equal(np.asarray(stored[index]), image) for index, image in enumerate(expected)
    )


def entries():
    return [path for path in (cache_dir() / "pixels").iterdir() if path.suffix != ".lock"]


def test_what_is_kept_is_what_is_decoded(paths):
    assert is_decoded(kept(paths), paths)


def test_images_are_decoded_once(paths, monkeypatch):
    kept(paths)
    monkeypatch.setattr(pixel_cache, "load_rgb", None)
    stored = kept(paths)
    monkeypatch.undo()
    assert is_decoded(stored, paths)


def test_the_room_needed_is_known_from_headers(paths):
    kept(paths)
    (entry,) = entries()
    taken = sum(file.stat().st_size for file in entry.iterdir())
    assert (entry / "pixels.bin").stat().st_size < taken <= bytes_needed(paths, contents_digest(paths), SIDE) + 300


def test_a_changed_image_or_another_order_is_kept_apart(paths):
    first = kept(paths)
    Image.new("RGB", (12, 9), "red").save(paths[2])
    assert is_decoded(kept(paths), paths)
    assert is_decoded(kept(paths[::-1]), paths[::-1])
    assert len(entries()) == 3
    assert first[2].shape == (53, 40, 3)


@pytest.mark.parametrize("name", ["pixels.bin", "sizes.bin", "pixels.json"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:9] + b"#" + data[10:], None])
def test_a_damaged_store_is_made_anew(paths, name, damage):
    kept(paths)
    (entry,) = entries()
    if damage:
        (entry / name).write_bytes(damage((entry / name).read_bytes()))
    else:
        (entry / name).unlink()
    assert is_decoded(kept(paths), paths)


def keep_in_process(paths):
    return is_decoded(kept(paths), paths)


def test_two_processes_make_one_good_store(paths):
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(keep_in_process, [paths, paths])) == [True, True]
    assert len(entries()) == 1


def test_a_process_that_is_not_forked_reads_the_same_file(paths):
    stored = kept(paths)
    sent = pickle.dumps(stored)
    assert len(sent) < 2000, "not the pixels themselves"
    assert is_decoded(pickle.loads(sent), paths)
    Path(stored.pixels.filename).unlink()
    assert pickle.loads(sent) is None, "so that images are decoded"


def test_a_full_disk_leaves_nothing_behind_and_is_told(paths, monkeypatch, caplog):
    def full(folder, name, pieces):
        folder.mkdir(parents=True)
        next(iter(pieces))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pixel_cache, "write_array", full)
    assert kept(paths) is None
    assert not entries()
    assert "decoded for every epoch: [Errno 28] No space left on device" in caplog.text


def test_a_cache_that_cannot_be_written_is_told(paths, monkeypatch, caplog, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "file"))
    assert kept(paths) is None
    assert "decoded for every epoch" in caplog.text


def test_an_image_that_cannot_be_decoded_is_named_and_nothing_is_kept(paths):
    data = Path(paths[4]).read_bytes()
    Path(paths[4]).write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImageError, match=r"4\.jpg"):
        kept(paths)
    assert not entries()
    Path(paths[4]).unlink()
    with pytest.raises(UnreadableImageError, match=r"4\.jpg"):
        bytes_needed(paths, contents_digest(paths), SIDE)
    with pytest.raises(UnreadableImageError, match=r"4\.jpg"):
        contents_digest(paths)


def test_older_stores_make_room(paths):
    size = bytes_needed(paths, contents_digest(paths), SIDE) + 9000  # with what the folder itself takes
    kept(paths, max_size=1.5 * size)
    assert is_decoded(kept(paths[::-1], max_size=1.5 * size), paths[::-1])
    assert len(entries()) == 1
