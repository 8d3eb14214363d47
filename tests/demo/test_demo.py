import multiprocessing
import subprocess
import sys

from conftest import ROOT, environment

from thaw.data.images import load_rgb
from thaw.demo.datasets import draw_folder, target_folder


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.jpg")}


def test_the_target_folder_holds_the_counts_asked_for_and_is_drawn_once():
    root = target_folder(train=3, val=2)
    drawn = files(root)
    assert sorted(drawn)[:4] == ["train/cat/0000.jpg", "train/cat/0001.jpg", "train/cat/0002.jpg", "train/dog/0000.jpg"]
    assert len(drawn) == 10
    (root / "train/cat/0000.jpg").write_bytes(b"mine")
    assert target_folder(train=3, val=2) == root
    assert files(root)["train/cat/0000.jpg"] == b"mine"


def test_a_folder_that_lost_files_is_drawn_again():
    root = target_folder(train=3, val=2)
    drawn = files(root)
    (root / "val/dog/0001.jpg").unlink()
    assert files(target_folder(train=3, val=2)) == drawn


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        draw_folder(tmp_path / name, ("cat", "dog"), {"train": 2, "val": 1}, seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert not files(tmp_path / "a").items() & files(tmp_path / "c").items()
    assert len(set(files(tmp_path / "a").values())) == 6, "training and validation images differ"


def _draw(_):
    return files(target_folder(train=4, val=4))


def test_two_processes_at_once_end_with_one_whole_folder():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        first, second = pool.map(_draw, range(2))
    assert first == second
    assert len(first) == 16


def test_the_script_draws_a_data_set_to_train_on(tmp_path):
    script = [sys.executable, "scripts/draw_animals.py", str(tmp_path / "zoo"), "--train", "2", "--val", "1"]
    done = subprocess.run([*script, "--species", "owl", "pig"], cwd=ROOT, env=environment(), capture_output=True)
    assert done.returncode == 0
    assert len(files(tmp_path / "zoo")) == 6
    assert load_rgb(tmp_path / "zoo/val/owl/0000.jpg").size == (80, 80)
    again = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 2
    assert "is not empty" in again.stderr
