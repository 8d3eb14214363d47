"""Files and configurations of others run no code, and names stay within the folders they are meant for."""

import os
import pickle
import re

import pytest
import torch
from command_line import TINY, train
from conftest import ROOT, rows

from train import main


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def zipped(path):
    torch.save({"state_dict": {"net.fc.bias": Malicious()}, "epoch": 0}, path)


def pickled(path):
    path.write_bytes(pickle.dumps({"fc.bias": Malicious()}))


def refused(caplog, cfg, status=2):
    caplog.clear()
    with pytest.raises(SystemExit) as raised:
        main(cfg)
    assert raised.value.code == status
    (told,) = [record.message for record in caplog.records if record.name == "thaw.errors"]
    assert told.endswith(".") and "\n" not in told
    return told


@pytest.mark.parametrize("write", [zipped, pickled])
@pytest.mark.parametrize("name", ["w.pth", "w.ckpt", "w.safetensors"])
def test_weights_that_would_run_code_are_refused_in_a_sentence(
    tiny_run, tmp_path, monkeypatch, caplog, without_pictures, name, write
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    told = refused(caplog, tiny_run(f"weights={tmp_path / name}"))
    assert told.startswith(f"error: cannot read weights from {tmp_path / name}: ")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("write", [zipped, pickled])
def test_a_checkpoint_that_would_run_code_is_not_gone_on_from(
    tiny_run, image_folder, tmp_path, monkeypatch, caplog, without_pictures, write
):
    monkeypatch.chdir(tmp_path)
    root = image_folder()
    main(tiny_run(root=root))
    write(tmp_path / "run/checkpoints/last.ckpt")
    told = refused(caplog, tiny_run(f"resume={tmp_path / 'run'}", root=root), status=1)
    assert told.startswith(f"error: cannot read the checkpoint {tmp_path / 'run/checkpoints/last.ckpt'}: ")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("optimizer", "os.mkdir"),
        ("loss", "subprocess.run"),
        ("model", "thaw.storage.cache.shutil.rmtree"),
        ("mix", "torch.hub.load"),
        ("callbacks.bar", "torch.optim.adam.torch.load"),
        ("trainer", "numpy.load"),
        ("trainer", "lightning_is_not_this.Trainer"),
    ],
)
def test_a_configuration_cannot_name_just_any_code(tiny_run, tmp_path, monkeypatch, caplog, key, target):
    told = refused(caplog, tiny_run(f"++{key}={{_target_: {target}}}" if key == "mix" else f"{key}._target_={target}"))
    assert told.startswith(f"error: {key}._target_={target} is refused: configurations may name code in thaw, torch.")


def test_modules_of_ones_own_are_named_in_the_environment(tiny_run, monkeypatch, caplog, image_folder):
    root = image_folder()
    monkeypatch.setenv("THAW_TARGETS", "")
    told = refused(caplog, tiny_run(root=root))
    assert told.startswith("error: model._target_=nets.tiny_net is refused: ")
    assert told.endswith("THAW_TARGETS=module,module.")


@pytest.mark.parametrize("multirun", [[], ["-m", "seed=0,1"]])
def test_a_path_is_no_name_of_an_option(tmp_path, multirun):
    (tmp_path / "inside").mkdir()
    done = train(*multirun, *TINY, "data.root=x", "strategy=../optimizer/sgd", cwd=tmp_path / "inside")
    assert done.returncode == 2
    assert done.stderr == "error: strategy=../optimizer/sgd is a path where the name of an option is needed.\n"
    assert not list(tmp_path.rglob("summary.json"))


@pytest.mark.slow
def test_classes_with_odd_names_leave_nothing_outside_of_the_runs_folder(tiny_run, image_folder, tmp_path):
    classes = ["x..", "a'b\"c,d", "%2e%2e", "=1+1", "<b>", "ümlaut"]
    root = image_folder(tuple(classes))
    before = {path for path in tmp_path.rglob("*")}
    main(tiny_run(root=root))
    new = {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before}
    assert new <= {"run", "thaw-cache"}
    assert {f"p_{name}" for name in classes} <= set(rows(tmp_path / "run/predictions.csv")[0])


def test_nothing_of_thaws_own_code_is_made_of_text():
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").rglob("*.py"), ROOT / "train.py"]
    for path in sources:
        text = path.read_text()
        assert not re.search(r"(?<![.\w])(eval|exec|compile|__import__)\(", text), path
        assert not re.search(r"pickle\.loads?\(|shell=True|os\.system\(|yaml\.load\(", text), path
        assert all("weights_only=True" in call for call in re.findall(r"torch\.load\(.*", text)), path
