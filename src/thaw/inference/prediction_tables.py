"""Write predictions as a table for a terminal, as CSV, or as lines of JSON.

Each function writes the start of its format, such as a header, and returns a function that writes one prediction.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from thaw.inference.predict import NONE, UNSURE, Prediction
from thaw.pages.text import WIDEST_NAME, padded, printable, shown, width
from thaw.storage.files import as_json as json_text

_WIDEST = 60  # width of the path column in characters; longer paths shift the other columns


@dataclass(frozen=True)
class Columns:
    """What is written per image: `top` classes, and the prediction set and the distance if predictions have them."""

    top: int = 1
    threshold: float = 0.0
    sets: bool = False
    unknown: bool = False


def table(file: TextIO, paths: Sequence[str], classes: Sequence[str], columns: Columns) -> "Write":
    path_width = min(_WIDEST, max(map(width, paths), default=0))
    name_width = min(WIDEST_NAME, max(map(width, (*classes, NONE if columns.unknown else UNSURE))))

    def write(prediction: Prediction) -> None:
        named = padded(shown(prediction.named(columns.threshold)), name_width)
        cells = [padded(printable(prediction.path), path_width), named, f"{prediction.confidence:.4f}"]
        if prediction.distance is not None:
            cells.append(f"distance {prediction.distance:.2f}")
        if prediction.within is not None:
            cells.append("{" + ", ".join(map(shown, prediction.within)) + "}")
        others = prediction.top if prediction.unknown or prediction.decided is not None else prediction.top[1:]
        cells.append(", ".join(f"{shown(name)} {probability:.4f}" for name, probability in others))
        print("  ".join(cells).rstrip(), file=file)

    return write


def as_csv(file: TextIO, paths: Sequence[str], classes: Sequence[str], columns: Columns) -> "Write":
    rows, ranks = csv.writer(file, lineterminator="\n"), columns.top if columns.top > 1 or columns.unknown else 0
    asked = [name for name, wanted in (("set", columns.sets), ("distance", columns.unknown)) if wanted]
    ranked_columns = [f"{column}_{n}" for n in range(1, ranks + 1) for column in ("class", "probability")]
    rows.writerow(["path", "predicted", "confidence", *asked, *ranked_columns])

    def write(prediction: Prediction) -> None:
        cells = [prediction.path, prediction.named(columns.threshold), f"{prediction.confidence:.6f}"]
        if prediction.within is not None:
            cells.append("|".join(prediction.within))
        if prediction.distance is not None:
            cells.append(f"{prediction.distance:.6f}")
        ranked = [value for name, p in prediction.top[:ranks] for value in (name, f"{p:.6f}")]
        rows.writerow([*cells, *ranked])

    return write


def as_json(file: TextIO, paths: Sequence[str], classes: Sequence[str], columns: Columns) -> "Write":
    def write(prediction: Prediction) -> None:
        ranked = [{"class": name, "probability": round(p, 6)} for name, p in prediction.top]
        values: dict[str, object] = {"path": prediction.path, "predicted": prediction.named(columns.threshold)}
        values |= {"confidence": round(prediction.confidence, 6), "top": ranked}
        if prediction.within is not None:
            values["set"] = prediction.within
        if prediction.decided is not None:
            values["classes"] = prediction.decided
        if prediction.distance is not None:
            values |= {"distance": round(prediction.distance, 6), "unknown": prediction.unknown}
        print(json_text(values), file=file)

    return write


Write = Callable[[Prediction], None]
FORMATS: dict[str, Callable[..., Write]] = {"table": table, "csv": as_csv, "json": as_json}
