"""Read `predictions.csv`: a row per image, with the probability of each class."""

import csv
from collections.abc import Iterator
from pathlib import Path
from sys import intern

COLUMNS = ("path", "label", "predicted", "confidence")
Row = tuple[str, str, str, float]  # path, label, predicted, confidence


def probability_column(name: str) -> str:
    """Return the column name of a class; the prefix keeps it apart from `COLUMNS`."""
    return f"p_{name}"


def read_predictions(path: Path) -> Iterator[Row]:
    """Yield the rows of a table; yield nothing if the file is missing.

    In older tables a class's column has the name of the class, even one of `COLUMNS`. The first of equal names counts.
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
