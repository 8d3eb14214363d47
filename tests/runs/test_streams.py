"""Commands whose reader, or whose terminal, goes away."""

import contextlib
import io
import os
import subprocess
import sys
from contextlib import contextmanager
from importlib import import_module

import pytest
from command_line import with_nets
from conftest import ROOT

from thaw.commands import COMMANDS, launch
from thaw.runs.streams import tolerate_closed_output


@contextmanager
def unread(monkeypatch):
    """Within it nobody reads standard output."""
    read, write = os.pipe()
    os.close(read)
    stream = io.TextIOWrapper(os.fdopen(write, "wb", buffering=0), write_through=True)
    with stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        yield stream


def test_work_goes_on_when_nobody_reads_what_it_says(monkeypatch):
    done = []
    with unread(monkeypatch) as stream:
        with tolerate_closed_output():
            print("to nobody")
            done.append("work")
            print("again")
        assert sys.stdout is stream
    assert done == ["work"]


def test_errors_show_bytes_that_are_no_text_as_replaced(capsys):
    with tolerate_closed_output():
        print("error: a\udce9", file=sys.stderr)
    assert capsys.readouterr().err == "error: a\ufffd\n"


def test_a_command_that_is_all_output_ends_with_its_reader(monkeypatch):
    with unread(monkeypatch), pytest.raises(SystemExit) as ended, tolerate_closed_output(ends=True):
        print("to nobody")
        print("again")
    assert ended.value.code == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_work_goes_on_when_what_it_says_finds_a_full_disk_unless_that_is_its_result(monkeypatch, capfd):
    for ends, done in ((False, True), (True, False)):
        finished = False
        stream = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
        with monkeypatch.context() as patched, contextlib.suppress(OSError):
            patched.setattr(sys, "stdout", stream)
            patched.setattr(sys, "__stderr__", sys.stderr)
            with tolerate_closed_output(ends=ends):
                print("to a full disk", flush=True)
                finished = True
        with contextlib.suppress(OSError):
            stream.close()
        assert finished is done
    assert capfd.readouterr().err.count("cannot be written (No space left on device): it is discarded") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["train.py", "--help"], ["train.py", "--cfg", "job"], ["scripts/compare.py", "-h"]]
)
def test_every_command_ends_quietly_when_its_output_is_not_read(tmp_path, command):
    line = f"{sys.executable} {ROOT / command[0]} {' '.join(command[1:])} | true"
    done = subprocess.run(line, shell=True, cwd=tmp_path, env=with_nets(), capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_well_when_nobody_reads_its_output(monkeypatch, name):
    command = import_module(f"thaw.commands.{COMMANDS[name][0]}")
    monkeypatch.setattr(command, "main", lambda: print("to nobody"))
    monkeypatch.setattr(sys, "argv", [f"thaw {name}"])
    with unread(monkeypatch):
        if name == "train":
            command.launch()
        else:
            with pytest.raises(SystemExit) as ended:
                launch(name)
            assert ended.value.code == 0


def test_a_program_whose_output_was_closed_before_it_began_works(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    with tolerate_closed_output():
        sys.stdout.reconfigure(errors="backslashreplace")
        print("nobody reads this")
    sys.stdout.close()
