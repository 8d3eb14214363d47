"""A local server with the part of the Hugging Face Hub's HTTP interface that uploads a model."""

import base64
import json
import threading
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

TOKEN = "hf_stub"
LARGE = 10_000_000  # bytes above which the Hub stores a file as a large file (LFS)
_KNOWN_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-nc-4.0", "other")


class Hub:
    """State of the server: `repositories` by name, `commits` in their order, and `requests` as (method, path).

    A repository is {"private", "tags", "files"}. `broken` is the beginning of a path whose requests get the status 500.
    """

    def __init__(self):
        self.repositories, self.commits, self.requests, self.large = {}, [], [], {}
        self.user = {"name": "ada", "orgs": [{"name": "zoo"}], "auth": {"accessToken": {"role": "write"}}}
        self.broken = None
        self.address = ""


@contextmanager
def running_hub():
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *given):
        pass

    def do_GET(self):
        self._handle("GET")

    def do_POST(self):
        self._handle("POST")

    def do_PUT(self):
        self._handle("PUT")

    def _handle(self, method):
        self.path, _, _ = self.path.partition("?")
        body = self._body()
        self.hub.requests.append((method, self.path))
        if self.hub.broken and self.path.startswith(self.hub.broken):
            self._answer(403, {"error": "the disk of the hub is full"})
        elif not self.path.startswith("/storage/") and self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid credentials"})
        else:
            self._route(method, self.path.strip("/").split("/"), body)

    def _route(self, method, parts, body):
        hub = self.hub
        match method, parts:
            case "GET", ["api", "whoami-v2"]:
                self._answer(200, {"type": "user", **hub.user})
            case "GET", ["api", "models", owner, name]:
                self._info(f"{owner}/{name}")
            case "POST", ["api", "repos", "create"]:
                given = json.loads(body)
                name = f"{given.get('organization') or hub.user['name']}/{given['name']}"
                private = given.get("visibility") == "private" or bool(given.get("private"))
                hub.repositories[name] = {"private": private, "tags": [], "files": {}}
                self._answer(200, {"url": f"{hub.address}/{name}", "id": name})
            case "POST", ["api", "validate-yaml"]:
                self._validate(json.loads(body)["content"])
            case "POST", ["api", "models", owner, name, "preupload", "main"]:
                modes = {one["path"]: "lfs" if one["size"] > LARGE else "regular" for one in json.loads(body)["files"]}
                files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
                self._answer(200, {"files": files})
            case "POST", [owner, name, "info", "lfs", "objects", "batch"] if name.endswith(".git"):
                objects = [self._upload(one) for one in json.loads(body)["objects"]]
                self._answer(200, {"transfer": "basic", "objects": objects})
            case "PUT", ["storage", oid]:
                hub.large[oid] = body
                self._answer(200, {})
            case "POST", ["api", "models", owner, name, "commit", "main"]:
                self._commit(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])
            case _:
                self._answer(404, {"error": f"the stub has no {method} {self.path}"})

    def _info(self, name):
        found = self.hub.repositories.get(name)
        if found is None:
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        files = [{"rfilename": file} for file in found["files"]]
        self._answer(200, {"id": name, "private": found["private"], "tags": found["tags"], "siblings": files})

    def _validate(self, content):
        values = yaml.safe_load(content.split("---")[1])
        bad = values.get("license", "mit") not in _KNOWN_LICENCES
        errors = [{"message": '"license" must be one of …'}] if bad else []
        self._answer(400 if bad else 200, {"errors": errors, "warnings": []})

    def _upload(self, one):
        place = {"href": f"{self.hub.address}/storage/{one['oid']}", "header": {}}
        return {"oid": one["oid"], "size": one["size"], "actions": {"upload": place}}

    def _commit(self, name, lines):
        found, files = self.hub.repositories[name], {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
                assert sha256(files[value["path"]]).hexdigest() == value["oid"]
        found["files"] |= files
        if "README.md" in files:
            found["tags"] = yaml.safe_load(files["README.md"].decode().split("---")[1]).get("tags", [])
        self.hub.commits.append((name, files))
        self._answer(200, {"success": True, "commitOid": "c" * 40, "commitUrl": f"{self.hub.address}/{name}/commit/c"})

    def _body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status, values, headers=()):
        content = json.dumps(values).encode()
        self.send_response(status)
        named = {"Content-Type": "application/json", "Content-Length": len(content), **dict(headers)}
        for name, value in named.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)
