"""Write and read `predictions.csv`: a row per image, with the probability of each class."""

import csv
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from sys import intern

import numpy as np
from scipy.special import softmax

from thaw.data.label_sets import SEPARATOR
from thaw.evaluation.label_predictions import LabelPredictions
from thaw.evaluation.predictions import Predictions, parts
from thaw.storage.files import read_rows, whole_file

COLUMNS = ("path", "label", "predicted", "confidence")
Row = tuple[str, str, str, float]  # path, label, predicted, confidence


def probability_column(name: str) -> str:
    """Return the name of a class's probability column. The prefix makes it different from all `COLUMNS`."""
    return f"p_{name}"


def write_predictions(path: Path, predictions: Predictions | LabelPredictions, root: Path) -> None:
    """Write the table, with image paths relative to `root` and uncalibrated probabilities.

    If images can have several classes, names of classes are joined by |, and `predicted` has the classes whose
    calibrated probability reaches the threshold.
    """
    if isinstance(predictions, LabelPredictions):
        _write_labels(path, predictions, root)
        return
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


def _write_labels(path: Path, predictions: LabelPredictions, root: Path) -> None:
    with whole_file(path) as file:
        rows = csv.writer(file)
        rows.writerow([*COLUMNS, *map(probability_column, predictions.classes)])
        raw, confidence = predictions.calibrated(1.0, 0.5).probabilities, predictions.confidence
        for place, image in enumerate(predictions.paths):
            labels, predicted = (predictions.names(one[place]) for one in (predictions.labels, predictions.predicted))
            numbers = f"{confidence[place]:.6f}", *(f"{p:.9g}" for p in raw[place])
            rows.writerow([Path(image).relative_to(root).as_posix(), labels, predicted, *numbers])


def read_label_scores(path: Path, classes: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the paths of the images, in alphabetical order, their labels, bool (n, classes), and probabilities."""
    rows = sorted(read_rows(path), key=itemgetter("path"))
    place = {name: number for number, name in enumerate(classes)}
    labels = np.zeros((len(rows), len(classes)), bool)
    for number, row in enumerate(rows):
        labels[number, [place[name] for name in row["label"].split(SEPARATOR) if name]] = True
    scores = [[float(row[probability_column(name)]) for name in classes] for row in rows]
    return [row["path"] for row in rows], labels, np.array(scores).reshape(labels.shape)


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
