"""Overrides that Hydra refuses: one sentence with status 2 that says what to type, or what was meant."""

import os
import sys

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from thaw.runs import ownership
from thaw.runs.launch import launch

CONF = ROOT / "conf" / "train.yaml"


@pytest.fixture
def composed(monkeypatch, capsys):
    """Launches with arguments a command that only composes its configuration; gives that, or else what is told."""

    def go(*arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        made = []

        def main():
            with initialize_config_dir(str(CONF.parent), version_base="1.3"):
                made.append(compose("train", sys.argv[1:]))

        try:
            launch(main, CONF)
        except SystemExit as stop:
            assert stop.code == 2
            return capsys.readouterr().err
        assert "HYDRA_FULL_ERROR" not in os.environ
        return made[0]

    return go


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("+trainer.max_epochs=3", "trainer.max_epochs is set already: write trainer.max_epochs=3, without +."),
        ("+strategy=probe", "strategy is set already: write strategy=probe, without +."),
        ("batch_size=8", "batch_size is not a key of the configuration; did you mean data.batch_size?"),
        ("optimizers=sgd", "optimizers is not a key of the configuration; did you mean optimizer?"),
        (
            "strategy=prob",
            "strategy=prob is not an option of strategy; did you mean probe? The choices are batch_norm, ",
        ),
        ("mix=a=b", "mix=a=b cannot be read: put its value in quotes, 'mix=\"a=b\"'."),
        ("seed", "seed is not an option: options are key=value; python train.py --help lists them."),
        ("seed=1,2", "seed=1,2 has several values: add -m to run each, or write 'seed=\"1,2\"' for one value."),
        ("~nothing", "Could not delete from config. 'nothing' does not exist."),
    ],
)
def test_what_hydra_refuses_is_told_in_one_sentence(composed, override, told):
    err = composed(override)
    assert err.startswith(f"error: {told}")
    assert err.count("\n") == 1


def test_a_mistyped_argument_of_a_component_stays_refused(composed):
    assert "did you mean trainer.max_epochs?" in composed("trainer.max_epoch=3")
    assert "did you mean optimizer.weight_decay?" in composed("optimizer.weight_decai=0.1", "optimizer=adamw")


def test_an_argument_that_the_code_takes_needs_no_plus(composed):
    cfg = composed("trainer.gradient_clip_val=1", "optimizer.maximize=false", "seed=3")
    assert (cfg.trainer.gradient_clip_val, cfg.optimizer.maximize, cfg.seed) == (1, False, 3)


def test_code_from_elsewhere_is_not_looked_at_for_its_arguments(composed):
    assert "optimizer.file is not a key" in composed("optimizer._target_=pydoc.writedoc", "optimizer.file=x")


def test_a_command_that_ends_with_status_2_leaves_no_new_folder(tmp_path, monkeypatch):
    def main():
        ownership.new_folder(tmp_path / "outputs" / "now")
        raise SystemExit(2)

    with pytest.raises(SystemExit):
        launch(main, CONF)
    assert not list(tmp_path.glob("outputs"))


@pytest.mark.parametrize("option", ["disabled", "none", "stdout", "default", "thaw"])
def test_every_way_to_log_of_hydras_can_be_chosen(configure, option):
    configure(f"hydra/job_logging={option}", "hydra.runtime.output_dir=.")
    handlers = OmegaConf.to_container(HydraConfig.instance().cfg.hydra.job_logging, resolve=False).get("handlers", {})
    assert all("class" in handler for handler in handlers.values())
    assert ("stderr" in handlers) is (option == "thaw")
