"""A trained model behind a port: its answers, its page and its script."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch
from conftest import ROOT, environment
from PIL import Image
from served import (
    CLASSES,
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

from thaw.inference.gradcam import gradcam, overlaid
from thaw.inference.serve import server
from thaw.inference.serve.batching import Batcher
from thaw.pages.html import data_url
from train import main

SCRIPT = [sys.executable, str(ROOT / "scripts" / "serve.py")]


def test_health_names_the_model_and_its_classes(client):
    assert client.get("/health").json() == {"status": "ok", "model": "squeezenet1_1", "classes": CLASSES}


def test_an_answer_is_the_models_own_for_the_file(client, model, images):
    for path in images[:4]:
        assert_is_own(client.post("/predict", content=path.read_bytes()), own_answer(model, path))


def test_a_file_in_a_form_is_answered_as_the_file_itself(client, model, images):
    content = images[0].read_bytes()
    answer = client.post("/predict?top=3", files={"file": ("a cat.jpg", content, "image/jpeg")}, data={"note": "x"})
    assert_is_own(answer, own_answer(model, images[0]))
    for files, status, told in (
        ([("a", content), ("b", content)], 400, "the form holds several files, but the server takes one: send"),
        ([("a", b"no image")], 415, "not an image of a known format"),
    ):
        assert_refused(client.post("/predict", files=files), status, told)


def test_as_many_classes_are_reported_as_are_asked_for(client, images):
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


@pytest.mark.parametrize(
    ("host", "url", "hosts"),
    [
        ("localhost", r"http://(127\.0\.0\.1|\[::1\]):", {"localhost", "127.0.0.1", "::1"}),
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
    assert card.locator(".result").text_content() == f"{CLASSES[expected.index(best)]}, {100 * best:.1f}\u00a0%"
    assert card.locator("h2").text_content() == images[0].name
    assert sorted(card.locator("li span:first-child").all_text_contents()) == CLASSES
    for picture in card.locator("img").all():
        picture.wait_for()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert card.locator("img").nth(1).evaluate("image => image.naturalWidth") == 64
    failed = page.locator(".card", has=page.locator(".failed"))
    assert failed.locator("h2").text_content() == text.name
    assert "not an image of a known format" in failed.locator(".result").text_content()
    assert page.locator(".card b").count() == len(CLASSES)  # the bars: names are no markup
    assert page.locator(".card i").count() == 0
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
        url = re.fullmatch(r"open (http://127.0.0.1:\d+) \(Ctrl-C stops the server\)\n", process.stdout.readline())[1]
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
    assert process.stderr == "error: uvicorn is not installed: serving needs pip install -e '.[serve]'.\n"
