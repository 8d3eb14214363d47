"""The server and its page say which classes an image may have, and "none of these" for something else."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from served import served

from thaw.data.preprocessing import Preprocessing
from thaw.demo.drawings import draw_animal
from thaw.evaluation.model_limits import fitted_limits
from thaw.evaluation.predictions import Predictions
from thaw.inference.predict import predict
from thaw.inference.trained_model import TrainedModel
from thaw.models.backbones import build_net
from thaw.models.head import observed_head
from thaw.models.weights import load_weights

CLASSES, EACH = ["cat", "dog"], 20


@pytest.fixture(scope="module")
def model():
    """Published weights under a head of random weights, with limits fitted on drawn cats and dogs."""
    pytest.importorskip("timm", reason="timm is not installed: pip install -e '.[timm]'")
    torch.manual_seed(0)
    net = build_net("efficientnet_lite0", len(CLASSES)).eval()
    load_weights(net, "imagenet")
    untrained = TrainedModel(net, CLASSES, Preprocessing(128, 112), 1.0, torch.device("cpu"), Path("best.ckpt"))
    drawn = [draw_animal(name, f"fit {n}") for name in CLASSES for n in range(EACH)]
    inputs: list[torch.Tensor] = []
    with observed_head(net, inputs.append):
        logits = untrained.logits(torch.stack([untrained.pixels(image) for image in drawn]))
    labels = np.arange(2 * EACH) // EACH
    found = Predictions((), labels, logits.numpy(), CLASSES)
    limits = fitted_limits(found, torch.cat(inputs), torch.arange(2 * EACH))
    return TrainedModel(net, CLASSES, untrained.preprocessing, 1.0, untrained.device, untrained.source, limits=limits)


@pytest.fixture(scope="module")
def client(model):
    with served(model) as client:
        yield client


@pytest.fixture(scope="module")
def photograph():
    package = find_spec("skimage")
    if package is None:
        pytest.skip("scikit-image, which ships photographs, is not installed")
    return Path(package.submodule_search_locations[0]) / "data" / "astronaut.png"


@pytest.fixture
def animal(tmp_path):
    draw_animal("cat", "new").save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


def test_an_answer_has_the_models_set_and_distance(client, model, photograph, animal):
    for path in (photograph, animal):
        told = client.post("/predict", content=path.read_bytes()).json()
        (own,) = predict(model, path, coverage=0.9, unknown=True)
        assert told["set"] == list(own.within)
        assert told["distance"] == pytest.approx(own.distance, rel=1e-4)
        assert told["unknown"] == own.unknown == (path == photograph)


def test_the_page_says_none_of_these_for_a_photograph_of_something_else(browser, client, photograph, animal):
    page = browser.new_page(viewport={"width": 375, "height": 800})
    faults = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(str(client.base_url))
    page.locator("input").set_input_files([str(photograph), str(animal)])
    page.locator(".found").nth(1).wait_for()
    names, shown = (page.locator(part).all_text_contents() for part in ("h2", ".result"))
    results = dict(zip(names, shown, strict=True))
    assert results["astronaut.png"] == "none of these"
    assert results["cat.png"].split(",")[0] in CLASSES
    card = page.locator(".card", has=page.get_by_text("none of these"))
    assert "looks unlike all classes" in card.locator(".doubt").text_content()
    assert page.evaluate("() => document.documentElement.scrollWidth") == 375
    page.close()
    assert faults == []
