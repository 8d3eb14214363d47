"""Write predictions as a table for a terminal, as CSV, or as lines of JSON.

Each function writes the start of its format, such as a header, and returns a function that writes one prediction.
"""

import csv
from collections.abc import Callable, Sequence
from typing import TextIO

from thaw.inference.predict import UNSURE, Prediction
from thaw.pages.text import WIDEST_NAME, padded, printable, shown, width
from thaw.storage.files import as_json as json_text

_WIDEST = 60  # width of the path column in characters; longer paths shift the other columns


def table(file: TextIO, paths: Sequence[str], classes: Sequence[str], top: int, threshold: float) -> "Write":
    path_width = min(_WIDEST, max(map(width, paths), default=0))
    name_width = min(WIDEST_NAME, max(map(width, (*classes, UNSURE))))

    def write(prediction: Prediction) -> None:
        _, confidence = prediction.top[0]
        others = [f"{shown(name)} {probability:.4f}" for name, probability in prediction.top[1:]]
        named = padded(shown(prediction.named(threshold)), name_width)
        columns = [padded(printable(prediction.path), path_width), named, f"{confidence:.4f}"]
        print("  ".join([*columns, ", ".join(others)]).rstrip(), file=file)

    return write


def as_csv(file: TextIO, paths: Sequence[str], classes: Sequence[str], top: int, threshold: float) -> "Write":
    rows = csv.writer(file, lineterminator="\n")
    shown = range(1, top + 1) if top > 1 else ()
    rows.writerow(["path", "predicted", "confidence", *(f"{column}_{n}" for n in shown for column in _COLUMNS)])

    def write(prediction: Prediction) -> None:
        ranked = [value for name, p in prediction.top for value in (name, f"{p:.6f}")] if top > 1 else []
        rows.writerow([prediction.path, prediction.named(threshold), f"{prediction.top[0][1]:.6f}", *ranked])

    return write


def as_json(file: TextIO, paths: Sequence[str], classes: Sequence[str], top: int, threshold: float) -> "Write":
    def write(prediction: Prediction) -> None:
        ranked = [{"class": name, "probability": round(p, 6)} for name, p in prediction.top]
        values = {"path": prediction.path, "predicted": prediction.named(threshold)}
        values |= {"confidence": ranked[0]["probability"], "top": ranked}
        print(json_text(values), file=file)

    return write


Write = Callable[[Prediction], None]
_COLUMNS = ("class", "probability")
FORMATS: dict[str, Callable[..., Write]] = {"table": table, "csv": as_csv, "json": as_json}
