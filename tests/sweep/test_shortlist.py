"""A shortlist computes each backbone once, says what it costs, and goes on in the same folder."""

import csv
import json

import pytest
from command_line import train
from sweeps import statuses

NETS = "backbones=[{model:resnet18,weights:none},{model:mobilenet_v3_small,weights:none}]"


@pytest.fixture
def shortlist(tmp_path, image_folder):
    root = image_folder()
    size = ["data.image_size=32", "data.batch_size=5"]
    return lambda *arguments: train("sweep=shortlist", f"data.root={root}", *size, *arguments, cwd=tmp_path)


@pytest.mark.slow
def test_a_shortlist_says_what_each_backbone_reaches_and_costs(shortlist, tmp_path):
    done = shortlist(NETS)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "shortlist"
    assert statuses(folder) == {"0-probe": "finished", "1-probe": "finished"}
    facts = json.loads((folder / "shortlist.json").read_text())
    rows = facts["backbones"]
    assert {row["name"] for row in rows} == {"resnet18, weights=none", "mobilenet_v3_small, weights=none"}
    assert all(0 <= row["neighbours"] <= 1 and row["images_per_second"] > 0 for row in rows)
    assert all(row["licence"] is None and row["size_mb"] is None for row in rows)
    assert any(row["pareto"] for row in rows)
    assert rows[0]["acc"] == max(row["acc"] for row in rows)
    assert facts["next"].startswith("python train.py sweep=strategies data=image_folder data.root=")
    assert f"model={rows[0]['model']} weights=none" in facts["next"]
    with (folder / "shortlist.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row["name"] for row in rows]
    page = (folder / "shortlist.html").read_text()
    assert page.count("<svg") == 2 and "mobilenet_v3_small, weights=none" in page
    assert str(folder.relative_to(tmp_path) / "shortlist.html") in done.stdout

    again = shortlist(NETS)
    assert "2 jobs in outputs/shortlist, 2 of them done before" in again.stdout
    assert json.loads((folder / "shortlist.json").read_text()) == facts


@pytest.mark.slow
def test_an_unknown_backbone_is_told_and_leaves_no_folder(shortlist, tmp_path):
    done = shortlist("backbones=resnet35")
    assert done.returncode == 2
    assert done.stderr.startswith("error: backbones=resnet35 is unknown; the nearest choices are resnet")
    assert not (tmp_path / "outputs").exists()
