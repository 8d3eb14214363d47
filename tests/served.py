"""Start the server in a thread, and check its answers."""

import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

from thaw.data.preprocessing import Preprocessing
from thaw.inference.serve import server
from thaw.inference.serve.app import create_app
from thaw.inference.trained_model import TrainedModel
from thaw.models.backbones import build_net

CLASSES = ["<i>ant</i>", "bee", "wasp"]  # the model predicts the first class


def untrained_model():
    torch.manual_seed(0)
    net = build_net("squeezenet1_1", len(CLASSES)).eval()
    # At this temperature, the probabilities of an untrained net differ between images.
    return TrainedModel(net, CLASSES, Preprocessing(73, 64), 0.1, torch.device("cpu"), Path("best.ckpt"))


def write_images(folder):
    """Write images of many sizes and formats, and return their paths."""
    random, paths = np.random.default_rng(0), []
    for number in range(20):
        size = *random.integers(60, 400, 2), 3
        pixels = (random.integers(0, 256, size) * random.random(3)).astype(np.uint8)
        paths.append(folder / f"{number}.{('jpg', 'png', 'webp', 'gif')[number % 4]}")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@contextmanager
def served(model, limits=None, batcher=None):
    """Yield an HTTP client of a real server that runs in a thread."""
    address = server.Address("127.0.0.1", 0)
    running = uvicorn.Server(server.config(create_app(model, address.hosts, limits, batcher)))
    thread = threading.Thread(target=running.run, args=([address.socket],))
    thread.start()
    try:
        with httpx.Client(base_url=address.url, trust_env=False, timeout=20) as client:
            client.get("/health")
            yield client
    finally:
        running.should_exit = True
        thread.join()


def own_answer(model, path):
    return model.probabilities(model.logits(model.read(path)[None]))[0].tolist()


def assert_is_own(answer, expected):
    assert answer.status_code == 200, answer.text
    told = answer.json()
    given = {row["class"]: row["probability"] for row in told["probabilities"]}
    assert [given[name] for name in CLASSES] == pytest.approx(expected, abs=1e-5)
    assert [row["probability"] for row in told["probabilities"]] == sorted(given.values(), reverse=True)
    assert (told["predicted"], told["confidence"]) == (max(given, key=given.get), max(given.values()))


def assert_refused(answer, status, sentence):
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert sentence in answer.json()["error"]


@pytest.fixture(scope="module")
def model():
    return untrained_model()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def client(model):
    with served(model) as client:
        yield client
