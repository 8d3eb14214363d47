"""`predictions.csv`: a row per image, with the probability of each class."""

import csv
from collections.abc import Iterator
from pathlib import Path
from sys import intern

COLUMNS = ("path", "label", "predicted", "confidence")
Row = tuple[str, str, str, float]  # path, label, predicted, confidence


def probability_column(name: str) -> str:
    """Return the column of a class, which is none of `COLUMNS` whatever the class is called."""
    return f"p_{name}"


def read_predictions(path: Path) -> Iterator[Row]:
    """Yield the rows of a table, none where it is missing.

    Older tables name a class's column like the class, which may be one of `COLUMNS`: the first of that name counts.
    """
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if not header:
            return
        places = [header.index(name) for name in COLUMNS]
        for row in rows:
            image, label, predicted, confidence = (row[place] for place in places)
            yield image, intern(label), intern(predicted), float(confidence)
