import pytest

from thaw.training.callbacks import duration


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (95, "1 min 35 s"), (3600, "60 min 00 s")]
)
def test_durations_are_told_in_minutes_and_seconds(seconds, told):
    assert duration(seconds) == told
