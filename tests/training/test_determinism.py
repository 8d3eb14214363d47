"""What equal commands compute is equal to the byte; seconds alone may differ."""

import json

import pytest
from conftest import rows

from train import main


@pytest.mark.parametrize(
    ("strategy", "views", "others"),
    [
        ("lp_ft", 2, ["two"]),
        pytest.param("lp_ft", 2, ["again", "one"], marks=pytest.mark.slow),
        pytest.param("fine_tune", 0, ["again", "one", "two"], marks=pytest.mark.slow),
    ],
    ids=["features", "features again", "images"],
)
def test_metrics_are_equal_to_the_byte_for_two_repeats_and_any_number_of_loader_processes(
    tiny_run, image_folder, tmp_path, monkeypatch, without_pictures, strategy, views, others
):
    """But for the column of seconds: the file is compared as text without it."""
    root, chosen = image_folder(), [f"strategy={strategy}", "trainer.max_epochs=5", f"features.views={views}"]
    workers = {"first": 0, "again": 0, "one": 1, "two": 2}
    for folder in ("first", *others):
        monkeypatch.setenv("THAW_CACHE", str(tmp_path / f"cache-{folder}"))
        kept = "data.pixels_gb=0" if folder == "two" else "data.pixels_gb=4"
        main(tiny_run(*chosen, kept, f"data.num_workers={workers[folder]}", root=root, folder=folder))

    def text(folder, name):
        lines = (tmp_path / folder / name).read_bytes().splitlines(keepends=True)
        return b"".join(line.rpartition(b",")[0] for line in lines) if name == "metrics.csv" else b"".join(lines)

    assert list(rows(tmp_path / "first/metrics.csv")[0])[-1] == "seconds"
    for name in ("metrics.csv", "predictions.csv"):
        assert {text("first", name)} == {text(other, name) for other in others}


def test_a_summary_says_which_images_and_which_libraries_were_used(tiny_run, image_folder, tmp_path, without_pictures):
    root = image_folder()
    main(tiny_run(root=root))
    first = json.loads((tmp_path / "run/summary.json").read_text())
    assert {"python", "thaw", "torch", "torchvision", "lightning", "numpy", "pillow"} <= first["versions"].keys()
    image = root / "train/ants/0.png"
    image.write_bytes(image.read_bytes() + b"\0")
    main(tiny_run(root=root))
    second = json.loads((tmp_path / "run/summary.json").read_text())
    assert first["fingerprint"]["train"] != second["fingerprint"]["train"]
    assert first["fingerprint"]["val"] == second["fingerprint"]["val"]
