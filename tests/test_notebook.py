"""docs/library.ipynb runs from top to bottom."""

import json
import os

import pytest
from conftest import ROOT

CACHE = os.environ.get("THAW_CACHE", "")  # the user's: learning the demo's weights takes minutes


@pytest.mark.slow
@pytest.mark.timeout(1200)  # it trains a sweep, and learns the demo's weights if the cache has none
def test_every_cell_of_the_notebook_runs_in_an_empty_folder(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    if CACHE:
        monkeypatch.setenv("THAW_CACHE", CACHE)
    cells = json.loads((ROOT / "docs" / "library.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {"__name__": "__main__"}
    for number, source in enumerate(code, start=1):
        exec(compile(source, f"cell {number}", "exec"), names)
    runs = names["runs"]
    assert [(run.summary["strategy"], run.seed) for run in runs] == [
        ("probe", 0),
        ("probe", 1),
        ("feature_extractor", 0),
        ("feature_extractor", 1),
    ]
    assert min(run.accuracy for run in runs) > 0.9
    assert names["table"].rows[-1]["val/acc"] > 0.9
    assert (folder / "comparison" / "report.html").is_file()
    assert "Use " in capsys.readouterr().out
