"""Whatever else may be sent to the server: it refuses it in a sentence, and goes on."""

import resource
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import uvicorn
from PIL import Image, features
from served import (
    assert_is_own,
    assert_refused,
    client,
    images,
    model,
    own_answer,
    served,
    untrained_model,
    write_images,
)

from thaw.inference.serve import server
from thaw.inference.serve.app import Limits, create_app
from thaw.inference.serve.batching import Batcher
from thaw.inference.serve.decoding import NotAnImageError, decode

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"  # its end is still to come


class HeldNet:
    """Logits that are given once `go` is set."""

    def __init__(self, model):
        self.model, self.asked, self.go = model, threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self.model, name)

    def logits_and_distances(self, images):
        self.asked.set()
        assert self.go.wait(20)
        return self.model.logits_and_distances(images)


def until(true, seconds=20):
    last = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < last
        time.sleep(0.01)


@pytest.mark.parametrize("full", ["requests", "queue"])
def test_more_than_may_wait_is_sent_away_and_the_rest_is_answered(model, images, full):
    held = HeldNet(model)
    limits = Limits(requests=3) if full == "requests" else Limits()
    batcher = Batcher(held, most=1, capacity=2 if full == "queue" else 64)
    with served(held, limits, batcher) as client, ThreadPoolExecutor(3) as pool:
        body, asked = images[0].read_bytes(), []
        for waiting in range(3):  # after one that is in the net
            asked.append(pool.submit(client.post, "/predict", content=body))
            assert held.asked.wait(20)
            until(lambda waiting=waiting: batcher.waiting == waiting)
        refused = client.post("/predict", content=body)
        assert_refused(refused, 503, "try again")
        assert refused.headers["retry-after"] == "1"
        assert client.get("/health").status_code == 200
        held.go.set()
        for answer in asked:
            assert_is_own(answer.result(), own_answer(model, images[0]))


def test_a_failure_of_the_net_is_reported_and_does_not_last(model, images, caplog):
    class Failing(HeldNet):
        def logits_and_distances(self, images):
            if not self.go.is_set():
                raise RuntimeError("no memory")
            return self.model.logits_and_distances(images)

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
        (b"I am no image.\n", 415, "not an image of a known format (JPEG, PNG"),
        (postscript, 415, "not an image of a known format"),
        (b"", 422, "empty"),
        (whole[: len(whole) // 2], 422, "cannot read the image: image file is truncated"),
        (png_of(60000, 60000), 422, "cannot read the image"),
        (png_of(12000, 12000), 422, "144000000 pixels"),
        (png_of(1_000_000, 1), 422, "1000000 x 1 pixels are too long and narrow"),
    ):
        start = time.perf_counter()
        assert_refused(client.post("/predict", content=body), status, sentence)
        assert time.perf_counter() - start < 2
    assert_is_own(client.post("/predict", content=whole), own_answer(model, images[0]))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_an_avif_is_read_as_in_training(model, images, tmp_path):
    with Image.open(images[0]) as image:
        image.save(tmp_path / "1.avif")
    assert torch.equal(decode(model, (tmp_path / "1.avif").read_bytes()), model.read(tmp_path / "1.avif"))


@pytest.mark.parametrize(("brand", "needed"), [(b"heic", "pip install pillow-heif"), (b"avif", "pip install 'pillow")])
def test_a_format_that_is_not_installed_says_what_to_install(brand, needed, model, monkeypatch):
    endings = {".heic": "pip install pillow-heif", ".avif": "pip install 'pillow>=11.3'"}
    monkeypatch.setattr("thaw.data.endings._MISSING", endings)
    told = rf"known format \(JPEG, .*\); to read \.{brand.decode()} files, {needed}"
    with pytest.raises(NotAnImageError, match=told):
        decode(model, b"\0\0\0\x18ftyp" + brand + bytes(40))


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
        assert_refused(client.get("/health", headers={"Host": host}), 403, "Host header")
    for host in ("localhost", f"LOCALHOST:{port}", "[::1]:1"):
        assert client.get("/health", headers={"Host": host}).status_code == 200
    for origin in ("http://evil.example", f"http://127.0.0.1:{port + 1}", "null"):
        assert_refused(client.post("/predict", content=body, headers={"Origin": origin}), 403, "pages of other")
    answer = client.post("/predict", content=body, headers={"Origin": f"http://127.0.0.1:{port}"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def resident():
    """MB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


@pytest.mark.parametrize("declared", [True, False])
def test_a_large_body_is_refused_without_being_held(client, model, images, declared):
    """The client, in this process, too, has a piece of it at a time."""
    piece, pieces, seen = bytes(1 << 20), 200, [resident()]

    def body():
        for _ in range(pieces):
            yield piece
            seen.append(resident())

    headers = {"Content-Length": str(pieces * len(piece))} if declared else {}
    assert_refused(client.post("/predict", content=body(), headers=headers), 413, "larger than 20 MB")
    assert max(seen) - seen[0] < (15 if declared else 60)
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


@pytest.mark.slow
def test_slow_clients_are_let_go(model, images, monkeypatch):
    monkeypatch.setattr(server, "_SILENCE", 0.5)
    with served(model, Limits(body_seconds=1)) as client:
        port = client.base_url.port
        received, _ = talk(port, HEAD + b"Connection: close\r\n\r\nthe beginning")
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"more than 1 s" in received
        assert talk(port, b"")[0] == b""
        assert talk(port, HEAD)[0] == b""
        answer = client.post("/predict", content=images[0].read_bytes())
        assert answer.status_code == 200


def test_a_client_that_leaves_is_no_fault(client, capfd):
    with socket.create_connection(("127.0.0.1", client.base_url.port)) as connection:
        connection.sendall(HEAD + b"\r\nthe beginning")
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
        connection.sendall(HEAD + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        running.should_exit = True
        thread.join(5)
        assert not thread.is_alive()
        assert b"the server is stopping" in connection.recv(65536)
    assert "Traceback" not in capfd.readouterr().err
