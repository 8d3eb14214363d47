"""`thaw COMMAND`: one frame for all commands, which costs nothing before the command begins."""

import resource
import subprocess
import sys

import pytest
from conftest import ROOT

from thaw import commands
from thaw.commands.frame import run, share, whole
from thaw.errors import RunError, UserError


@pytest.mark.parametrize(
    ("raised", "status"), [(UserError("a b."), 2), (RunError("a b."), 1), (KeyboardInterrupt(), 130), (None, 0)]
)
def test_what_ends_a_command_is_its_exit_status_and_one_sentence(raised, status, capsys):
    def main():
        if raised:
            raise raised

    assert run(main) == status
    assert capsys.readouterr().err == ("error: a b.\n" if status in (1, 2) else "")


def test_help_lists_every_command_within_a_third_of_a_second():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = subprocess.run(
        [sys.executable, "-m", "thaw.commands", "--help"], cwd=ROOT / "src", capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert shown.returncode == 0 and all(f"\n  {name} " in shown.stdout for name in commands.COMMANDS)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


def test_every_command_is_a_module_and_has_a_script_but_train():
    folder = ROOT / "src/thaw/commands"
    assert all((folder / f"{module}.py").is_file() for module, _ in commands.COMMANDS.values())
    launched = {
        path.read_text().split('launch("')[1].split('"')[0]
        for path in (ROOT / "scripts").glob("*.py")
        if path.stem != "baselines"
    }
    assert launched == commands.COMMANDS.keys() - {"train"}


def test_an_unknown_command_is_refused_with_the_choices(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["thaw", "trian"])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    assert ended.value.code == 2
    assert "'trian'" in (sentence := capsys.readouterr().err) and "train, predict" in sentence


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [(whole(), "3", "0"), (whole(0), "0", "-1"), (share(), "1", "1.5"), (share(True), "0.5", "1")],
)
def test_arguments_are_read_as_what_they_must_be(kind, good, bad):
    assert kind(good) == float(good)
    with pytest.raises(Exception, match="must be"):
        kind(bad)
