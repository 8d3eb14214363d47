"""Former names of modules in configurations and in runs of earlier versions."""

import logging

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from thaw.runs import moved_names
from thaw.runs.configuration import read_resolved, refuse_other_configuration, resolved
from thaw.runs.moved_names import current_name, use_current_names, with_current_names

SOLVER = "thaw.features.linear_solver.LogisticProbe"


@pytest.fixture(autouse=True)
def nothing_logged_before():
    moved_names._log_once.cache_clear()


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("thaw.probe.solver.LogisticProbe", SOLVER),
        ("thaw.data.demo.target_folder", "thaw.demo.datasets.target_folder"),
        ("thaw.features.cache.FeatureCache", "thaw.training.phase_data.FeatureCache"),
        ("thaw.models.timm_nets.build_timm_net", "thaw.models.families.timm.build_timm_net"),
        ("thaw.output.OwnFolder", "thaw.sweep.own_folder.OwnFolder"),
        ("thaw.data.datamodule.ImageFolderDataModule", "thaw.data.datamodule.image_folders"),
    ],
)
def test_a_class_or_function_is_found_by_its_former_name(former, current):
    assert current_name(former) == current == current_name(current)
    assert get_object(current_name(former))


def test_every_current_name_exists_and_is_no_former_name():
    for current in moved_names._NAMES.values():
        assert get_object(current) and current not in moved_names._NAMES


def test_a_former_name_in_a_configuration_works_and_its_current_name_is_logged_once(caplog):
    caplog.set_level(logging.INFO)
    phases = [{"solver": {"_target_": "thaw.probe.solver.LogisticProbe"}}, {"train": "all", "solver": None}]
    cfg = OmegaConf.create({"phases": phases, "builder": "${phases.0.solver._target_}", "unset": "???"})
    OmegaConf.set_struct(cfg, True)
    use_current_names(cfg)
    assert cfg.phases[0].solver._target_ == cfg.builder == SOLVER
    use_current_names(OmegaConf.create({"again": "thaw.probe.solver.LogisticProbe"}))
    (record,) = caplog.records
    assert record.getMessage().startswith(f"thaw.probe.solver.LogisticProbe is now called {SOLVER}")


def test_a_run_recorded_with_former_names_is_resumed_as_the_same_run(configure, tmp_path):
    cfg = configure("strategy=lp_ft", "data=demo", "model=timm", "model.name=vit_tiny_patch16_224")
    text = OmegaConf.to_yaml(resolved(cfg))
    former = {
        SOLVER: "thaw.probe.solver.LogisticProbe",
        "thaw.demo.datasets.": "thaw.data.demo.",
        "thaw.training.phase_data.": "thaw.features.cache.",
        "thaw.models.families.timm.": "thaw.models.timm_nets.",
    }
    for current, name in former.items():
        assert current in text
        text = text.replace(current, name)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/resolved.yaml").write_text(text)
    assert read_resolved(tmp_path) == resolved(cfg)
    refuse_other_configuration(cfg, tmp_path)


def test_a_run_without_options_that_were_added_later_has_their_former_behaviour(configure, tmp_path):
    cfg = configure("strategy=lp_ft")
    values = resolved(cfg)
    del values["robustness"], values["lr_factor"], values["data"]["val_as_test"], values["data"]["test"]
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/resolved.yaml").write_text(OmegaConf.to_yaml(values))
    assert read_resolved(tmp_path) == resolved(cfg)
    refuse_other_configuration(cfg, tmp_path)


def test_text_that_only_contains_a_former_name_stays(tmp_path):
    values = {"root": "photos of thaw.data.demo.cats", "of": ["thaw.data.demo", 1, None]}
    assert with_current_names(values) == values
