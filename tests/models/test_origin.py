"""The licence of weights is the one that their source states, and otherwise unknown."""

import sys

import pytest
from nets import tiny_net

from thaw.models.origin import package_origin
from thaw.models.weights import weights_origin

APACHE = 'Apache Software License 2.0\n\nLicensed under the Apache License, Version 2.0 (the "License");\n'


@pytest.mark.parametrize(
    ("fields", "text", "licence"),
    [
        ("License: UNKNOWN", APACHE, "Apache-2.0"),
        ("License: UNKNOWN", None, None),
        ("License: UNKNOWN", "Copyright 2020\nAll rights reserved.", None),
        ("License: MIT", None, "MIT"),
        ("License: BSD", None, "BSD"),
        ("License-Expression: BSD-3-Clause", APACHE, "BSD-3-Clause"),
        ("Summary: mit", "MIT License\n\nCopyright (c)", "MIT"),
    ],
)
def test_a_packages_licence_is_what_its_metadata_or_its_licence_file_says(tmp_path, monkeypatch, fields, text, licence):
    folder = tmp_path / "some_weights-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: some-weights\nVersion: 1.2\n{fields}\n")
    (folder / "RECORD").write_text("some_weights-1.2.dist-info/LICENSE,,\n" if text else "")
    if text:
        (folder / "LICENSE").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = package_origin("some-weights")
    assert (found.source, found.licence) == ("the pip package some-weights 1.2", licence)


@pytest.mark.parametrize("weights", ["demo", "/home/someone/secret/weights.pth"])
def test_weights_whose_source_states_no_licence_have_none(weights):
    found = weights_origin(tiny_net(2), weights)
    assert found is not None
    assert found.licence is None
    assert "/home" not in found.source


def test_a_network_that_begins_with_random_weights_has_no_origin():
    assert weights_origin(tiny_net(2), "none") is None
