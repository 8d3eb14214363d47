"""Paths of any characters in commands that are printed and in those that are typed."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from thaw.runs.shorthand import expand_shorthand, literal
from thaw.runs.shown_commands import option, quoted, resume_command, tensorboard_command, unquoted

PATHS = [
    "a b",
    "it's",
    "größe",
    "~/x",
    "a${b}",
    "a${b",
    "a\\b",
    "a\\",
    "a\\'b",
    "x=1,2 (3) [4] #&",
    "2024",
    "null",
    "a\udce9",
]


def understood(override):
    """What a run has of an override's value."""
    return OmegaConf.create({"x": OverridesParser.create().parse_override(override).value()}).x


@pytest.mark.parametrize("path", PATHS)
def test_a_printed_command_can_be_pasted_whatever_characters_a_path_has(path):
    assert understood(f"data.root={quoted(path)}") == path
    assert unquoted(quoted(path)) == path
    (pasted,) = shlex.split(option("hydra.sweep.dir", path))
    assert understood(pasted) == path
    assert shlex.split(tensorboard_command(path))[2:] == [path]
    *_, told = shlex.split(resume_command(path))
    assert unquoted(told.removeprefix("resume=")) == path


def test_a_plain_path_is_printed_as_it_is():
    assert resume_command("/x/y-1.5") == "python train.py resume=/x/y-1.5"


@pytest.mark.parametrize("path", [path for path in PATHS if path not in ("~/x", "null")])
def test_a_path_that_is_there_is_taken_literally(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / path).mkdir()
    assert understood(literal(f"data.root={path}")) == path


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.root=~/größe", "data.root='~/größe'"),
        ("data.root=a,größe", "data.root=a,'größe'"),
        ("data.root=photos", "data.root=photos"),
        ("data.root='a b'", "data.root='a b'"),
        ("hydra.run.dir=x/${now:%Y}", "hydra.run.dir=x/${now:%Y}"),
        ("strategy.lr=~", "strategy.lr=~"),
    ],
)
def test_a_path_that_is_not_there_means_what_it_means_to_hydra(override, expected):
    assert literal(override) == expected
    assert expected in expand_shorthand([override])
