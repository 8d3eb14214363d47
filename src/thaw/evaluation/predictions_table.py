"""Write and read `predictions.csv`: a row per image, with the probability of each class."""

import csv
from collections.abc import Iterator
from pathlib import Path
from sys import intern

from scipy.special import softmax

from thaw.evaluation.predictions import Predictions, parts
from thaw.storage.files import whole_file

COLUMNS = ("path", "label", "predicted", "confidence")
Row = tuple[str, str, str, float]  # path, label, predicted, confidence


def probability_column(name: str) -> str:
    """Return the name of a class's probability column. The prefix makes it different from all `COLUMNS`."""
    return f"p_{name}"


def write_predictions(path: Path, predictions: Predictions, root: Path) -> None:
    """Write the table, with image paths relative to `root` and uncalibrated probabilities."""
    classes = predictions.classes
    with whole_file(path) as file:
        rows = csv.writer(file)
        rows.writerow([*COLUMNS, *map(probability_column, classes)])
        for part in parts(*predictions.logits.shape):
            labels, predicted = predictions.labels[part], predictions.predicted[part]
            probabilities = softmax(predictions.logits[part].astype(float), axis=1).tolist()
            for image, label, choice, row in zip(
                predictions.paths[part], labels, predicted, probabilities, strict=True
            ):
                names = Path(image).relative_to(root).as_posix(), classes[label], classes[choice]
                rows.writerow([*names, *[f"{p:.6f}" for p in (row[choice], *row)]])


def read_predictions(path: Path) -> Iterator[Row]:
    """Yield the rows of a table; yield nothing if the file is missing.

    In older tables, the column of a class has the bare name of the class. If several columns have the same name, only
    the first one is read.
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
