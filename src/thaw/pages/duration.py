"""Times as people say them."""


def duration(seconds: float) -> str:
    """95 -> 1 min 35 s; 5000 -> 1 h 23 min."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
