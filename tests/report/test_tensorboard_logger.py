"""What TensorBoard finds in a run's folder."""

import csv
import json

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from lightning.pytorch.loggers import TensorBoardLogger
from nets import tiny_net, tiny_resnet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from thaw.evaluation.predictions import Predictions
from thaw.features.head_inputs import HeadInputs, head_inputs
from thaw.models.backbones import build_net
from thaw.report.tensorboard_record import TensorBoardRecord
from train import main


@pytest.fixture
def board(tiny_run, tmp_path, without_pictures):
    """Trains a tiny net; gives back what TensorBoard reads, and the run's summary."""

    def go(*overrides, folder="run", **options):
        main(tiny_run(*overrides, folder=folder, **options))
        events = EventAccumulator(str(tmp_path / folder / "tensorboard"), size_guidance={"tensors": 0, "scalars": 0})
        events.Reload()
        return events, json.loads((tmp_path / folder / "summary.json").read_text())

    return go


def hyperparameters(events):
    content = events.PluginTagToContent("hparams")[metadata.SESSION_START_INFO_TAG]
    start = metadata.parse_session_start_info_plugin_data(content)
    return {name: value.string_value or value.number_value for name, value in start.hparams.items()}


def test_the_table_of_runs_has_what_was_swept_and_what_was_reached(board):
    events, summary = board(
        "strategy=bias", "seed=3", "strategy.lr=0.25", "optimizer.momentum=0.5", "scheduler=constant"
    )
    told = hyperparameters(events)
    assert told["strategy"] == "bias"
    assert (told["seed"], told["strategy.lr"], told["optimizer.momentum"]) == (3, 0.25, 0.5)
    assert (told["scheduler"], told["data.batch_size"], told["weights"]) == ("constant", 5, "none")
    reached = {"best/val/acc": summary["val"]["acc"], "cost/seconds": summary["seconds"]["total"]}
    assert {tag: events.Scalars(tag)[-1].value for tag in reached} == pytest.approx(reached)
    assert "hp_metric" not in events.Tags()["scalars"]
    assert metadata.SESSION_END_INFO_TAG in events.PluginTagToContent("hparams")


def test_the_table_of_runs_has_the_weights_and_the_size_of_images_that_were_used(board, monkeypatch):
    monkeypatch.setattr("thaw.training.checks._overrides", list)  # as if a file of conf/experiment had set the weights
    size = "data.image_size={_target_: thaw.models.sizes.demo_size, name: resnet34}"
    events, _ = board("strategy=from_scratch", "weights=imagenet", size)
    told = hyperparameters(events)
    assert told["weights"] == "none", "from_scratch loads none"
    assert told["data.image_size"] == 64


def test_a_run_that_was_continued_is_one_run_with_its_final_values(board, tmp_path):
    whole = tmp_path / "run"
    chosen = ["trainer.max_epochs=3", "strategy.lr=0.1", "callbacks.last.share=1e9"]
    chosen += ["+callbacks.kept._target_=callbacks.Snapshots", f"+callbacks.kept.folder={whole}"]
    board(*chosen)
    events, summary = board(*chosen, f"resume={whole}-1", root=tmp_path / "photos", folder="run-1")
    assert len(events.Scalars("val/acc")) == 3
    (best,) = events.Scalars("best/val/acc")
    assert best.value == pytest.approx(summary["val"]["acc"])
    assert hyperparameters(events)["strategy.lr"] == 0.1
    assert "resume" not in hyperparameters(events)
    assert len(events.PluginTagToContent("custom_scalars")) == 1


CSV = "{_target_: lightning.pytorch.loggers.CSVLogger, save_dir: '${output_dir}', name: csv}"


@pytest.mark.parametrize("logger", ["false", CSV], ids=["none", "another"])
def test_without_tensorboard_a_run_comes_to_its_end(tiny_run, tmp_path, without_pictures, logger):
    main(tiny_run(f"trainer.logger={logger}", "~callbacks.lr_monitor"))  # which wants a logger
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_training_and_validation_share_a_chart(board):
    events, _ = board()
    contents = events.PluginTagToContent("custom_scalars")
    (tag,) = contents
    layout = Layout.FromString(events.Tensors(tag)[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert charts == {"loss": ["train/loss", "val/loss"], "accuracy": ["train/acc", "val/acc"]}
    assert {tag for tags in charts.values() for tag in tags} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize("strategy", ["feature_extractor", "bias"])
def test_validation_images_are_projected_as_the_head_sees_them(board, tmp_path, strategy):
    board(f"strategy={strategy}", "trainer.precision=32-true")
    folder = tmp_path / "run" / "tensorboard"
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    with (folder / embedding.metadata_path).open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    with (tmp_path / "run" / "predictions.csv").open() as file:
        expected = [(row["label"], row["predicted"], row["path"]) for row in csv.DictReader(file)]
    assert [(row["class"], row["predicted"], row["path"]) for row in rows] == expected

    lines = (folder / embedding.tensor_path).read_text().splitlines()
    points = torch.tensor([[float(x) for x in line.split("\t")] for line in lines])
    net = tiny_net(2)
    weights = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    net.load_state_dict({key.removeprefix("net."): tensor for key, tensor in weights.items() if key.startswith("net.")})
    answers = net.fc(points).argmax(1)
    assert [("ants", "bees")[answer] for answer in answers] == [row["predicted"] for row in rows]


NETS = ["alexnet", "squeezenet1_1", "timm/resnet10t", "timm/vit_tiny_patch16_224"]


@pytest.mark.parametrize("name", NETS)
def test_of_any_net_what_goes_into_the_head_is_kept_whether_it_is_given_images_or_features(name):
    size = 224 if "vit" in name else 64
    net = build_net(name, num_classes=3, image_size=size).eval()
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        features = net.until(net.head_name).eval()(images)
        for given in [(images,), (features, net.head_name)]:
            with head_inputs(net, images=2) as inputs:
                net(*given)
            pooled = features.mean([2, 3]) if features.ndim == 4 else features
            assert torch.allclose(inputs.vectors, pooled, atol=1e-5)


@pytest.mark.parametrize(("images", "shown"), [(7, 7), (25_000, 10_000)])
def test_of_many_images_ten_thousand_are_kept_evenly_spread(images, shown):
    net = tiny_resnet(3).eval()
    features = torch.arange(images * 8.0).view(images, 8)
    with head_inputs(net, images) as inputs, torch.no_grad():
        for batch in features.split(64):
            net(batch, net.head_name)
    assert inputs.vectors.equal(features[inputs.shown])
    assert (len(inputs.shown), inputs.shown[0], inputs.shown[-1]) == (shown, 0, images - 1)
    assert inputs.shown.diff().max() - inputs.shown.diff().min() <= 1


def test_of_wide_vectors_fewer_are_kept_and_shown():
    inputs = HeadInputs(images=9000)
    inputs.keep(torch.ones(9000, 4096))
    assert inputs.vectors.shape == (8192, 4096)
    rows = inputs.spread(1000, 1_000_000)
    assert (len(rows), rows[0], rows[-1]) == (244, 0, 8191)
    assert len(inputs.spread(100, 1_000_000)) == 100


@pytest.fixture
def projected(tmp_path):
    """The file of what is written of three images with these vectors, if it is."""

    def write(points):
        record = TensorBoardRecord(TensorBoardLogger(tmp_path, name="", version="run"))
        inputs, paths = HeadInputs(images=3), [str(tmp_path / f"{n}.png") for n in range(3)]
        inputs.keep(points)
        evaluation = Predictions(paths, np.array([0, 1, 1]), np.ones((3, 2)), ("ants", "bees"))
        record.embedding(inputs, evaluation, tmp_path, step=1)
        return next(tmp_path.glob("run/*/*/tensors.tsv"), None)

    return write


@pytest.mark.parametrize("scale", [0, 1e-6, 1, 1e6])
def test_the_projectors_numbers_are_exact_to_a_ten_thousandth_of_the_largest(projected, scale):
    points = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)) * scale
    file = projected(points)
    written = torch.from_numpy(np.loadtxt(file)).float()
    assert torch.allclose(written, points, rtol=1e-6, atol=1e-4 * points.abs().max().item())
    assert max(map(len, file.read_text().split())) <= 12


@pytest.mark.parametrize("fault", [float("nan"), float("inf")])
def test_a_net_that_has_diverged_is_not_projected(projected, fault):
    assert projected(torch.full((3, 4), fault)) is None


def test_images_that_were_not_seen_just_once_are_not_shown():
    inputs = HeadInputs(images=3)
    assert inputs.vectors is None
    inputs.keep(torch.ones(2, 4))
    assert inputs.vectors is None
    inputs.keep(torch.ones(2, 4))
    assert inputs.vectors is None
