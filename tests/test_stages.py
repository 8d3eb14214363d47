from nets import tiny_net

from thaw.report.stages import stage_table
from thaw.strategy import Strategy


def test_the_table_counts_parameters_and_says_what_trains():
    net = tiny_net(2)
    table = stage_table(net, Strategy("test", [{"train": ["layer1"]}], 0.01).schedule(net, 3))
    assert table.splitlines() == [
        "stage   parameters   trains",
        "------  ----------  -------",
        "conv1          162   frozen",
        "bn1             12   frozen",
        "layer1         456  lr 0.01",
        "fc              18  lr 0.01",
        "------  ----------  -------",
        "all            648      474",
    ]


def test_several_phases_get_a_column_each():
    net = tiny_net(2)
    phases = [{"train": ["head"], "epochs": 2}, {"train": "all"}]
    lines = stage_table(net, Strategy("test", phases, 0.01).schedule(net, 5)).splitlines()
    assert lines[0].split("  ")[-2:] == ["epochs 1-2", "epochs 3-5"]
    assert lines[2].split() == ["conv1", "162", "frozen", "lr", "0.01"]
