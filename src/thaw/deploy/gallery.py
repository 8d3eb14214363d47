"""Predictions as a page with pictures."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from thaw.deploy.predict import Prediction
from thaw.files import whole_file
from thaw.report.html import picture, render

_SHOWN = 500  # pictures; a page of more takes long to open
_SIDE = 224


def write_gallery(path: Path, model: str, found: Sequence[Prediction], threshold: float) -> None:
    """A page of the predictions in `found`, the least sure first, with what could not be read on top."""
    read = [prediction for prediction in found if not prediction.fault]
    unsure_first = sorted(read, key=lambda prediction: prediction.top[0][1])
    shown = [
        {"path": one.path, "named": one.named(threshold), "top": one.top, "picture": picture(Path(one.path), _SIDE)}
        for one in unsure_first[:_SHOWN]
    ]
    page = render(
        "thaw.deploy",
        "gallery.html.jinja",
        model=model,
        count=len(read),
        counts=Counter(prediction.named(threshold) for prediction in read).most_common(),
        faults=[prediction.fault for prediction in found if prediction.fault],
        shown=shown,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(page)
