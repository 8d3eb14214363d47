"""What a configuration says is compared with the code that it names, before anything is built."""

import copy
import re
from pathlib import Path

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from thaw.errors import UserError
from thaw.runs.call_signatures import parameters
from thaw.runs.components import check_components, instantiate
from thaw.runs.configuration import resolved
from thaw.runs.idle_options import options_without_effect, refuse_idle, refuse_idle_sweep
from thaw.runs.shorthand import GROUPS, expand_shorthand
from thaw.runs.type_hints import describe, fits
from thaw.sweep.recipe import add_multirun_flag

TARGET = {"adam": "torch.optim.Adam", "rmsprop": "torch.optim.RMSprop"}
CHECKPOINT = "lightning.pytorch.callbacks.ModelCheckpoint"
PLATEAU = "torch.optim.lr_scheduler.ReduceLROnPlateau"


@pytest.fixture(scope="module")
def default():
    """The configuration of image folders, composed once, and its values."""
    before = HydraConfig.instance().cfg
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["data=image_folder", "data.root=photos", "output_dir=run"], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    yield cfg, resolved(cfg)
    HydraConfig.instance().cfg = before


@pytest.fixture
def check(default):
    """Checks the configuration with `key` set to `value`, and whatever else."""

    def checked(changes):
        cfg, values = default[0], copy.deepcopy(default[1])
        for key, value in changes.items():
            *parents, name = key.split(".")
            node = values
            for parent in parents:
                node = node.setdefault(parent, {})
            if value is REMOVED:
                del node[name]
            else:
                node[name] = value
        values["trainer"]["callbacks"] = list(values["callbacks"].values())
        check_components(cfg, values)

    return checked


REMOVED = object()


def test_the_defaults_are_all_taken(check):
    check({})


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("optimizer.lr", 0.1, r"^optimizer\.lr=0\.1 has no effect: use strategy\.lr=0\.1\.$"),
        ("optimizer.params", [], "strategy.phases decides what learns"),
        ("model.num_classes", 5, "the class folders of data.root decide it"),
        ("model.image_size", 64, "use data.image_size=64"),
        ("model.pretrained", True, "use weights=imagenet or weights=none"),
        ("loss.weight", [1, 2], "use data.balance=weights"),
        ("trainer.enable_progress_bar", True, "~callbacks.bar"),
        ("trainer.gpus", 1, "use trainer.devices=1"),
        (
            "strategy.phases",
            [{"train": "all", "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 1}}],
            r"strategy\.phases\.0\.optimizer\.lr=1 has no effect",
        ),
    ],
)
def test_an_option_that_the_run_overwrites_is_refused_with_the_one_to_use(check, key, value, told):
    with pytest.raises(UserError, match=told):
        check({key: value})


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("data.batch", "data.batch_size"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("trainer.lr", "strategy.lr"),
        ("lr", "strategy.lr"),
        ("epochs", "trainer.max_epochs"),
        ("callbacks.last.shares", "callbacks.last.share"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(check, key, nearest):
    with pytest.raises(UserError, match=rf"^{key}.*did you mean {nearest}\?$"):
        check({key: 1})


@pytest.mark.parametrize("part", ["data", "model", "strategy", "optimizer", "scheduler", "loss", "head", "features",
                                  "callbacks.best", "callbacks.last", "logger.tensorboard"])  # fmt: skip
def test_no_part_takes_any_key(check, part):
    with pytest.raises(UserError, match=rf"^{part}\.foo: .* takes no such argument"):
        check({f"{part}.foo": 1})


@pytest.mark.parametrize(
    ("changes", "left_over"),
    [
        ({"optimizer._target_": TARGET["adam"]}, "~optimizer.momentum"),
        ({"optimizer._target_": TARGET["rmsprop"]}, "~optimizer.fused"),
        ({"scheduler._target_": PLATEAU}, "~scheduler.step_size ~scheduler.gamma"),
    ],
)
def test_what_is_left_over_from_another_class_is_told_with_what_removes_it(check, changes, left_over):
    with pytest.raises(UserError, match=left_over):
        check(changes)


def test_another_class_with_its_own_options_is_taken(check):
    check({"optimizer._target_": TARGET["adam"], "optimizer.momentum": REMOVED, "optimizer.betas": [0.9, 0.99]})
    check({"scheduler._target_": PLATEAU, "scheduler.step_size": REMOVED, "scheduler.gamma": REMOVED})
    check({"scheduler": {"_target_": "thaw.training.schedules.WarmupCosine", "warmup": 0}})
    check({"loss": {"_target_": "torch.nn.CrossEntropyLoss"}})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trainer.max_epochs": 1.5}, r"trainer\.max_epochs=1\.5 must be a whole number"),
        ({"data.batch_size": "many"}, "must be a whole number"),
        ({"optimizer.nesterov": 2.5}, "must be true or false"),
        ({"optimizer.weight_decay": True}, "must be a number"),
        ({"data.crop_scale": [0.5]}, "must be a list of 2"),
        ({"seed": 2**32}, "from 0 to 4294967295"),
        ({"seed": -1}, "from 0 to 4294967295"),
        ({"loss.label_smoothing": -0.1}, r"label_smoothing=-0\.1 must be a number of at least 0 and below 1"),
        ({"scheduler.step_size": 0}, r"step_size=0 must be a whole number of at least 1"),
        ({"scheduler.gamma": -1}, r"gamma=-1 must be a number above 0"),
        (
            {"mix": {"_target_": "torchvision.transforms.v2.MixUp", "alpha": 0}},
            r"mix\.alpha=0 must be a number above 0",
        ),
        ({"mix": {"alpha": 0.2}}, "mix has no _target_: choose mix=mixup"),
        ({"trainer.devices": 0}, "at least one device, or auto"),
        ({"callbacks.table.path": "x.csv"}, r"callbacks\.table\.path='x\.csv' is not possible"),
        (
            {"callbacks.best.filename": "../../mine"},
            r"callbacks\.best\.filename='\.\./\.\./mine' lies outside dirpath",
        ),
        ({"compile": "maybe"}, "compile='maybe' must be true or false"),
        ({"channels_last": "maybe"}, "must be auto, true or false"),
        ({"weights": None}, "must be imagenet, demo, none or the path of a file"),
        ({"callbacks.lr_monitor.logging_interval": "hour"}, "must be one of step, epoch or null"),
        ({"scheduler.step_size": REMOVED}, "scheduler.step_size is not set"),
        ({"optimizer": REMOVED}, "optimizer is missing"),
        ({"optimizer._target_": "torch.optim.Adamm"}, r"did you mean torch\.optim\.Adam\?"),
        ({"loss._target_": "torch.nn.CrossEntropyLoss"}, "needs loss._partial_=false"),
        ({"optimizer._partial_": False}, "needs optimizer._partial_=true"),
        ({"callbacks.mine": "early_stopping"}, "choose an option of conf/callbacks with callbacks=NAME"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(check, changes, told):
    with pytest.raises(UserError, match=told):
        check(changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trainer.fast_dev_run": True}, "use trainer=debug"),
        ({"trainer.overfit_batches": 1}, r"use \+trainer\.limit_train_batches=1"),
        ({"trainer.check_val_every_n_epoch": 2}, "every epoch is validated"),
        ({"trainer.limit_val_batches": 0}, "set at least 1"),
        ({"trainer.accumulate_grad_batches": 0}, "at least 1"),
        ({"trainer.gradient_clip_val": -1}, "above 0"),
        ({"trainer.default_root_dir": "x"}, "use hydra.run.dir=x"),
        ({"trainer.strategy": "fsdp"}, "not supported"),
        ({"callbacks.best": None}, "callbacks.best cannot be left out"),
        ({"callbacks.table": REMOVED}, "callbacks.table cannot be left out"),
        ({"callbacks.last.filename": "final"}, "resume= looks for last.ckpt"),
        ({"callbacks.x": {"_target_": "lightning.pytorch.callbacks.BackboneFinetuning"}}, "use strategy="),
    ],
)
def test_what_contradicts_every_run_is_refused_with_what_to_do(check, changes, told):
    with pytest.raises(UserError, match=told):
        check(changes)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("best.filename", "last", r"callbacks\.best and callbacks\.last both write checkpoints/last\.ckpt: .*best\.f"),
        (
            "more",
            {"_target_": CHECKPOINT, "dirpath": "./checkpoints", "filename": "best"},
            r"callbacks\.more\.filename",
        ),
    ],
)
def test_two_callbacks_do_not_write_the_same_checkpoint(check, key, value, told):
    with pytest.raises(UserError, match=told):
        check({f"callbacks.{key}": value})


def test_callbacks_that_write_different_checkpoints_pass(check):
    check({"callbacks.more": {"_target_": CHECKPOINT, "dirpath": "./elsewhere", "filename": "best"}})


def test_options_that_change_nothing_pass_and_so_does_a_bar_that_is_left_out(check):
    check({"trainer.fast_dev_run": False, "trainer.num_sanity_val_steps": 0, "callbacks.bar": None})


def test_a_key_that_others_refer_to_is_known(default):
    cfg, values = copy.deepcopy(default[0]), {**default[1], "rate": 0.1}
    OmegaConf.update(cfg, "strategy.lr", "${rate}", force_add=True)
    check_components(cfg, values)


def test_the_demo_takes_no_folder_and_nothing_that_is_for_folders(check):
    demo = {"data.preprocessing._target_": "thaw.models.sizes.demo_preprocessing"}
    with pytest.raises(UserError, match=r"data\.root='photos' is not for data=demo.*choose data=image_folder"):
        check(demo)
    with pytest.raises(UserError, match=r"data\.val_fraction=0\.3 has no effect on the demo's drawings"):
        check({**demo, "data.root": {"_target_": "thaw.demo.datasets.target_folder"}, "data.val_fraction": 0.3})


@pytest.mark.parametrize(
    ("value", "hint", "fitting"),
    [
        (1, float, True), (True, float, False), (True, int, False), (1.5, int, False), (None, int | None, True),
        (2024, str, True), ([1], int, False), ([0.1, 1], tuple[float, float], True), ([1], tuple[float, float], False),
        ({"_target_": "x"}, int, True), ("x", Path, True), ("x", str | Path | None, True), ("x", Path | None, True),
    ],
)  # fmt: skip
def test_values_fit_annotations_as_python_means_them(value, hint, fitting):
    assert fits(value, hint) is fitting
    assert describe(hint)


def test_arguments_that_are_handed_on_are_those_of_the_bases():
    from thaw.training.checkpoint_io import LastCheckpoint
    from thaw.training.trainer import build_trainer

    assert {"share", "dirpath", "save_top_k"} <= parameters(LastCheckpoint).keys()
    assert {"bf16_suits", "gradient_clip_val"} <= parameters(build_trainer).keys()
    assert parameters(lambda **options: None) is None


@pytest.mark.parametrize(
    ("changes", "override"),
    [
        ({"phases": [{"train": "head", "solver": {"_target_": "x"}}]}, "strategy.lr=0.1"),
        ({"phases": [{"train": "head", "solver": {"_target_": "x"}}]}, "optimizer=adamw"),
        ({"phases": [{"train": "head", "solver": {"_target_": "x"}}, {"train": "all", "lr": 1}]}, "strategy.lr=0.1"),
        ({"pretrained": False}, "weights=imagenet"),
        ({"phases": [{"train": "head", "solver": {"_target_": "x"}}]}, "data.rotation=5"),
        ({"phases": [{"train": ["head"]}]}, "strategy.lr_decay=0.5"),
        ({"phases": [{"train": "head", "solver": {"_target_": "x"}}]}, "callbacks=[default,ema]"),
        ({"phases": [{"train": "head", "solver": {"_target_": "x"}}]}, "data.balance=sampler"),
        ({"phases": [{"train": "head", "solver": {"_target_": "x"}}]}, "features.views=2"),
        ({"pretrained": False}, "head.start=drawn"),
        ({}, "trainer.gradient_clip_algorithm=norm"),
    ],
)
def test_an_option_without_a_part_in_the_run_is_refused(changes, override):
    values = {"strategy": {"name": "mine", "phases": [{"train": "all"}], **changes}}
    values |= {"data": {"balance": "sampler"}, "trainer": {}}
    with pytest.raises(UserError, match=f"^{re.escape(override)} has no effect: "):
        refuse_idle(values, ["seed=1", override])
    refuse_idle(values, ["weights=none", "trainer.max_epochs=3", "strategy.phases=[]"])


def test_in_a_sweep_an_option_may_concern_some_of_the_jobs_alone():
    def values(**phase):
        strategy = {"name": "mine", "phases": [{"train": "head", **phase}]}
        return {"strategy": strategy, "data": {"augment": False}, "trainer": {"gradient_clip_val": 1}}

    solved, learned = values(solver={"_target_": "x"}), values()
    both = [(solved, ["strategy=a", "optimizer=adamw"]), (learned, ["strategy=b", "optimizer=adamw"])]
    refuse_idle_sweep(both)
    with pytest.raises(UserError, match=r"strategy\.lr=1 has no effect in any job of the sweep"):
        refuse_idle_sweep([(solved, ["strategy.lr=1"]), (solved, ["strategy.lr=2"])])
    assert set(options_without_effect(learned)) == {
        *("data.rotation", "data.crop_scale"),
        *("strategy.lr_decay", "strategy.keep_statistics"),
    }


def test_the_root_of_a_data_set_alone_chooses_image_folders():
    assert expand_shorthand(["seed=1", "data.root=P"]) == ["seed=1", "data=image_folder", "data.root=P"]
    assert expand_shorthand(["-m", "data.root=P,Q"]) == ["-m", "data=image_folder", "data.root=P,Q"]
    for said in (["data=cats_dogs", "data.root=P"], ["data.root.train=20"], ["data.root=P", "data=demo"]):
        assert expand_shorthand(said) == said


def test_a_reference_that_is_meant_as_text_stays_text():
    cfg = OmegaConf.create({"_target_": "types.SimpleNamespace", "root": r"a\${b}", "same": "${root}", "n": 1})
    built = instantiate(cfg)
    assert (built.root, built.same, built.n) == ("a${b}", "a${b}", 1)


def test_none_of_a_groups_options_can_be_chosen_by_null():
    assert expand_shorthand(["mix=null", "resume=null"]) == ["mix=[]", "resume=null"]
    assert add_multirun_flag(expand_shorthand(["sweep=null"])) == ["sweep=[]"]
    assert set(GROUPS) == {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"hydra"}
