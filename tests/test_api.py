"""`import thaw` costs nothing and gives what a program needs."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from evaluated import untrained
from PIL import Image
from written_runs import write_run

import thaw
from thaw.errors import UserError


def test_importing_it_loads_nothing_heavy_and_every_name_is_there():
    code = "import sys, thaw; print(*{'torch', 'numpy', 'lightning', 'hydra'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", capture_output=True, text=True)
    assert (found.stdout.strip(), found.stderr) == ("", "")
    assert all(getattr(thaw, name) is not None for name in thaw.__all__)
    assert set(thaw.__all__) <= set(dir(thaw))
    with pytest.raises(AttributeError, match="its names are"):
        _ = thaw.load_modell


def test_paths_images_and_arrays_of_equal_pixels_get_equal_predictions(tmp_path):
    model = untrained(tmp_path)
    array = np.random.default_rng(0).integers(0, 256, (50, 61, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    image.save(tmp_path / "a.png")
    given = [tmp_path / "a.png", str(tmp_path / "a.png"), image, array, array[:, :, 0]]
    found = thaw.predict(model, given, top=99)
    assert [p.path for p in found] == [str(given[0]), given[1], "2", "3", "4"]
    assert len(found[0].top) == len(model.classes)
    assert found[0].top == found[1].top == found[2].top == found[3].top
    alone = thaw.predict(model, image, top=99)[0]  # in a batch of its own, whose last bit may differ
    assert [name for name, _ in alone.top] == [name for name, _ in found[0].top]
    assert found[4].top != found[0].top
    assert thaw.predict(model, []) == []
    assert thaw.predict(model, [tmp_path / "none.png"])[0].fault
    with pytest.raises(ValueError, match="is not an image"):
        thaw.predict(model, [np.zeros((2, 3, 4, 5))])


def test_a_sweep_is_read_as_its_runs(tmp_path):
    write_run(tmp_path / "0-bias", [1, 1, 0], seed=0)
    write_run(tmp_path / "1-bias", [1, 1, 1], seed=1)
    runs = thaw.read_runs(tmp_path)
    assert [(run.seed, round(run.accuracy, 2)) for run in runs] == [(0, 0.67), (1, 1.0)]
    assert thaw.read_run(tmp_path / "1-bias") == runs[1]
    with pytest.raises(UserError, match="there is no run in"):
        thaw.read_run(tmp_path)
