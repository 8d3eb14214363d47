"""Create the server's start page, with a content security policy that allows only the page's own script and style."""

import base64
import hashlib
import re

from starlette.responses import HTMLResponse

from thaw.inference.trained_model import TrainedModel
from thaw.pages.html import render

_POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page_response(model: TrainedModel, most: int) -> HTMLResponse:
    """Return the start page as one response for all clients; its script refuses images larger than `most` bytes."""
    used = model.preprocessing
    html = render(
        "serve.html.jinja",
        name=model.net.config["name"],
        classes=len(model.classes),
        most=most,
        zoom=used.resize / used.crop,
    )
    policy = _POLICY.format(script=_hashes(html, "script"), style=_hashes(html, "style"))
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(html, headers=headers)


def _hashes(html: str, tag: str) -> str:
    found = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = [hashlib.sha256(text.encode()).digest() for text in found]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
