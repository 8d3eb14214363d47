"""Pages that need nothing but themselves: readable offline, in light and dark, their tables sorted by a click."""

import base64
import io
import unicodedata

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from thaw.pages.text import WIDEST_NAME, agreeing, amount, counted, cut, decoded, width

_SIDE = 320  # pixels of pictures
_RIGHT_TO_LEFT = ("R", "AL")  # Unicode's classes of letters


def render(template: str, **values: object) -> str:
    """Return a page of `thaw/pages/templates`, filled with `values`."""
    environment = Environment(
        loader=PackageLoader("thaw.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(short=short, counted=counted, amount=amount, agreeing=agreeing)
    return decoded(environment.get_template(template).render(**values))


def short(name: str, most: int = WIDEST_NAME) -> Markup:
    """Return a name as it is; a long one with its middle cut out, and whole where a pointer rests on it.

    A name that is written from right to left does not reorder what stands around it.
    """
    told = escape(cut(name, most))
    if any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in name):
        told = Markup("<bdi>{}</bdi>").format(told)
    return told if width(name) <= most else Markup('<span title="{}">{}</span>').format(name, told)


def data_url(image: Image.Image) -> str:
    """An RGB image as a JPEG that is part of the page."""
    file = io.BytesIO()
    image.save(file, "jpeg", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
