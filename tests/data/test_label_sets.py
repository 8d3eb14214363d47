"""Images with several labels: tables in two layouts say the same, and every split gets its share of every label."""

import csv
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from thaw.data.datamodule import image_folders
from thaw.data.label_strata import divided, nested_share
from thaw.data.label_table import read_label_table
from thaw.errors import UserError

NAMES = ("bird", "cat", "dog")


def write_table(path, lines):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    return path


@pytest.fixture
def photos(tmp_path):
    """Sixty images, each with a random set of labels, and these sets."""
    root, random = tmp_path / "photos", np.random.default_rng(0)
    root.mkdir()
    for number in range(60):
        Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(root / f"{number:02d}.png")
    members = random.random((60, 3)) < (0.5, 0.3, 0.15)
    return root, [[name for name, chosen in zip(NAMES, row, strict=True) if chosen] for row in members]


def joined(root, sets, name="labels.csv"):
    return write_table(
        root / name, [["path", "label"], *([f"{n:02d}.png", "|".join(one)] for n, one in enumerate(sets))]
    )


def labels_of(images):
    return {path: images.label_sets.name(label, images.classes) for path, label in images.samples}


def test_one_column_per_label_says_the_same_as_joined_labels(photos):
    root, sets = photos
    columns = [["path", *NAMES], *([f"{n:02d}.png", *(int(x in one) for x in NAMES)] for n, one in enumerate(sets))]
    tables = joined(root, sets), write_table(root / "columns.csv", columns)
    one, other = (image_folders(root, 16, table=str(table)) for table in tables)
    assert one.classes == other.classes == list(NAMES)
    assert labels_of(one.train) == labels_of(other.train)
    assert labels_of(one.val) == labels_of(other.val)
    expected = {str(root / f"{n:02d}.png"): "|".join(labels) for n, labels in enumerate(sets)}
    assert labels_of(one.train) | labels_of(one.val) == expected


def test_order_spaces_and_repetitions_of_labels_do_not_matter(photos):
    root, _ = photos
    lines = [["path", "label"], ["00.png", "dog | cat"], ["01.png", "cat|dog|cat"], ["02.png", "dog"], ["03.png", ""]]
    read = read_label_table(write_table(root / "labels.csv", lines), root)
    assert read.several and read.names == ["cat", "dog"]
    by_path = {image.path: image.labels for image in read.images}
    assert by_path == {"00.png": ("cat", "dog"), "01.png": ("cat", "dog"), "02.png": ("dog",), "03.png": ()}


@pytest.mark.parametrize(
    "lines, sentence",
    [
        ([["path", "cat", "dog"], ["00.png", 1, "yes"], ["01.png", "maybe", 0]], "row 3 of .* has 'maybe' in"),
        ([["path", "cat", "dog"], ["00.png", 1, 0], ["01.png", 1, 0]], "no image has the label 'dog'; remove"),
        ([["path", "cat", "d/g"], ["00.png", 1, 0]], "the header of .*: the label 'd/g' cannot be"),
        ([["path", "cat", "a|b"], ["00.png", 1, 0]], "the header of .*: 'a|b' cannot be the name of a label"),
        ([["path", "cat"], ["00.png", 1]], "needs a column label, or at least two columns"),
        ([["path", "cat", "Cat", "dog"], ["00.png", 1, 0, 1]], "the header of .*: 'cat' is there twice"),
        ([["path", "label"], ["00.png", "|"], ["01.png", " | "]], "no image has a label"),
        ([["path", "label"], ["00.png", "a|b/c"]], "row 2 of .*: the label 'b/c' cannot be"),
        ([["path", "label"], ["00.png", "a|b"], ["01.png", "a"]], "row 2 of .*: the label 'b' occurs once"),
        ([["path", "label"], ["00.png", "a|b"], ["00.png", "a"]], "rows 2 and 3 of .* the labels 'a.b' and 'a'"),
        ([["path", "label"], ["00.png", "a"], ["01.png", ""]], "row 3 of .* has no label"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused_with_the_row(photos, lines, sentence):
    root, _ = photos
    with pytest.raises(UserError, match=sentence):
        read_label_table(write_table(root / "labels.csv", lines), root)


@pytest.mark.parametrize("options", [{"val_fraction": 0.25}, {"folds": 4, "fold": 3}])
def test_every_split_gets_its_share_of_every_label(photos, options):
    root, sets = photos
    data = image_folders(root, 16, table=str(joined(root, sets)), **options)
    trained, validated = (one.label_sets.counts(one.targets) for one in (data.train, data.val))
    for label in range(3):
        assert abs(validated[label] - 0.25 * (trained[label] + validated[label])) <= 2
    assert abs(len(data.val) - 15) <= 2
    assert not {*data.train.paths} & {*data.val.paths}


@pytest.mark.parametrize("seed", range(5))
def test_each_part_gets_every_label_that_has_an_image_for_it(seed):
    random = np.random.default_rng(seed)
    members = random.random((400, 60)) < 0.5 / np.arange(1, 61)
    members[:2] = True  # so that every label has two images
    members[2:4, 55:] = True
    labels = [np.flatnonzero(row).tolist() for row in members]
    for shares, least in (([0.2, 0.8], 2), ([0.25] * 4, 4)):
        found = divided(labels, [[index] for index in range(400)], shares)
        counts = [members[sorted(part)].sum(0) for part in found]
        assert all((count[members.sum(0) >= least] > 0).all() for count in counts)


def test_lists_in_a_parquet_file_are_several_labels(photos):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pip install thaw[table]")
    root, sets = photos
    from pyarrow import parquet

    table = {"path": [f"{n:02d}.png" for n in range(60)], "label": sets}
    parquet.write_table(pyarrow.table(table), root / "labels.parquet")
    assert read_label_table(root / "labels.parquet", root) == read_label_table(joined(root, sets), root)


@pytest.mark.parametrize("seed", range(20))
def test_units_stay_together_and_parts_get_equal_shares(seed):
    random = np.random.default_rng(seed)
    images, classes, parts = int(random.integers(40, 200)), int(random.integers(2, 9)), int(random.integers(2, 6))
    labels = [np.flatnonzero(row).tolist() for row in random.random((images, classes)) < random.uniform(0.1, 0.6)]
    unit_of = random.integers(0, images, images)
    units = [np.flatnonzero(unit_of == unit).tolist() for unit in np.unique(unit_of)]
    found = divided(labels, units, [1 / parts] * parts)
    assert sorted(index for part in found for index in part) == list(range(images))
    assert all(any(set(unit) <= part for part in found) for unit in units)
    counts = [Counter(label for index in part for label in labels[index]) for part in found]
    for label in range(classes):
        wanted = sum(count[label] for count in counts) / parts
        assert all(abs(count[label] - wanted) <= 4 + 0.5 * wanted for count in counts)


def test_larger_shares_contain_smaller_ones_and_every_label():
    members = np.random.default_rng(0).random((300, 6)) < (0.5, 0.3, 0.2, 0.1, 0.05, 0.01)
    shares = [set(nested_share(members, share, np.random.default_rng(1))) for share in (0.02, 0.1, 0.5, 1.0)]
    assert all(a <= b for a, b in pairwise(shares))
    assert all(members[sorted(kept)].any(0).all() for kept in shares)
    assert len(shares[2]) in range(150, 157) and len(shares[3]) == 300


def test_balance_is_refused(photos):
    root, sets = photos
    with pytest.raises(UserError, match=r"data\.balance=weights needs images with one label each"):
        image_folders(root, 16, table=str(joined(root, sets)), balance="weights")


def test_a_changed_label_changes_the_fingerprint(photos):
    root, sets = photos
    before = image_folders(root, 16, table=str(joined(root, sets))).fingerprint
    assert image_folders(root, 16, table=str(joined(root, sets))).fingerprint == before
    changed = [one if n else sorted({*NAMES} - {*one}) for n, one in enumerate(sets)]
    assert image_folders(root, 16, table=str(joined(root, changed))).fingerprint != before
