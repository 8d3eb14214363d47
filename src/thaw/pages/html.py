"""HTML pages without external files. They work offline, in light and dark mode; a click sorts a table."""

import base64
import io
import unicodedata

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from thaw.pages.text import WIDEST_NAME, agreeing, amount, counted, cut, decoded, p_value, width

_RIGHT_TO_LEFT = ("R", "AL")  # Unicode's bidirectional classes of right-to-left letters


def render(template: str, **values: object) -> str:
    """Render a template of `thaw/pages/templates` with `values`, and return the page."""
    environment = Environment(
        loader=PackageLoader("thaw.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(short=short, counted=counted, amount=amount, agreeing=agreeing, p_value=p_value)
    return decoded(environment.get_template(template).render(**values))


def short(name: str, most: int = WIDEST_NAME) -> Markup:
    """Return `name` as HTML in at most `most` columns; the tooltip of a shortened name shows the whole name.

    A right-to-left name is isolated, so that it does not reorder the text around it.
    """
    text = escape(cut(name, most))
    if any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in name):
        text = Markup("<bdi>{}</bdi>").format(text)
    return text if width(name) <= most else Markup('<span title="{}">{}</span>').format(name, text)


def data_url(image: Image.Image) -> str:
    """Return an RGB image as the data URL of a JPEG."""
    file = io.BytesIO()
    image.save(file, "jpeg", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
