"""Grey of more than 8 bits: one range for a data set, from training to everything that uses the model."""

import inspect
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from thaw.data.data_options import DataOptions
from thaw.data.datamodule import image_folders
from thaw.data.grey import FULL, OWN, resolve_grey_range
from thaw.data.images import load_rgb
from thaw.data.preprocessing import Preprocessing
from thaw.errors import UserError
from thaw.inference.export.exported_model import facts
from thaw.inference.serve.decoding import decode
from thaw.runs.type_hints import fits


def written(folder, low, high, dtype, count=3, ending="tif"):
    """Ramps that all together reach from `low` to `high`, the first the brightest."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        top = high - number * (high - low) / (2 * count)
        ramp = np.tile(np.linspace(low, top, 64), (8, 1)).astype(dtype)
        paths.append(str(folder / f"{number}.{ending}"))
        Image.fromarray(ramp).save(paths[-1])
    return paths


KINDS = {
    "12 bits": (0, 4095, np.uint16, "png"),
    "16 bits": (120, 65000, np.uint16, "tif"),
    "an offset": (30000, 34000, np.uint16, "png"),
    "floats to 1.01": (0, 1.01, np.float32, "tif"),
    "kelvin": (270, 300, np.float32, "tif"),
    "below zero": (-1000, 3000, np.int32, "tif"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_values_of_a_data_set_reach_from_black_to_white(tmp_path, kind):
    low, high, dtype, ending = KINDS[kind]
    paths = written(tmp_path, low, high, dtype, ending=ending)
    found, deep = resolve_grey_range("auto", paths)
    assert deep and found == pytest.approx((low, high), abs=(high - low) / 200)
    pixels = [np.asarray(load_rgb(path, grey_range=found))[0, :, 0].astype(int) for path in paths]
    assert pixels[0].tolist() == pytest.approx(np.linspace(0, 255, 64), abs=2), "with all its levels"
    assert pixels[2][-1] == pytest.approx(255 * 2 / 3, abs=2), "a darker image stays darker"


def test_a_little_more_light_changes_little(tmp_path):
    """No cliff at the maxima 1, 255 and 65535."""
    for top, dtype in ((1, np.float32), (255, np.float32), (65535, np.int32)):
        means = []
        for factor in (0.99, 1.01):
            Image.fromarray(np.full((8, 8), top * factor, dtype)).save(tmp_path / "a.tif")
            means.append(np.asarray(load_rgb(tmp_path / "a.tif", grey_range=(0, 2 * top))).mean())
        assert means[1] - means[0] == pytest.approx(2.55, abs=1)


def test_a_defect_of_the_sensor_costs_no_more_than_half_of_the_levels(tmp_path):
    paths = written(tmp_path, 0, 4095, np.uint16, ending="png")
    pixels = np.asarray(Image.open(paths[0])).copy()
    pixels = np.tile(pixels, (20, 5))
    pixels[3, 3] = 65535
    Image.fromarray(pixels).save(paths[0])
    (low, high), _ = resolve_grey_range("auto", paths)
    assert low == 0 and 4095 < high < 2 * 4095


def test_nothing_that_is_no_number_widens_the_range(tmp_path):
    pixels = np.tile(np.linspace(270, 300, 64, dtype=np.float32), (8, 1))
    pixels[0, :3] = np.nan, np.inf, -np.inf
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    found, _ = resolve_grey_range("auto", [str(tmp_path / "a.tif")])
    assert found == pytest.approx((270, 300), abs=1.5)
    assert np.asarray(load_rgb(tmp_path / "a.tif", grey_range=found))[0, :3, 0].tolist() == [0, 255, 0]


def test_an_image_without_contrast_is_read(tmp_path):
    Image.fromarray(np.full((8, 8), 7, np.float32)).save(tmp_path / "a.tif")
    found, _ = resolve_grey_range("auto", [str(tmp_path / "a.tif")])
    assert np.asarray(load_rgb(tmp_path / "a.tif", grey_range=found)).max() == 0
    assert np.asarray(load_rgb(tmp_path / "a.tif", grey_range=OWN)).max() == 0


def test_where_no_image_is_deep_the_range_is_that_of_16_bits(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.tif").write_bytes(b"broken")
    assert resolve_grey_range("auto", [str(tmp_path / name) for name in ("a.png", "b.tif", "c.jpg")]) == (FULL, False)


@pytest.mark.parametrize("option", ["wide", [5], [5, 5], [9, 1], [0, float("nan")], ["a", "b"], [True, 9], None, 4])
def test_a_range_that_is_none_is_refused(option):
    with pytest.raises(UserError, match=r"data\.grey_range=.* must be auto or \[low,high\]"):
        resolve_grey_range(option, [])
    hint = inspect.signature(DataOptions).parameters["grey_range"].annotation
    assert fits(option, hint), "the check of kinds leaves it to this sentence, which has an example"


@pytest.fixture
def kelvin(tmp_path):
    """Training images reach from 270 to 300, a validation image beyond."""
    for split, high in (("train", 300), ("val", 310)):
        for name in ("cold", "warm"):
            written(tmp_path / "photos" / split / name, 270, high, np.float32)
    return tmp_path / "photos"


def test_the_range_is_decided_by_training_images_told_and_kept_with_the_preprocessing(kelvin):
    data = image_folders(kelvin, 16, preprocessing=Preprocessing(18, 16))
    low, high = data.preprocessing.grey_range
    assert (low, high) == pytest.approx((270, 300), abs=0.2)
    assert f"{low:g} becomes black and {high:g} white" in data.describe()
    given = image_folders(kelvin, 16, preprocessing=Preprocessing(18, 16), grey_range=[273, 373])
    assert given.preprocessing.grey_range == (273, 373)
    assert given.val[0][0].max() < data.val[0][0].max()
    assert given.val.digest != data.val.digest, "features of one are none of the other"
    data.prepare_pixels(), given.prepare_pixels()
    assert given.val[0][0].max() < data.val[0][0].max(), "nor are decoded images in the cache"


def test_without_deep_images_nothing_is_told(image_folder):
    data = image_folders(image_folder(), 16, preprocessing=Preprocessing(18, 16))
    assert data.preprocessing.grey_range == FULL and "8 bits" not in data.describe()


@pytest.mark.slow
def test_predict_evaluate_export_and_serve_see_what_training_saw(kelvin, tiny_run, tmp_path, without_pictures):
    from conftest import rows

    from thaw.inference.evaluate import evaluate
    from thaw.inference.labelled_folder import read_labelled
    from thaw.inference.predict import predictions
    from thaw.inference.trained_model import load_model
    from thaw.training.checkpoint_io import describe_checkpoint
    from train import main

    main(tiny_run("strategy=from_scratch", "data.grey_range=[265,320]", root=kelvin))
    model, said = load_model(tmp_path / "run"), rows(tmp_path / "run/predictions.csv")
    assert model.preprocessing.grey_range == (265, 320)
    assert json.loads((tmp_path / "run/summary.json").read_text())["grey_range"] == [265, 320]
    paths = [str(kelvin / row["path"]) for row in said]
    seen = torch.stack([model.read(path) for path in paths])
    data = image_folders(kelvin, 16, preprocessing=Preprocessing(18, 16), grey_range=[265, 320])
    assert all(torch.equal(seen[place], data.val[place][0]) for place in range(len(paths)))
    assert all(
        torch.equal(decode(model, Path(path).read_bytes()), image) for path, image in zip(paths, seen, strict=True)
    )
    raw = model.logits(seen).softmax(1)
    assert [float(row["p_cold"]) for row in said] == pytest.approx(raw[:, 0].tolist(), abs=1e-5)
    assert [one.top[0][0] for one in predictions(model, paths)] == [row["predicted"] for row in said]
    done = evaluate(model, read_labelled(kelvin / "val", model.classes), robustness=False)
    assert np.allclose(done.predictions.logits, model.logits(seen), atol=1e-5)
    exported = json.loads(json.dumps(facts(model)))
    assert exported["preprocessing"]["grey_range"] == [265, 320]
    describe_checkpoint(model.source, preprocessing={"resize": 18, "crop": 16})  # as older ones do
    older = load_model(tmp_path / "run")
    assert torch.equal(older.read(paths[0]), older.transform(load_rgb(paths[0], 36)))


def test_an_open_file_is_read_with_the_range(tmp_path):
    path = written(tmp_path, 0, 4095, np.uint16, count=1, ending="png")[0]
    content = io.BytesIO(Path(path).read_bytes())
    assert np.asarray(load_rgb(content, grey_range=(0, 4095))).max() == 255
