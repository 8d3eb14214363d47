import copy
import csv
import gc
import io
import multiprocessing
import os
import runpy
import shutil
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported: test processes share the cores

# Configurations of tests may name the nets and callbacks in tests/.
os.environ["THAW_TARGETS"] = ",".join(path.stem for path in Path(__file__).parent.glob("*.py"))

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from PIL import Image

# Only tests marked gpu use a GPU. CUDA reads CUDA_VISIBLE_DEVICES when it starts, and no code here starts CUDA.
# xdist's worker processes read THAW_TESTS_SEE, because the main process changes CUDA_VISIBLE_DEVICES.
_GPU_CALLS = {name: getattr(torch.cuda, name) for name in ("is_available", "device_count")}
_VISIBLE = os.environ.setdefault("THAW_TESTS_SEE", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))


def _show_gpus(visible):
    if visible == "all":
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible


_show_gpus(_VISIBLE)
GPUS = torch.cuda.device_count()
_show_gpus("")
torch.cuda.is_available, torch.cuda.device_count = lambda: False, lambda: 0

ROOT = Path(__file__).parent.parent
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "ants_bees"


def pytest_collection_modifyitems(items):
    """Start tests with a time limit first, because they take longest and other tests can run beside them."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_collection_finish():
    """Exclude the modules loaded so far from garbage collection, which would take a tenth of the test time."""
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()


def _read_once(load):
    """Cache parsed configuration files, because hundreds of tests compose a configuration."""
    known = {}

    def load_config(self, config_path):
        place = config_path, *(source.path for source in self.get_sources())
        if place not in known:
            known[place] = load(self, config_path)
        return copy.deepcopy(known[place])

    return load_config


ConfigRepository.load_config = _read_once(ConfigRepository.load_config)


@pytest.fixture(autouse=True)
def offline_and_private(tmp_path, monkeypatch):
    """Keep all tests away from the user's caches and from the network."""
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "thaw-cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))
    monkeypatch.delenv("THAW_DEBUG", raising=False)
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(autouse=True)
def visible_gpu(request, monkeypatch):
    """Show the machine's GPUs to tests marked gpu, and skip these tests without a GPU."""
    if not request.node.get_closest_marker("gpu"):
        return
    if not GPUS:
        pytest.skip("needs a CUDA GPU")
    for name, call in _GPU_CALLS.items():
        monkeypatch.setattr(torch.cuda, name, call)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that monkeypatch restores the variable
    _show_gpus(_VISIBLE)


@pytest.fixture
def image_folder(tmp_path):
    """Return a function that writes root/{train,val}/<class>/<n>.png, in colours that a net can learn."""

    def write(classes=("ants", "bees"), train=6, val=5, size=40, name="photos"):
        root = tmp_path / name
        random = np.random.default_rng(0)
        for split, count in (("train", train), ("val", val)):
            for label, folder in enumerate(classes):
                (root / split / folder).mkdir(parents=True)
                for number in range(count):
                    pixels = random.integers(0, 120, (size, size + 9, 3), dtype=np.uint8)
                    pixels[..., label % 3] += 100
                    Image.fromarray(pixels).save(root / split / folder / f"{number}.png")
        return root

    return write


@pytest.fixture
def configure(tmp_path):
    """Return a function that composes a configuration as `python train.py OVERRIDES` does, for the folder "run"."""
    before = HydraConfig.instance().cfg

    def compose_run(*overrides, folder="run"):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("train", [f"output_dir={tmp_path / folder}", *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

    yield compose_run
    HydraConfig.instance().cfg = before


@pytest.fixture
def tiny_run(configure, image_folder):
    """Return a function that composes a run of about a second: a tiny net, tiny images and two epochs."""

    def compose_run(*overrides, root=None, folder="run"):
        return configure(
            "data=image_folder",
            f"data.root={root or image_folder()}",
            "data.image_size=16",
            "data.batch_size=5",
            "model._target_=nets.tiny_net",
            "weights=none",
            "trainer.max_epochs=2",
            "trainer.accelerator=cpu",
            *overrides,
            folder=folder,
        )

    return compose_run


@pytest.fixture
def script(monkeypatch, capsys):
    """Return a function that runs scripts/<name>.py in this process and returns exit status, output and errors."""

    def run(name, *arguments, stdin=""):
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, arguments)])
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        sys.stderr.reconfigure(errors="backslashreplace")  # Python's own standard error does this too
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def without_pictures(monkeypatch):
    """Draw no figures, which halves the time of a run."""
    for name in ("first_samples", "samples", "predictions", "confusion_matrix"):
        monkeypatch.setattr(f"thaw.report.figures.{name}", lambda *given: None)
    monkeypatch.setattr("thaw.report.pictures._save_figure", lambda *given: None)


@pytest.fixture(scope="session")
def browser():
    """Start a real Chromium without a window."""
    found = list(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    if not found:
        pytest.skip("there is no chromium here to open the page in")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        yield browser
        browser.close()
        # A live loader process keeps the pipe of Playwright's driver open, so Playwright would wait for the process.
        # torch's handler of SIGCHLD raises an error for a killed loader process, in whatever test runs just then.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for child in multiprocessing.active_children():
            child.kill()


@pytest.fixture
def photographs():
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("the photographs of ants and bees are not beside this checkout")
    return PHOTOGRAPHS


def rows(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def environment(**changes) -> dict:
    return {**os.environ, **changes}
