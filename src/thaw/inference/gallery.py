"""Write predictions as an HTML page with pictures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from thaw.data.thumbnails import thumbnail_url
from thaw.inference.predict import Prediction
from thaw.pages.html import render
from thaw.runs.optional_output import warn_on_failure
from thaw.storage.files import write_whole

_SHOWN = 500  # largest number of pictures; a larger page would open slowly
_SIDE = 224
_TOP, _COUNTED = 10, 20  # number of classes: listed per picture; counted at the top of the page


def for_gallery(prediction: Prediction) -> Prediction:
    """Return a prediction with only those classes that the page shows, to save memory."""
    return replace(prediction, top=prediction.top[:_TOP])


def write_gallery(path: Path, model: str, found: Sequence[Prediction], threshold: float) -> None:
    """Write an HTML page of predictions, the least confident first. Errors of unreadable images are at its top."""
    page = None
    with warn_on_failure(f"the page {path}"):
        page = _page(model, found, threshold)
    if page is not None:
        write_whole(path, page)


def _page(model: str, found: Sequence[Prediction], threshold: float) -> str:
    read = [prediction for prediction in found if not prediction.fault]
    unsure_first = sorted(read, key=lambda prediction: prediction.confidence)
    counts = Counter(name for one in read for name in one.decided or [one.named(threshold)]).most_common()
    return render(
        "gallery.html.jinja",
        model=model,
        count=len(read),
        counts=counts[:_COUNTED],
        more=len(counts) - _COUNTED,
        faults=[prediction.fault for prediction in found if prediction.fault],
        shown=[
            {
                "path": one.path,
                "named": one.named(threshold),
                "top": for_gallery(one).top,
                "within": one.within,
                "distance": one.distance,
                "picture": thumbnail_url(Path(one.path), _SIDE),
            }
            for one in unsure_first[:_SHOWN]
        ],
    )
