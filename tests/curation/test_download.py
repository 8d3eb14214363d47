"""An archive from a server that breaks off, and that lies."""

import hashlib
import http.server
import io
import threading
import zipfile

import pytest

from thaw.curation.download import Archive, fetch
from thaw.errors import RunError


class Server:
    """A server on this machine with one ZIP archive, which ends the connection after `cut` bytes if that is set."""

    def __init__(self):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as content:
            for number in range(40):
                content.writestr(f"PetImages/Cat/{number}.jpg", bytes([number]) * 5000)
        self.content, self.cut, self.asked = file.getvalue(), None, []
        archive = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                start = int(self.headers.get("Range", "bytes=0-")[6:-1])
                archive.asked.append(start)
                if start >= len(archive.content):
                    self.send_error(416)
                    return
                body = archive.content[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: archive.cut])

            def log_message(self, *told):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()

    def described(self, sha256=None):
        address = f"http://127.0.0.1:{self.server.server_address[1]}/pets.zip"
        return Archive(address, sha256 or hashlib.sha256(self.content).hexdigest(), "PetImages")


@pytest.fixture
def archive():
    archive = Server()
    yield archive
    archive.server.shutdown()
    archive.server.server_close()


def test_a_data_set_is_fetched_once(archive, tmp_path):
    what = archive.described()
    for _ in range(2):
        assert fetch(what, tmp_path / "pets") == tmp_path / "pets"
    assert archive.asked == [0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets"]
    assert (tmp_path / "pets" / "Cat" / "7.jpg").read_bytes() == bytes([7]) * 5000


def test_a_connection_that_breaks_off_is_gone_on_with(archive, tmp_path):
    what, archive.cut = archive.described(), 2000
    with pytest.raises(RunError, match=r"2000 of .* bytes.*the same command again to resume"):
        fetch(what, tmp_path / "pets")
    archive.cut = None
    fetch(what, tmp_path / "pets")
    assert archive.asked == [0, 2000]
    assert len(list((tmp_path / "pets" / "Cat").iterdir())) == 40


def test_what_was_fetched_to_the_end_before_is_not_fetched_again(archive, tmp_path):
    (tmp_path / "pets.zip.part").write_bytes(archive.content)
    fetch(archive.described(), tmp_path / "pets")
    assert archive.asked == [len(archive.content)]


def test_another_file_than_expected_is_not_used(archive, tmp_path):
    with pytest.raises(RunError, match="is not the expected file"):
        fetch(archive.described("0" * 64), tmp_path / "pets")
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_reported_in_a_sentence(archive, tmp_path):
    what = archive.described()
    archive.server.shutdown()
    archive.server.server_close()
    with pytest.raises(RunError, match="cannot fetch http"):
        fetch(what, tmp_path / "pets")
