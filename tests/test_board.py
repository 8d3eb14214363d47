"""What TensorBoard finds in a run's folder."""

import csv
import json

import pytest
import torch
from google.protobuf import text_format
from nets import tiny_net, tiny_resnet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from thaw.models.backbones import build_net
from thaw.report.board import head_inputs
from train import main


@pytest.fixture
def board(tiny_run, tmp_path, without_pictures):
    """Trains a tiny net; gives back what TensorBoard reads, and the run's summary."""

    def go(*overrides):
        main(tiny_run(*overrides))
        events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"tensors": 0, "scalars": 0})
        events.Reload()
        return events, json.loads((tmp_path / "run" / "summary.json").read_text())

    return go


def test_the_table_of_runs_has_what_was_swept_and_what_was_reached(board):
    events, summary = board(
        "strategy=bias", "seed=3", "strategy.lr=0.25", "optimizer.momentum=0.5", "scheduler=constant"
    )
    contents = events.PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    told = {name: value.string_value or value.number_value for name, value in start.hparams.items()}
    assert told["strategy"] == "bias"
    assert (told["seed"], told["strategy.lr"], told["optimizer.momentum"]) == (3, 0.25, 0.5)
    assert (told["scheduler"], told["data.batch_size"], told["weights"]) == ("constant", 5, "none")
    reached = {"best/val/acc": summary["val"]["acc"], "cost/seconds": summary["seconds"]["total"]}
    assert {tag: events.Scalars(tag)[-1].value for tag in reached} == pytest.approx(reached)
    assert "hp_metric" not in events.Tags()["scalars"]
    assert metadata.SESSION_END_INFO_TAG in contents


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


@pytest.mark.parametrize("name", ["squeezenet1_1", "vit_b_32", "timm/resnet10t"])
def test_the_head_of_every_net_is_given_a_vector(name):
    size = 224 if name == "vit_b_32" else 64
    net = build_net(name, num_classes=3, image_size=size).eval()
    with head_inputs(net) as seen, torch.no_grad():
        net(torch.zeros(2, 3, size, size, dtype=torch.uint8))
    (vectors,) = seen
    assert vectors.shape[0] == 2
    assert vectors.ndim == 2


def test_what_goes_into_the_head_is_what_the_head_multiplies():
    net = tiny_resnet(3).eval()
    with head_inputs(net) as seen, torch.no_grad():
        logits = net(torch.randint(0, 256, (4, 3, 20, 20), dtype=torch.uint8))
    assert torch.equal(net.fc(seen[0]), logits)
