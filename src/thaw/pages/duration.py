"""Durations in words."""


def duration(seconds: float) -> str:
    """Return `seconds` in words: 1 min 35 s for 95, 1 h 23 min for 5000."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
