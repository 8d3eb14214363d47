"""Images that are posted in a form."""

import pytest

from thaw.inference.serve.forms import image_in

pytest.importorskip("starlette")
from starlette.exceptions import HTTPException

TYPE = 'multipart/form-data; boundary="a line"'
BYTES = bytes(range(256)) * 3 + b"\r\n--a lin\r\n\r\n"


def part(content, name='; filename="cat.jpg"'):
    return b'--a line\r\nContent-Disposition: form-data; name="file"' + name.encode() + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    "body",
    [
        part(BYTES) + b"--a line--\r\n",
        part(BYTES) + b"--a line--",
        b"before\r\n" + part(BYTES) + b"--a line--after",
        part(b"3", "") + part(BYTES, '; filename="caf\xe9.jpg"\r\nContent-Type: image/jpeg') + b"--a line--\r\n",
        part(BYTES, "") + b"--a line--\r\n",
        BYTES,
    ],
)
def test_the_file_in_a_form_is_taken_as_it_is(body):
    assert image_in(TYPE if body != BYTES else "image/jpeg", body) == BYTES
    assert image_in("multipart/form-data", body) == body, "without a boundary it is no form"


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (part(BYTES) * 2 + b"--a line--", 400, "several files"),
        (part(b"") * 2 + b"--a line--", 400, "several files"),
        (part(b"1", "") * 20 + b"--a line--", 400, "several files"),
        (part(b"") + b"--a line--", 422, "no file"),
        (part(b"1", "") * 2 + b"--a line--", 422, "no file"),
        (part(b"", '; filename=""') + b"--a line--", 422, "no file"),
        (b"--a line--\r\n", 422, "no file"),
        (part(BYTES), 400, "incomplete"),
        (part(BYTES)[:60], 400, "incomplete"),
        (BYTES, 400, "incomplete"),
        (b"--a line\r\n" + b"x" * 9000 + b"\r\n\r\n\r\n--a line--", 400, "incomplete"),
    ],
)
def test_a_form_without_exactly_one_file_is_refused_in_a_sentence(body, status, told):
    with pytest.raises(HTTPException, match=told) as raised:
        image_in(TYPE, body)
    assert raised.value.status_code == status
