"""Whatever a command is given instead of images is told in a sentence each, and the images among it are used."""

import json
import os

import pytest
from conftest import rows
from malformed import write_malformed
from PIL import Image

from thaw.data.images import load_rgb
from thaw.errors import UnreadableImageError
from train import main


@pytest.fixture
def trained(tiny_run, tmp_path, without_pictures):
    main(tiny_run("strategy.lr=0.1"))
    return tmp_path / "run"


@pytest.fixture
def heap(tmp_path):
    """A folder with a hundred malformed files, and three images among them."""
    folder = tmp_path / "heap" / "ants"
    bad = write_malformed(folder)
    good = [folder / name for name in ("a good one.png", "zz.webp", "ünï.jpg")]
    for path in good:
        Image.new("RGB", (30, 20), "teal").save(path)
    return folder, good, bad


def test_there_are_a_hundred_of_them_and_none_can_be_read(heap):
    _, _, bad = heap
    assert len(bad) >= 100
    for path in bad:
        with pytest.raises(UnreadableImageError) as told:
            load_rgb(path, 146)
        assert str(told.value).startswith("cannot read the image ")


def sentences(errors):
    """Each begins anew; some names have line breaks of their own."""
    assert "Traceback" not in errors
    return [line for line in errors.splitlines() if line.startswith(("error: ", "warning: "))]


def test_predict_tells_each_and_does_the_rest(trained, heap, script, tmp_path):
    folder, good, bad = heap
    out = tmp_path / "found.csv"
    status, _, errors = script(
        "predict", trained, folder, "--format", "csv", "--out", out, "--gallery", tmp_path / "g.html"
    )
    assert status == 1
    assert [row["path"] for row in rows(out)] == list(map(str, good))
    assert len(sentences(errors)) == len(bad)
    assert (tmp_path / "g.html").stat().st_size > 1000
    status, told, errors = script("predict", trained, *map(os.fspath, [*bad, *good]))
    assert (status, len(told.splitlines()), len(sentences(errors))) == (1, 3, len(bad))


def test_evaluate_tells_each_and_does_the_rest(trained, heap, script, tmp_path):
    folder, good, bad = heap
    status, _, errors = script("evaluate", trained, folder.parent, "--out", tmp_path / "e", "--no-robustness")
    assert status == 1
    found = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert len(rows(tmp_path / "e" / "predictions.csv")) == len(good)
    assert len(sentences(errors)) == len(found["unreadable"]) == len(bad) - 1, "a pipe is no file of a class"


def test_export_is_checked_with_the_images_among_them(script, heap, tiny_run, tmp_path, without_pictures):
    net = ["model._target_=thaw.models.backbones.build_net", "model.name=squeezenet1_1", "data.image_size=32"]
    main(tiny_run(*net))
    folder, good, _ = heap
    status, _, errors = script(
        "export", tmp_path / "run", tmp_path / "m", "--format", "safetensors", "--images", folder
    )
    assert (status, errors) == (0, "")
    assert json.loads((tmp_path / "m" / "export.json").read_text())["checked_images"] == len(good)


def test_the_server_refuses_each_and_keeps_serving(heap):
    pytest.importorskip("starlette")
    from served import assert_is_own, own_answer, served, untrained_model

    _, good, bad = heap
    model = untrained_model()
    with served(model) as client:
        for path in bad:
            body = path.read_bytes() if path.is_file() else b""
            answer = client.post("/predict", content=body)
            assert 400 <= answer.status_code < 500, path
            assert list(answer.json()) == ["error"]
        for path in good:
            assert_is_own(client.post("/predict", content=path.read_bytes()), own_answer(model, path))


@pytest.mark.parametrize("name", ["predict", "evaluate", "export"])
@pytest.mark.parametrize("kind", ["missing", "file", "folder", "damaged", "foreign", "name"])
def test_what_is_no_run_is_told_in_a_sentence(script, heap, tmp_path, name, kind):
    import torch

    folder, good, _ = heap
    run = tmp_path / {"name": "r" * 300}.get(kind, "run")
    if kind == "file":
        run.write_text("no run")
    elif kind == "folder":
        run.mkdir()
    elif kind in ("damaged", "foreign"):
        (run / "checkpoints").mkdir(parents=True)
        torch.save({"state_dict": {"fc.weight": torch.zeros(3)}}, run / "checkpoints" / "best.ckpt")
        if kind == "damaged":
            (run / "checkpoints" / "best.ckpt").write_bytes(b"PK\x03\x04 cut")
    rest = {"predict": [good[0]], "evaluate": [folder.parent], "export": [tmp_path / "x", "--format", "torch"]}[name]
    status, _, errors = script(name, run, *rest)
    assert status in (1, 2)
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
