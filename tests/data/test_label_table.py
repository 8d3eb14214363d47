"""A table of labels gives the same run as folders, keeps groups together, and is refused with the row if it is bad."""

import csv
import shutil
import time

import numpy as np
import pytest
import torch
from conftest import rows
from PIL import Image

from thaw.comparison.compare import compare
from thaw.comparison.finished_runs import read_runs
from thaw.data.datamodule import image_folders
from thaw.data.label_table import read_label_table
from thaw.errors import UserError
from thaw.evaluation.statistics import GROUPED, Correctness, PairedTests
from thaw.storage.checkpoints import read_checkpoint
from train import main


def write_table(path, header, lines, encoding="utf-8", delimiter=","):
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *lines])
    return path


def as_table(root, path, split=True):
    """Write the table that says what the folders of `root` say, in random order."""
    lines = []
    for image in sorted(root.rglob("*.png")):
        place = image.relative_to(root)
        lines.append([place.as_posix(), place.parts[-2], *([place.parts[0]] if split else [])])
    np.random.default_rng(0).shuffle(lines)
    return write_table(path, ["path", "label", "split"][: 2 + split], lines)


@pytest.fixture
def photos(tmp_path):
    """Eight images with different content in one folder."""
    root, random = tmp_path / "photos", np.random.default_rng(0)
    root.mkdir()
    for number in range(8):
        Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(root / f"{number}.png")
    return root


@pytest.mark.parametrize("kind", ["splits", "drawn", "fold"])
def test_a_table_that_says_what_folders_say_gives_the_same_run(
    tiny_run, image_folder, tmp_path, without_pictures, kind
):
    root, options = image_folder(), ["strategy=fine_tune", "strategy.lr=0.1"]
    if kind == "drawn":
        shutil.copytree(root / "train", tmp_path / "whole")
        root = tmp_path / "whole"
    options += ["data.folds=3", "data.fold=1"] if kind == "fold" else []
    table = as_table(root, tmp_path / "labels.csv", split=kind != "drawn")
    main(tiny_run(*options, root=root, folder="folders"))
    main(tiny_run(*options, f"data.table={table}", root=root, folder="table"))
    folders, tabled = (tmp_path / name for name in ("folders", "table"))
    timeless = [
        [{k: v for k, v in row.items() if "second" not in k} for row in rows(run / "metrics.csv")]
        for run in (folders, tabled)
    ]
    assert timeless[0] == timeless[1]
    assert (folders / "predictions.csv").read_bytes() == (tabled / "predictions.csv").read_bytes()
    one, other = (read_checkpoint(run / "checkpoints" / "best.ckpt") for run in (folders, tabled))
    assert all(torch.equal(one["state_dict"][key], other["state_dict"][key]) for key in one["state_dict"])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_the_encodings_and_delimiters_of_spreadsheets_are_read(photos, tmp_path, encoding, delimiter):
    (photos / "0.png").rename(photos / "ä 0.png")
    lines = [["ä 0.png" if n == 0 else f"{n}.png", "café" if n % 2 else "ü", "note"] for n in range(8)]
    table = write_table(tmp_path / "labels.csv", ["File_Name ", "LABEL", "other"], lines, encoding, delimiter)
    images = read_label_table(table, photos).images
    assert {(image.path, image.labels[0]) for image in images} == {(path, label) for path, label, _ in lines}


def test_a_parquet_file_is_read_as_a_csv_file(photos, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[table]'")
    from pyarrow import parquet

    columns = {"path": [f"{n}.png" for n in range(8)], "label": [n % 2 for n in range(8)], "group": ["a", None] * 4}
    parquet.write_table(pyarrow.table(columns), tmp_path / "labels.parquet")
    lines = [[path, label, group or ""] for path, label, group in zip(*columns.values(), strict=True)]
    table = write_table(tmp_path / "labels.csv", list(columns), lines)
    assert read_label_table(tmp_path / "labels.parquet", photos) == read_label_table(table, photos)
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="not a Parquet file"):
        read_label_table(tmp_path / "bad.parquet", photos)


LINES = [[f"{n}.png", "ab"[n % 2], "train" if n < 4 else "val", ""] for n in range(8)]


def changed(row, column, value):
    lines = [list(line) for line in LINES]
    lines[row][column] = value
    return lines


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (changed(2, 0, "gone.png"), "row 4 .*there is no file .*gone.png"),
        (changed(2, 0, "a\\2.png"), "row 4 .*write / between folders"),
        (changed(2, 0, "../gone.png"), "row 4 .*outside of data.root"),
        (changed(2, 0, "/etc/passwd"), "row 4 .*outside of data.root"),
        (changed(2, 0, ""), "row 4 .*has no path"),
        (changed(2, 1, ""), "row 4 .*has no label"),
        (changed(2, 1, "../a"), "row 4 .*'../a' cannot be the name of a folder"),
        (changed(2, 1, "c"), "row 4 .*'c' occurs once"),
        (changed(2, 2, "tset"), "row 4 .*'tset'; the choices are train, val and test"),
        (changed(1, 0, "0.png"), "rows 2 and 3 .*0.png the labels 'a' and 'b'"),
        ([*LINES, ["0.png", "a", "val", ""]], "rows 2 and 10 .*splits 'train' and 'val'"),
        ([*LINES[:3], ["3.png"], *LINES[4:]], "row 5 .*1 of 4 columns"),
        ([[*line[:3], "scene"] for line in LINES], "rows 2 and 6 .*'scene' into train and val"),
        ([line for line in LINES if line[1] == "a" or line[2] == "train"], "no val images of 'b'"),
        ([[line[0], "a", *line[2:]] for line in LINES], "at least two labels"),
        ([[line[0], line[1], "val", ""] for line in LINES], "no row with the split train"),
        ([], "no rows"),
    ],
)
def test_a_bad_table_is_refused_with_its_row(photos, tmp_path, lines, sentence):
    table = write_table(tmp_path / "labels.csv", ["path", "label", "split", "group"], lines)
    with pytest.raises(UserError, match=sentence):
        image_folders(photos, image_size=16, table=str(table))


def test_a_table_without_its_columns_or_a_file_is_refused(photos, tmp_path):
    table = write_table(tmp_path / "labels.csv", ["image", "label"], LINES)
    for given, sentence in (
        (table, "no column path or file_name; its columns are image, label"),
        ("no.csv", "no file"),
    ):
        with pytest.raises(UserError, match=sentence):
            image_folders(photos, image_size=16, table=str(given))
    with pytest.raises(UserError, match=r"no folder data\.root"):
        image_folders(tmp_path / "gone", image_size=16, table=str(table))


def test_a_file_that_is_no_table_is_refused(photos, tmp_path):
    for content in (
        "path,label\n0.png,ä\n".encode("cp1252"),
        b'path,label\n0.png,a\n"' + b"x" * 200_000,
        b"",
        b"\xff\xfe\x00",
        photos.joinpath("0.png").read_bytes(),
    ):
        (tmp_path / "labels.csv").write_bytes(content)
        with pytest.raises(UserError, match=r"data\.table="):
            read_label_table(tmp_path / "labels.csv", photos)


def test_a_table_beside_the_images_is_found(photos):
    write_table(photos / "metadata.csv", ["file_name", "label", "split"], [line[:3] for line in LINES])
    data = image_folders(photos, image_size=16, table="metadata.csv")
    assert (len(data.train), len(data.val), data.classes) == (4, 4, ["a", "b"])


@pytest.mark.parametrize("seed", range(6))
def test_groups_never_straddle_splits_or_folds(tmp_path, seed):
    random, root = np.random.default_rng(seed), tmp_path / "photos"
    root.mkdir()
    lines = []
    for number in range(60):
        pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        group = f"scene {random.integers(25)}" if random.random() < 0.8 else ""
        lines.append([f"{number}.png", "abc"[number % 3], group])
    for copy in random.choice(60, 5, replace=False):  # a copy joins two groups
        shutil.copy(root / f"{copy}.png", root / f"copy {copy}.png")
        lines.append([f"copy {copy}.png", lines[copy][1], f"scene {random.integers(25)}"])
    table = write_table(tmp_path / "labels.csv", ["path", "label", "group"], lines)
    groups = {str(root / path): group for path, _, group in lines if group}
    divisions = [{"val_fraction": 0.3}, *({"folds": 3, "fold": fold} for fold in range(3))]
    validated = []
    for division in divisions:
        data = image_folders(root, image_size=16, table=str(table), **division)
        parts = [{groups[path] for path in split.paths if path in groups} for split in (data.train, data.val)]
        assert parts[0].isdisjoint(parts[1])
        assert set(data.train.digests).isdisjoint(data.val.digests)
        assert len(data.train) + len(data.val) == len(lines)
        validated.append(data.val.paths)
    assert sorted(path for paths in validated[1:] for path in paths) == sorted(str(root / line[0]) for line in lines)


def test_a_long_table_is_read_at_100_000_rows_a_second(tmp_path, monkeypatch):
    count, folders = 200_000, 100
    lines = [[f"{n % folders}/{n}.jpg", n % 50, f"patient {n // 7}"] for n in range(count)]
    table = write_table(tmp_path / "labels.csv", ["path", "label", "group"], lines)
    names = {str(tmp_path / str(f)): [f"{n}.jpg" for n in range(f, count, folders)] for f in range(folders)}
    monkeypatch.setattr("os.listdir", lambda folder: names[str(folder)])
    start = time.process_time()
    images = read_label_table(table, tmp_path).images
    assert time.process_time() - start < count / 50_000  # 1,000,000 rows in 20 s, on a machine with other work
    assert len(images) == count and images[0].labels[0] == "0"


@pytest.mark.parametrize("test", [True, False])
def test_images_of_one_group_alone_do_not_fail_a_run(tiny_run, image_folder, tmp_path, without_pictures, caplog, test):
    root = image_folder(val=12)
    held_out = ["test" if test else "val", "one"]
    lines = [
        [path.relative_to(root).as_posix(), path.parts[-2], *(held_out if path.parts[-3] == "val" else ["train", ""])]
        for path in sorted(root.rglob("*.png"))
    ]
    table = write_table(tmp_path / "labels.csv", ["path", "label", "split", "group"], lines)
    main(tiny_run(f"data.table={table}", root=root, folder="runs/0"))
    assert "all 24 images are in one group" in caplog.text
    assert compare(read_runs(tmp_path / "runs"), tmp_path)["groups"] == (2 if test else None)


def test_a_comparison_of_runs_with_groups_treats_groups_as_the_sample(
    tiny_run, image_folder, tmp_path, without_pictures
):
    root = image_folder(val=12)
    lines = [
        [path.relative_to(root).as_posix(), path.parts[-2], path.parts[-3], f"{path.parts[-3]} {int(path.stem) // 3}"]
        for path in sorted(root.rglob("*.png"))
    ]
    table = write_table(tmp_path / "labels.csv", ["path", "label", "split", "group"], lines)
    for number, strategy in enumerate(("fine_tune", "feature_extractor")):
        main(tiny_run(f"strategy={strategy}", f"data.table={table}", root=root, folder=f"runs/{number}"))
    runs = read_runs(tmp_path / "runs")
    groups = {path: group for path, _, split, group in lines if split == "val"}
    assert runs[0].groups == groups
    facts = compare(runs, tmp_path)
    assert (facts["images"], facts["groups"], facts["method"]) == (24, 4, GROUPED)
    assert "24 validation images in 4 groups" in facts["advice"][0]
    right = np.array([[label == predicted for _, label, predicted, _ in runs[0].predictions]])
    own = np.array([groups[path] for path, *_ in runs[0].predictions])
    expected = PairedTests({"run": Correctness(right, own)}).interval("run")
    assert runs[0].summary["val"]["acc_ci95"] == pytest.approx(expected)
