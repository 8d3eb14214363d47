import json

import pytest
import torch
from lightning import Callback
from nets import tiny_net

from thaw.data.datamodule import image_folders
from thaw.errors import FrozenTensorError
from thaw.strategy.phases import Strategy
from thaw.training.classifier import ImageClassifier, Recipe
from thaw.training.invariants import digests
from thaw.training.trainer import build_trainer, fit
from train import main


def test_a_digest_changes_with_any_bit():
    net = tiny_net(2)
    names = ["bn1.running_var", "bn1.weight"]
    first = digests(net, names)
    assert digests(net, names) == first
    net.bn1.running_var[3] += 1e-7
    second = digests(net, names)
    assert second["bn1.weight"] == first["bn1.weight"]
    assert second["bn1.running_var"] != first["bn1.running_var"]


@pytest.mark.parametrize("name", ["conv1.weight", "bn1.running_mean", "normalize.shift"])
def test_a_frozen_tensor_that_changes_fails_the_run_and_is_named(image_folder, name):
    class Spoiler(Callback):
        def on_train_batch_end(self, trainer, classifier, *batch):
            tensors = dict(classifier.net.named_parameters()) | dict(classifier.net.named_buffers())
            tensors[name].data.view(-1)[0] += 1e-6

    net = tiny_net(2)
    optimizer = lambda groups: torch.optim.SGD(groups)  # noqa: E731
    classifier = ImageClassifier(net, ["a", "b"], Recipe(optimizer, lambda o: torch.optim.lr_scheduler.StepLR(o, 1)))
    options = {"logger": False, "enable_checkpointing": False, "max_epochs": 2}
    trainer = build_trainer("cpu", "32-true", callbacks=[Spoiler()], **options)
    phases = Strategy("test", [{"train": ["layer1"]}], 0.1).schedule(net, 2)
    data = image_folders(image_folder(), image_size=16, batch_size=5)
    with pytest.raises(FrozenTensorError, match=rf"the frozen tensor {name} changed between the epochs 1 and 2\."):
        fit(trainer, classifier, phases, data)


def test_a_run_that_changed_something_frozen_ends_with_a_sentence_and_status_1(tiny_run, tmp_path, caplog):
    with pytest.raises(SystemExit) as raised:
        main(tiny_run("+callbacks.thief._target_=callbacks.Thief"))
    assert raised.value.code == 1
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["status"], summary["frozen_unchanged"]) == ("failed", False)
    assert summary["error"] == "the frozen tensor conv1.weight changed between the epochs 1 and 2."
