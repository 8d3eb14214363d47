"""Find the image in a multipart form, the format in which browsers and `curl -F` send files."""

from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from itertools import islice

from starlette.exceptions import HTTPException

_MOST_PARTS, _MOST_HEAD = 16, 8192  # limits: parts of a form; size of a part's header in bytes
_USE = "send the bytes of one image, or a form with one file, such as curl -F file=@cat.jpg"


def image_in(content_type: str, body: bytes) -> bytes:
    """Return the content of the only file in a multipart form, or `body` itself if it is not a form.

    Raises: HTTPException: 400 if the form is incomplete or has several files, 422 if it has no file.
    """
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/form-data" or not boundary:
        return body
    parts = list(islice(_parts(body, b"--" + boundary.encode("latin-1", "replace")), _MOST_PARTS + 1))
    named = [part for part in parts if part[0].get_filename()]
    files = named or (parts if len(parts) == 1 else [])  # `curl -F 'file=<cat.jpg'` sends no file name
    if len(files) > 1 or len(parts) > _MOST_PARTS:
        raise HTTPException(400, f"the form holds several files, but the server takes one: {_USE}.")
    if not files or files[0][1] == files[0][2]:
        raise HTTPException(422, f"the form holds no file: {_USE}.")
    _, start, end = files[0]
    return body[start:end]


def _parts(body: bytes, line: bytes) -> Iterator[tuple[Message, int, int]]:
    """Yield the header of each part of the form, and where its content starts and ends in `body`."""
    place = 0 if body.startswith(line) else body.find(b"\r\n" + line) + 2
    if place == 1:
        raise _broken()
    while not body.startswith(b"--", place + len(line)):
        first = place + len(line)
        head = body.find(b"\r\n\r\n", first, first + _MOST_HEAD)
        end = body.find(b"\r\n" + line, head + 2)
        if head < 0 or end < 0:
            raise _broken()
        yield HeaderParser().parsestr(body[first:head].lstrip().decode("utf-8", "replace")), min(head + 4, end), end
        place = end + 2


def _broken() -> HTTPException:
    return HTTPException(400, f"the form is incomplete: {_USE}.")
