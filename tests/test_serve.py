"""A trained model behind a port: what it answers, and whatever else may be sent to it."""

import io
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from conftest import ROOT, environment
from PIL import Image

from thaw.deploy.gradcam import gradcam, overlaid
from thaw.deploy.trained import TrainedModel
from thaw.models.backbones import build_net
from thaw.report.html import data_url
from thaw.serve import server
from thaw.serve.app import Limits, create_app
from thaw.serve.batching import Batcher
from train import main

CLASSES = ["ant", "<i>bee</i>", "wasp"]
SCRIPT = [sys.executable, str(ROOT / "scripts" / "serve.py")]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = build_net("squeezenet1_1", len(CLASSES)).eval()
    # At this temperature the answers of an untrained net differ from image to image.
    return TrainedModel(net, CLASSES, {"resize": 73, "crop": 64}, 0.1, torch.device("cpu"), Path("best.ckpt"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Files of many sizes and formats."""
    folder, random, paths = tmp_path_factory.mktemp("images"), np.random.default_rng(0), []
    for number in range(20):
        size = *random.integers(60, 400, 2), 3
        pixels = (random.integers(0, 256, size) * random.random(3)).astype(np.uint8)
        paths.append(folder / f"{number}.{('jpg', 'png', 'webp', 'gif')[number % 4]}")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@contextmanager
def served(model, limits=None, batcher=None):
    """A client of a real server in a thread."""
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


@pytest.fixture(scope="module")
def client(model):
    with served(model) as client:
        yield client


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


def test_health_names_the_model_and_its_classes(client):
    assert client.get("/health").json() == {"status": "ok", "model": "squeezenet1_1", "classes": CLASSES}


def test_an_answer_is_the_models_own_for_the_file(client, model, images):
    for path in images[:4]:
        assert_is_own(client.post("/predict", content=path.read_bytes()), own_answer(model, path))


def test_as_many_classes_are_told_as_are_asked_for(client, images):
    for top, told in ((1, 1), (2, 2), (99, 3)):
        answer = client.post("/predict", params={"top": top}, content=images[0].read_bytes()).json()
        assert len(answer["probabilities"]) == told
        assert answer["probabilities"][0]["class"] == answer["predicted"]
        assert "explanation" not in answer
    for query in ("top=0", "top=-1", "top=x", "top=²", f"top={'9' * 5000}", "explain=yes"):
        assert_refused(client.post(f"/predict?{query}", content=images[0].read_bytes()), 400, "must be")


def test_an_explanation_is_grad_cam_for_the_predicted_class(client, model, images):
    answer = client.post("/predict?explain=1", content=images[1].read_bytes()).json()
    image = model.read(images[1])
    heat = gradcam(model, image[None], torch.tensor([CLASSES.index(answer["predicted"])]))[0]
    assert answer["explanation"] == data_url(overlaid(image, heat))


def asked_together(client, paths, clients=16):
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda path: client.post("/predict", content=path.read_bytes()), paths))


@pytest.mark.parametrize("count", [64, pytest.param(500, marks=pytest.mark.slow)])
def test_parallel_clients_each_get_their_own_answer_from_shared_batches(model, images, count):
    expected, batcher = [own_answer(model, path) for path in images], Batcher(model)
    with served(model, batcher=batcher) as client:
        start = time.perf_counter()
        answers = asked_together(client, [images[number % len(images)] for number in range(count)])
        print(f"{count / (time.perf_counter() - start):.0f} requests/s, batches {sorted(batcher.sizes.items())}")
    for number, answer in enumerate(answers):
        assert_is_own(answer, expected[number % len(images)])
    assert sum(size * times for size, times in batcher.sizes.items()) == count
    assert 2 <= max(batcher.sizes) <= 16


class HeldNet:
    """Logits that are given once `go` is set."""

    def __init__(self, model):
        self.model, self.go = model, threading.Event()

    def __getattr__(self, name):
        return getattr(self.model, name)

    def logits(self, images):
        assert self.go.wait(20)
        return self.model.logits(images)


@pytest.mark.parametrize("full", ["requests", "queue"])
def test_more_than_may_wait_is_sent_away_and_the_rest_is_answered(model, images, full):
    held = HeldNet(model)
    limits = Limits(requests=3) if full == "requests" else Limits()
    batcher = Batcher(held, most=1, capacity=2 if full == "queue" else 64)
    with served(held, limits, batcher) as client, ThreadPoolExecutor(3) as pool:
        body, asked = images[0].read_bytes(), []
        for _ in range(3):  # one in the net, two waiting
            asked.append(pool.submit(client.post, "/predict", content=body))
            time.sleep(0.15)
        refused = client.post("/predict", content=body)
        assert_refused(refused, 503, "try again")
        assert refused.headers["retry-after"] == "1"
        assert client.get("/health").status_code == 200
        held.go.set()
        for answer in asked:
            assert_is_own(answer.result(), own_answer(model, images[0]))


def test_a_failure_of_the_net_is_told_and_does_not_last(model, images, caplog):
    class Failing(HeldNet):
        def logits(self, images):
            if not self.go.is_set():
                raise RuntimeError("no memory")
            return self.model.logits(images)

    failing = Failing(model)
    with served(failing) as client:
        assert_refused(client.post("/predict", content=images[0].read_bytes()), 500, "the server failed")
        failing.go.set()
        assert_is_own(client.post("/predict", content=images[0].read_bytes()), own_answer(model, images[0]))
    assert "no memory" in caplog.text


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width, height):
    """As small as its header is large."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * min(height, 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_what_is_no_image_is_refused_in_a_sentence_and_the_next_is_answered(client, model, images):
    whole = images[0].read_bytes()
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    for body, status, sentence in (
        (b"I am no image.\n", 415, "no image of a known format (JPEG, PNG"),
        (postscript, 415, "no image of a known format"),
        (b"", 422, "empty"),
        (whole[: len(whole) // 2], 422, "cannot read the image: image file is truncated"),
        (png_of(60000, 60000), 422, "cannot read the image"),
        (png_of(12000, 12000), 422, "144000000 pixels"),
        (png_of(1_000_000, 1), 422, "1000000 x 1 pixels are too long a strip"),
    ):
        start = time.perf_counter()
        assert_refused(client.post("/predict", content=body), status, sentence)
        assert time.perf_counter() - start < 2
    assert_is_own(client.post("/predict", content=whole), own_answer(model, images[0]))


def test_other_addresses_and_methods_are_answered_in_json(client):
    for path in ("/none", "/predict/", "/../etc/passwd", "/%2e%2e/x", "/docs"):
        assert_refused(client.get(path), 404, "/predict")
    for method, path in (("GET", "/predict"), ("PUT", "/predict"), ("POST", "/"), ("DELETE", "/health")):
        answer = client.request(method, path)
        assert_refused(answer, 405, method)
        assert answer.headers["allow"]


def test_other_hosts_and_the_pages_of_others_are_refused(client, images):
    port, body = client.base_url.port, images[0].read_bytes()
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "[",
        "x:y",
    ):
        assert_refused(client.get("/health", headers={"Host": host}), 403, "another name")
    for host in ("localhost", f"LOCALHOST:{port}", "[::1]:1"):
        assert client.get("/health", headers={"Host": host}).status_code == 200
    for origin in ("http://evil.example", f"http://127.0.0.1:{port + 1}", "null"):
        assert_refused(client.post("/predict", content=body, headers={"Origin": origin}), 403, "pages of other")
    answer = client.post("/predict", content=body, headers={"Origin": f"http://127.0.0.1:{port}"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_large_body_is_refused_without_being_held(client, model, images):
    """Declared or not; the client sends its 200 MB piece by piece, in this process."""
    piece, pieces = bytes(1 << 20), 200
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    declared = {"Content-Length": str(pieces * len(piece))}
    for headers in (declared, {}):
        body = (piece for _ in range(pieces))
        assert_refused(client.post("/predict", content=body, headers=headers), 413, "larger than 20 MB")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 80  # MB; 20 are read of the second
    assert_is_own(client.post("/predict", content=images[0].read_bytes()), own_answer(model, images[0]))


def talk(port, sent, seconds=10):
    """All that comes back until the server closes the connection, and after how long."""
    start = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(sent)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    return received, time.perf_counter() - start


def test_a_declared_size_is_refused_before_anything_of_it_is_sent(client):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000000\r\nConnection: close\r\n"
    for expecting in (b"", b"Expect: 100-continue\r\n"):
        received, seconds = talk(client.base_url.port, head + expecting + b"\r\n")
        assert received.startswith(b"HTTP/1.1 413 ")
        assert seconds < 2


def test_slow_clients_are_let_go(model, images, monkeypatch):
    monkeypatch.setattr(server, "_SILENCE", 0.5)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    with served(model, Limits(body_seconds=0.3)) as client:
        port = client.base_url.port
        received, _ = talk(port, head + b"Connection: close\r\n\r\nthe beginning")
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"longer than 0.3 seconds" in received
        assert talk(port, b"")[0] == b""
        assert talk(port, head)[0] == b""
        answer = client.post("/predict", content=images[0].read_bytes())
        assert answer.status_code == 200


def test_a_client_that_leaves_is_no_fault(client, capfd):
    with socket.create_connection(("127.0.0.1", client.base_url.port)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nthe beginning")
        time.sleep(0.1)
    time.sleep(0.1)
    assert client.get("/health").status_code == 200
    assert capfd.readouterr().err == ""


def test_a_client_that_stalls_does_not_keep_the_server_from_ending(model, capfd):
    app = create_app(model, None)
    address, configured = server.Address("127.0.0.1", 0), server.config(app)
    configured.timeout_graceful_shutdown = 0.3
    running = uvicorn.Server(configured)
    thread = threading.Thread(target=running.run, args=([address.socket],))
    thread.start()
    with socket.create_connection(("127.0.0.1", address.port), timeout=10) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nthe beginning")
        time.sleep(0.3)
        running.should_exit = True
        thread.join(5)
        assert not thread.is_alive()
        assert b"the server ends" in connection.recv(65536)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("host", "url", "hosts"),
    [
        ("localhost", r"http://(127\.0\.0\.1|\[::1\]):", {"localhost", "127.0.0.1", "::1"}),
        ("127.0.0.2", r"http://127\.0\.0\.2:", {"localhost", "127.0.0.1", "::1", "127.0.0.2"}),
        ("0.0.0.0", r"http://127\.0\.0\.1:", None),
    ],
)
def test_an_address_says_how_it_can_be_asked(host, url, hosts):
    address = server.Address(host, 0)
    address.socket.close()
    assert re.match(url, address.url)
    assert address.hosts == hosts


@pytest.fixture
def page(browser, client):
    context = browser.new_context(viewport={"width": 375, "height": 800})
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(str(client.base_url))
    yield page
    context.close()
    assert [fault for fault in faults if "415" not in fault] == []


def test_the_page_allows_only_what_is_in_it(client):
    policy = client.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_chosen_images_are_shown_with_their_class_and_what_speaks_for_it(page, images, model, tmp_path):
    text = tmp_path / "<b>no image.png"
    text.write_text("no image")
    page.locator("input").set_input_files([str(images[0]), str(text)])
    card = page.locator(".card", has=page.locator(".found"))
    card.wait_for()
    expected = own_answer(model, images[0])
    best = max(expected)
    assert card.locator(".told").text_content() == f"{CLASSES[expected.index(best)]}, {100 * best:.1f}\u00a0%"
    assert card.locator("h2").text_content() == images[0].name
    assert card.locator("li").count() == len(CLASSES)
    for picture in card.locator("img").all():
        picture.wait_for()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert card.locator("img").nth(1).evaluate("image => image.naturalWidth") == 64
    failed = page.locator(".card", has=page.locator(".failed"))
    assert failed.locator("h2").text_content() == text.name
    assert "no image of a known format" in failed.locator(".told").text_content()
    assert page.locator(".card b").count() == len(CLASSES)  # the bars: a name is no markup
    assert page.evaluate("() => document.documentElement.scrollWidth") == 375


def test_dropped_images_are_classified(page, images):
    data = page.evaluate_handle(
        """bytes => { const data = new DataTransfer(), image = new Uint8Array(bytes);
          for (const name of ["a.png", "b.png"]) data.items.add(new File([image], name)); return data; }""",
        list(min((path.read_bytes() for path in images), key=len)),
    )
    page.dispatch_event("body", "drop", {"dataTransfer": data})
    page.locator(".found").nth(1).wait_for()
    assert page.locator("h2").all_text_contents() == ["a.png", "b.png"]
    page.get_by_text("2 of 2 images").wait_for()


def test_the_page_is_used_by_the_keyboard(page, images):
    page.on("filechooser", lambda chooser: chooser.set_files(str(images[0])))
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.type") == "file"
    page.keyboard.press("Enter")
    page.locator(".found").wait_for()
    assert page.get_by_role("status").text_content().startswith(images[0].name)


def script(*arguments, **options):
    paths = f"{ROOT / 'tests'}{os.pathsep}{ROOT / 'src'}"
    return subprocess.Popen(
        [*SCRIPT, *map(str, arguments)], env=environment(PYTHONPATH=paths), stdout=-1, stderr=-1, text=True, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_script_says_where_it_is_and_ends_with_a_signal(tiny_run, tmp_path, without_pictures, ending):
    main(tiny_run())
    with script(tmp_path / "run", "--port", 0) as process:
        url = re.fullmatch(r"open (http://127\.0\.0\.1:\d+) \(Ctrl-C ends it\)\n", process.stdout.readline())[1]
        file = io.BytesIO()
        Image.new("RGB", (40, 50), "red").save(file, "png")
        answer = httpx.post(f"{url}/predict", content=file.getvalue(), trust_env=False).json()
        assert answer["predicted"] in ("ants", "bees")
        used = script(tmp_path / "run", "--port", url.rpartition(":")[2])
        out, err = used.communicate()
        assert (used.returncode, out) == (2, "")
        assert re.fullmatch(r"error: cannot serve at 127\.0\.0\.1, port \d+: Address already in use\.\n", err)
        process.send_signal(ending)
        assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


@pytest.mark.slow
def test_the_scripts_memory_does_not_grow_with_what_is_sent(tiny_run, tmp_path, without_pictures):
    main(tiny_run())
    with script(tmp_path / "run", "--port", 0) as process:
        url = process.stdout.readline().split()[1]

        def peak():  # MB
            told = Path(f"/proc/{process.pid}/status").read_text()
            return int(re.search(r"VmHWM:\s+(\d+)", told)[1]) / 1024

        before = peak()
        body = (bytes(1 << 20) for _ in range(200))
        assert httpx.post(f"{url}/predict", content=body, trust_env=False, timeout=30).status_code == 413
        print(f"{before:.0f} MB before, {peak():.0f} MB after 200 MB")
        assert peak() - before < 60
        process.terminate()
        assert process.wait(20) == 0
        process.communicate()


@pytest.mark.slow
def test_the_script_tells_what_it_cannot_do(tmp_path):
    for arguments, sentence in (
        ([tmp_path, "--port", 0], "there is no trained model in"),
        ([tmp_path, "--host", "no.such.host.invalid"], "cannot serve at no.such.host.invalid"),
    ):
        process = script(*arguments)
        out, err = process.communicate()
        assert (process.returncode, out) == (2, "")
        assert err.startswith("error: ")
        assert sentence in err
        assert err.count("\n") == 1


def test_without_its_packages_it_names_the_extra(tmp_path):
    code = (
        "import runpy, sys; sys.modules['uvicorn'] = None; "
        f"sys.argv = ['serve.py', {json.dumps(str(tmp_path))}]; runpy.run_path({SCRIPT[1]!r}, run_name='__main__')"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment(PYTHONPATH=str(ROOT / "src")), capture_output=True, text=True
    )
    assert process.returncode == 2
    assert process.stderr == "error: there is no uvicorn: serving needs pip install -e '.[serve]'.\n"
