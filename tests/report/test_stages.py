from nets import tiny_net

from thaw.report.stage_table import stage_table
from thaw.strategy.phases import Strategy


def table(phases, epochs, **options):
    net = tiny_net(2)
    return stage_table(net, Strategy("test", phases, 0.01, **options).schedule(net, epochs)).splitlines()


def test_the_table_counts_parameters_and_says_what_trains():
    assert table([{"train": ["layer1"]}], 3) == [
        "stage   parameters   trains",
        "------  ----------  -------",
        "conv1          174   frozen",
        "layer1         456  lr 0.01",
        "fc              18  lr 0.01",
        "------  ----------  -------",
        "all            648      474",
    ]


def test_several_phases_get_a_column_each():
    lines = table([{"train": "head", "epochs": 1}, {"train": "all", "lr_decay": 0.5}], 5)
    assert lines[0].split("  ")[-2:] == ["epoch 1", "epochs 2-5"]
    assert lines[2].split() == ["conv1", "174", "frozen", "lr", "0.0025"]


def test_a_part_of_a_stage_has_its_share_in_the_table():
    lines = table([{"train": ["layer1.1"]}], 3)
    assert lines[3].split() == ["layer1", "456", "3.51%", "lr", "0.01"]
    assert lines[-1].split() == ["all", "648", "34"]
