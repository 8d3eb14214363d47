"""The benchmark's yardstick, its arithmetic and its command."""

import json
import math
import sys

import numpy as np
import pytest
import torch
import torchvision
from conftest import ROOT
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models.resnet import BasicBlock, ResNet

from thaw.benchmark import ceiling, gpu, inputs, loop, measurements, results_table
from thaw.benchmark.cases import CASES, Task, plan
from thaw.benchmark.measure import time_left
from thaw.benchmark.sides import Sides, override
from thaw.commands.benchmark_speed import main
from thaw.commands.frame import run as run_command
from thaw.errors import RunError

CPU = torch.device("cpu")


@pytest.fixture
def small_resnet(monkeypatch, tmp_path):
    """Stands in for all of torchvision's nets; gives the file of its weights."""
    monkeypatch.setattr(torchvision.models, "get_model", lambda name: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=7))
    return inputs.random_weights("resnet18", tmp_path / "weights.pth")


@pytest.mark.parametrize("strategy", loop.TRAINABLE)
def test_the_loop_trains_what_the_strategy_says_from_the_weights_given(small_resnet, image_folder, strategy):
    before = torch.load(small_resnet)
    model = loop.build_model("resnet18", small_resnet, strategy, 2)
    head = {name: tensor.clone() for name, tensor in model.fc.state_dict(prefix="fc.").items()}
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items() if name not in head)
    images = {"train": DataLoader(TensorDataset(torch.rand(8, 3, 32, 32), torch.tensor([0, 1] * 4)), 4)}
    loop.run_epoch(model, images["train"], CPU, SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))
    changed = {name for name, tensor in model.named_parameters() if not tensor.equal({**before, **head}[name])}
    learned = {"fine_tune": "", "feature_extractor": "fc", "layer3_layer4": ("layer3", "layer4", "fc")}[strategy]
    assert changed == {name for name, _ in model.named_parameters() if name.startswith(learned)}
    assert not model.bn1.running_mean.equal(before["bn1.running_mean"]), "as in tutorials, statistics are not frozen"


def test_an_epoch_of_the_loop_is_that_of_sgd_with_momentum_written_out():
    torch.manual_seed(0)
    x, y = torch.randn(10, 3), torch.randint(2, (10,))
    model = nn.Linear(3, 2)
    weight, speed = model.weight.detach().clone().double(), 0
    bias, bias_speed = model.bias.detach().clone().double(), 0
    for part, labels in zip(x.double().split(4), y.split(4), strict=True):
        error = (part @ weight.T + bias).softmax(1) - nn.functional.one_hot(labels, 2)
        speed = 0.9 * speed + error.T @ part / len(part)
        bias_speed = 0.9 * bias_speed + error.mean(0)
        weight, bias = weight - 0.1 * speed, bias - 0.1 * bias_speed
    loop.run_epoch(model, DataLoader(TensorDataset(x, y), 4), CPU, SGD(model.parameters(), lr=0.1, momentum=0.9))
    torch.testing.assert_close(model.weight.detach().double(), weight, rtol=1e-5, atol=1e-6)
    right = (x.double() @ weight.T + bias).argmax(1) == y
    assert loop.run_epoch(model, DataLoader(TensorDataset(x, y), 4), CPU) == right.double().mean()


def test_the_loop_keeps_the_best_epoch_and_lowers_the_rate_after_seven(monkeypatch):
    model, rates, accuracies = nn.Linear(1, 1), [], iter([0.2, 0.5, 0.9, 0.9, *[0.1] * 5])

    def epoch(model, images, device, optimizer=None):
        if optimizer is None:
            return next(accuracies)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        model.bias.data.fill_(len(rates))

    monkeypatch.setattr(loop, "run_epoch", epoch)
    rows = loop.train(model, {"train": None, "val": None}, 9, 0.001, CPU)
    assert model.bias.item() == 3, "the first of the two best"
    assert rates == pytest.approx([0.001] * 7 + [0.0001] * 2)
    assert [row["val_acc"] for row in rows[:3]] == [0.2, 0.5, 0.9]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # whatever the machine has
def test_the_loop_reads_folders_in_batches_of_four_and_normalises(image_folder):
    root = image_folder(train=3, val=2, size=60)
    loaders = loop.image_loaders(root, train_size=40, image_size=49)
    assert {loader.num_workers for loader in loaders.values()} == {4}
    assert loaders["train"].dataset[0][0].shape == (3, 40, 40)
    with Image.open(root / "val/ants/0.png") as image:
        side = Image.Image.resize(image, (64, 56), Image.Resampling.BILINEAR)  # 69 x 60: the short side becomes 56
    pixels = np.asarray(side)[4:53, 8:57] / 255  # the middle, by torchvision's rounding
    expected = (pixels - np.array(loop.MEAN)) / np.array(loop.STD)
    np.testing.assert_allclose(loaders["val"].dataset[0][0].permute(1, 2, 0), expected, atol=1e-5)


def test_loop_and_thaw_take_turns_and_a_warm_run_follows_the_cold_one():
    loop_run, cold, warm = (Task(side, "feature_extractor", 10) for side in ("loop", "thaw", "thaw"))
    warm = Task("thaw", "feature_extractor", 10, warm=True)
    assert plan(["feature_extractor_warm"], 2) == [loop_run, cold, warm] * 2
    assert plan(["feature_extractor_warm", "feature_extractor_cold"], 1) == [loop_run, cold, warm]
    sweep = Task("thaw", "feature_extractor", 10, sweep=True)
    assert plan(["sweep"], 1) == [loop_run, sweep]
    assert plan(["sweep"], 1, every_loop=True) == [Task("loop", "feature_extractor", 10, sweep=True), sweep]
    assert [task.name for task in plan(["synthetic"], 1)] == ["ceiling fine_tune", "thaw fine_tune"]
    assert {task.epochs for task in plan(list(CASES), 1, epochs=2)} == {2}


def loop_run(seconds, *epochs):
    return {"seconds": seconds, "epochs": epochs}


def thaw_run(seconds, *epochs, rate=80.0):
    settings = {"batch_size": 32, "precision": "bf16-mixed", "channels_last": "auto"}
    return {**loop_run(seconds, *epochs), "train_images_per_second": rate, **settings}


@pytest.fixture
def measured():
    """Three repeats of everything."""
    swept = {"seconds": 30, "runs": [thaw_run(5, 1)] * 9}
    return {
        "loop fine_tune": [loop_run(99, 9, 8, 7), loop_run(99, 10, 10, 50), loop_run(99, 6, 9, 4)],
        "thaw fine_tune": [thaw_run(99, 2, 1), thaw_run(99, 4, 4, rate=60), thaw_run(99, 2, 2, rate=70)],
        "ceiling fine_tune": [{"seconds": 20, "images_per_second": rate} for rate in (100, 90, 200)],
        "loop feature_extractor": [loop_run(20, 1), loop_run(26, 1), loop_run(22, 1)],
        "thaw feature_extractor": [thaw_run(8, 1), thaw_run(44, 1), thaw_run(11, 1)],
        "thaw feature_extractor warm": [thaw_run(4, 1), thaw_run(5, 1), thaw_run(6, 1)],
        "thaw feature_extractor sweep": [swept, {**swept, "seconds": 33}, {**swept, "seconds": 36}],
        "loop layer3_layer4": [loop_run(12, 1)] * 3,
        "thaw layer3_layer4": [thaw_run(15, 1)] * 3,
    }


def test_ratios_are_those_of_medians_over_repeats(measured):
    rows = {row["case"]: row for row in measurements.rows(list(CASES), measured)}
    ratios = {name: row["ratio"] for name, row in rows.items() if "ratio" in row}
    assert ratios == {
        "fine_tune": 8 / 2,  # of the medians 8, 10 and 6 over 1.5, 4 and 2
        "feature_extractor_cold": 22 / 11,
        "feature_extractor_warm": 22 / 5,
        "layer3_layer4": 12 / 15,
        "sweep": 9 * 22 / 33,
    }
    assert rows["fine_tune"]["loop"] == {"seconds": [8, 10, 6], "median": 8}
    assert rows["sweep"]["loop_is"] == "9 times one run"
    assert rows["synthetic"]["share"] == 70 / 100


def test_a_sweep_of_the_loop_that_was_run_is_taken_as_it_is(measured):
    measured["loop feature_extractor sweep"] = [{"seconds": 180, "runs": [loop_run(20, 1)] * 9}]
    (row,) = measurements.rows(["sweep"], measured, every_loop=True)
    assert (row["ratio"], row["loop_is"]) == (180 / 33, "measured")


def test_a_case_has_a_row_once_both_sides_were_measured(measured):
    del measured["loop fine_tune"], measured["thaw layer3_layer4"]
    assert {row["case"] for row in measurements.rows(list(CASES), measured)} == {*CASES} - {
        "fine_tune",
        "layer3_layer4",
    }


@pytest.fixture
def record(measured):
    images = {"train": 240, "val": 150}
    sizes = {"train_size": 256, "image_size": 224, "batch_size": None}
    return {
        "finished": True,
        "machine": {**measurements.machine(), "cpu": "Abacus", "cores": 2, "gpu": None},
        "options": {"model": "resnet34", "repeats": 3, "images": images, **sizes},
        "rows": measurements.rows(list(CASES), measured),
        "measurements": measured,
    }


def test_the_table_has_both_sides_and_says_where_the_speed_comes_from(record):
    text = results_table.table(record)
    lines = [line.split() for line in text.splitlines()]
    assert ["fine_tune", "an", "epoch", "8", "s", "2", "s", "4.00", "×"] in lines
    assert ["sweep", "9", "whole", "runs", "198", "s", "33", "s", "6.00", "×"] in lines
    words = " ".join(text.split())
    assert "2 cores of Abacus; resnet34, 240 training and 150 validation images" in words
    assert "The loop's sweep is 9 times one run." in words
    assert "which explain the difference: batches of 32, precision bf16-mixed" in words
    assert "70 images/s, 70% of the ceiling of 100 images/s." in words


def test_the_picture_has_a_bar_of_each_ratio_and_its_seconds(record, tmp_path):
    (axes,) = results_table.bars(record).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([4, 2, 4.4, 0.8, 6])
    assert next(text.get_text() for text in axes.texts) == "4.00 ×  (loop 8 s, Thaw 2 s)"
    assert axes.get_yticklabels()[-1].get_text() == "sweep\n9 whole runs"


@pytest.mark.parametrize("value, text", [(0.2734, "0.273 s"), (1.0, "1 s"), (12.34, "12.3 s"), (1234.5, "1234 s")])
def test_seconds_have_three_significant_digits(value, text):
    assert results_table.seconds(value) == text


def test_the_time_left_is_known_from_what_was_measured():
    tasks = plan(["feature_extractor_warm"], 2)
    assert time_left(tasks, {}) == ""
    measured = {"loop feature_extractor": [{"seconds": 50}]}
    assert time_left(tasks[1:], measured) == "; at least 50 s left"
    measured |= {"thaw feature_extractor": [{"seconds": 20}], "thaw feature_extractor warm": [{"seconds": 7}]}
    assert time_left(tasks[3:], measured) == "; 1 min 17 s left"


def test_drawn_photographs_are_as_large_as_photographs_and_drawn_once():
    root = inputs.drawn_photographs(train=2, val=1)
    files = sorted(root.rglob("*.jpg"))
    assert [path.relative_to(root).parts[:2] for path in files[::2]] == [
        ("train", "cat"),
        ("train", "dog"),
        ("val", "cat"),
    ]
    with Image.open(files[0]) as image:
        assert image.size == (500, 375)
    assert all(30_000 < path.stat().st_size < 120_000 for path in files)
    times = [path.stat().st_mtime_ns for path in files]
    assert inputs.drawn_photographs(train=2, val=1) == root
    assert [path.stat().st_mtime_ns for path in files] == times


def test_the_ceiling_computes_as_thaw_trains(image_folder, monkeypatch):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    overrides = ["data=image_folder", f"data.root={image_folder()}", "data.train_size=16", "data.batch_size=6"]
    overrides += [
        "strategy=fine_tune",
        "model._target_=nets.tiny_net",
        "trainer.precision=bf16-mixed",
        "trainer.accelerator=cpu",
    ]
    seen = []
    forward = nn.Conv2d.forward

    def watched(self, x):
        result = forward(self, x)
        seen.append((tuple(x.shape), result.dtype, self.weight.is_contiguous(memory_format=torch.channels_last)))
        return result

    monkeypatch.setattr(nn.Conv2d, "forward", watched)
    step, device = ceiling.build_step(ceiling.compose_config(overrides), classes=3)
    assert device == CPU
    seconds = ceiling.step_seconds(step, device, seconds=0)
    assert len(seconds) == ceiling._FEWEST
    assert seen[0] == ((6, 3, 16, 16), torch.bfloat16, True)
    assert len(seen) == 2 * (len(seconds) + ceiling._WARM_UP), "two convolutions a step"


@pytest.mark.parametrize("path", ["/photos of Ann's, {all}=1 (a)", r"1\2\'3", "end\\"])
def test_a_path_reaches_hydra_as_it_is(path):
    parsed = OverridesParser.create().parse_override(override("data.root", path))
    assert (parsed.key_or_group, parsed.value()) == ("data.root", path)


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """Runs the command in this process and gives its exit status."""
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments):
        small = ["--model", "resnet18", "--train", "1", "--val", "1", "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *small, *arguments])
        return run_command(main)

    return run


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (
            ["--model", "vgg16"],
            "--model vgg16 is no ResNet, but the loop needs one; the choices are",
        ),
        (["--root", "nowhere"], "there is no folder "),
        (["--out", str(ROOT / "tests")], "is not empty; name a new folder."),
    ],
)
def test_what_cannot_be_compared_is_an_error_with_status_2(benchmark, capsys, arguments, reason, tmp_path):
    assert benchmark(*arguments) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("error: ") and reason in sentence and sentence.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--cases", "speed"], ["--repeats", "0"], ["--epochs", "-1"]])
def test_unknown_cases_and_counts_are_refused_with_status_2(benchmark, capsys, arguments):
    with pytest.raises(SystemExit) as raised:
        benchmark(*arguments)
    assert raised.value.code == 2
    assert repr(arguments[1]) in capsys.readouterr().err


@pytest.mark.parametrize("stop, status", [(KeyboardInterrupt(), 130), (RunError("a process ended"), 1)])
def test_what_was_measured_is_kept_when_the_benchmark_ends_early(
    benchmark, monkeypatch, measured, capsys, tmp_path, stop, status
):
    def measure(self, task):
        if task.strategy == "layer3_layer4":
            raise stop
        return measured[task.name][0]

    monkeypatch.setattr(Sides, "measure", measure)
    monkeypatch.setattr(Sides, "warm_up", lambda self: None)
    assert benchmark("--cases", "fine_tune", "layer3_layer4", "--repeats", "2") == status
    out = capsys.readouterr().out
    assert "1/8  loop fine_tune, 3 epochs\n" in out and "4/8  thaw fine_tune, 3 epochs; at least" in out
    assert "5.33 ×" in out and "ended early" in out, "the table of what there is"
    record = json.loads((tmp_path / "out/benchmark.json").read_text())
    assert record["finished"] is False
    assert [row["case"] for row in record["rows"]] == ["fine_tune"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["benchmark.json", "benchmark.png"]


@pytest.mark.slow
def test_both_sides_run_side_by_side(benchmark, capsys, tmp_path):
    cases = ["fine_tune", "sweep", "synthetic"]
    sizes = ["--train-size", "32", "--image-size", "32", "--train", "4", "--val", "3", "--batch-size", "5"]
    assert benchmark("--cases", *cases, *sizes, "--epochs", "1", "--repeats", "1") == 0
    record = json.loads((tmp_path / "out/benchmark.json").read_text())
    assert record["finished"] is True
    assert [row["case"] for row in record["rows"]] == cases
    assert all(0 < row.get("ratio", row.get("share")) < math.inf for row in record["rows"])
    assert record["options"]["images"] == {"train": 8, "val": 6}
    for name, (run,) in record["measurements"].items():
        assert run["seconds"] > 0
        if "sweep" in name:
            assert len(run["runs"]) == 9
        elif not name.startswith("ceiling"):
            assert 0 < sum(run["epochs"]) < run["seconds"]
    assert record["measurements"]["thaw fine_tune"][0]["batch_size"] == 5
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"benchmark.json", "benchmark.png", "processes"}
    assert not list((tmp_path / "out").rglob("*.ckpt"))
    assert "by --batch-size" in capsys.readouterr().out


@pytest.mark.slow
def test_the_limits_of_a_device_are_printed_row_by_row(monkeypatch, capsys):
    options = ["--model", "resnet18", "--size", "32", "--batches", "4", "--seconds", "0.1"]
    monkeypatch.setattr("sys.argv", ["gpu", *options])
    gpu.main()
    rows = capsys.readouterr().out.splitlines()
    assert [row.partition("  ")[0] for row in rows] == [
        "step, batch 4, graph=false",
        "step, batch 4, graph=auto",
        "frozen pass, batch 4",
        "crops on the device, batch 4",
    ]
    assert all(float(row.split()[-4].replace(",", "")) > 0 for row in rows)
