import pytest

from thaw.pages.text import duration


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (95, "1 min 35 s"), (5040, "1 h 24 min")]
)
def test_durations_are_told_in_minutes_and_seconds(seconds, told):
    assert duration(seconds) == told
