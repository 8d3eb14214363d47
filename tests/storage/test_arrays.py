import numpy as np
import pytest

from thaw.storage.arrays import DamagedArrayError, read_array, write_array


@pytest.fixture
def written(tmp_path):
    rows = np.random.default_rng(0).integers(0, 2**16, (10, 3, 2), dtype=np.uint16)
    write_array(tmp_path, "rows", (rows[:4], rows[4:5], rows[5:]))
    return tmp_path, rows


def test_pieces_come_back_as_one_array(written):
    folder, rows = written
    array = read_array(folder, "rows")
    assert array.dtype == rows.dtype
    np.testing.assert_array_equal(array, rows)


def test_what_is_written_into_an_array_in_memory_stays_there(written):
    folder, rows = written
    read_array(folder, "rows")[:] = 0
    np.testing.assert_array_equal(read_array(folder, "rows"), rows)


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:-1] + b"\7", lambda data: b""]
)
def test_a_changed_file_is_not_read(written, change):
    folder, _ = written
    path = folder / "rows.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DamagedArrayError):
        read_array(folder, "rows")


@pytest.mark.parametrize("header", ["", "{}", "[]", '{"dtype": "<u2", "shape": [10, 3, 2], "checks": []}'])
def test_a_changed_header_is_not_read(written, header):
    folder, _ = written
    (folder / "rows.json").write_text(header)
    with pytest.raises(DamagedArrayError):
        read_array(folder, "rows")
