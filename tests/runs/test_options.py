"""Options of Lightning and PyTorch that practitioners add: whole runs on tiny images."""

import json

import pytest
import torch
from conftest import rows

from thaw.errors import UserError
from thaw.training.schedules import by_epoch
from thaw.training.trainer import build_trainer
from train import main


def test_a_scheduler_that_waits_for_a_metric_is_given_the_one_that_its_mode_means():
    def monitor(mode):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
        return by_epoch(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode))["monitor"]

    assert (monitor("min"), monitor("max")) == ("val/loss", "val/acc")


def test_a_machine_with_a_gpu_is_no_reason_to_warn_of_a_run_on_its_cpu(monkeypatch):
    """Else no test on such a machine passes, where warnings are errors."""
    monkeypatch.setattr("lightning.pytorch.trainer.setup.CUDAAccelerator.is_available", lambda: True)
    build_trainer("cpu", devices=1, logger=False, enable_checkpointing=False)


@pytest.mark.slow
def test_clipping_a_plateau_and_early_stopping_alone_go_with_everything(tiny_run, tmp_path, without_pictures):
    plateau = ["scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau", "+scheduler.patience=0"]
    plateau += ["~scheduler.step_size", "~scheduler.gamma", "+scheduler.mode=max", "+scheduler.threshold=2"]
    clipped = [
        "model._target_=nets.normless_net",
        "+trainer.gradient_clip_val=1e-6",
        "trainer.precision=bf16-mixed",
        "strategy=fine_tune",
    ]
    callbacks = ["callbacks=early_stopping", "callbacks.bar=null", "trainer.max_epochs=3"]
    main(tiny_run(*plateau, *clipped, *callbacks, "strategy.lr=0.1", "optimizer.momentum=0"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["epochs"]) == ("finished", 3)
    rates = [float(row["lr"]) for row in rows(tmp_path / "run" / "metrics.csv")]
    assert rates[2] == pytest.approx(rates[0] / 10), "no accuracy rises by the threshold"
    losses = [float(row["val/loss"]) for row in rows(tmp_path / "run" / "metrics.csv")]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-3), "steps are as short as they are clipped"


@pytest.mark.slow
def test_a_run_on_the_cpu_never_asks_for_the_gpu_of_its_machine(tiny_run, tmp_path, without_pictures, monkeypatch):
    for name in ("torch.cuda.is_available", "lightning.pytorch.trainer.setup.CUDAAccelerator.is_available"):
        monkeypatch.setattr(name, lambda: True)
    main(tiny_run("trainer.max_epochs=1"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["peak_memory_mb"] > 0


@pytest.mark.slow
def test_what_is_refused_leaves_an_earlier_run_in_the_folder_alone(tiny_run, tmp_path, without_pictures):
    main(tiny_run("trainer.max_epochs=1"))
    kept = (tmp_path / "run" / "checkpoints" / "best.ckpt").read_bytes()
    for wrong in ("loss.label_smoothing=1.5", "+optimizer.lr=1"):
        with pytest.raises(SystemExit) as ended:
            main(tiny_run(wrong, root=tmp_path / "photos"))
        assert ended.value.code == 2
        assert isinstance(ended.value.__cause__, UserError)
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").read_bytes() == kept
