"""An export reaches a repository of the Hub whole, or the command says in one sentence why not."""

import socket
import sys
import time

import pytest
import torch
import yaml
from evaluated import untrained
from hub_stub import LARGE, TOKEN, running_hub

from thaw.errors import RunError, UserError
from thaw.inference.export import hub_repository
from thaw.inference.export.exported_files import Exported
from thaw.inference.export.exported_model import Check
from thaw.inference.export.hub_repository import checked_repository

pytest.importorskip("huggingface_hub", reason="needs pip install thaw[hub]")
REPOSITORY = "ada/animals"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)  # read when the package is imported
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the stub stores large files as LFS
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
        yield hub


@pytest.fixture
def push(script, tmp_path, monkeypatch):
    """Return a function that runs the export of a tiny model as safetensors, with further arguments."""
    model = untrained(tmp_path / "run")
    model.source.parent.mkdir(parents=True)
    model.source.write_bytes(b"weights")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    checked = Check(images, model.probabilities(model.logits(images)))
    monkeypatch.setattr("thaw.inference.export.export.load_model", lambda run, **options: model)
    monkeypatch.setattr("thaw.inference.export.export.check", lambda *given: checked)

    def run(*arguments, repository=REPOSITORY):
        given = (model.source, tmp_path / "out", "--format", "safetensors", "--push-to-hub", repository, *arguments)
        return script("export", *given)

    return run


def test_one_commit_has_the_files_of_the_export_and_its_card(hub, push, tmp_path):
    status, printed, _ = push()
    assert status == 0
    assert f"uploaded to {hub.address}/{REPOSITORY} (private)" in printed
    ((name, files),) = hub.commits
    assert name == REPOSITORY
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(files) == ["README.md", "config.json", "export.json", "model.safetensors"]
    assert yaml.safe_load(files["README.md"].decode().split("---\n")[1])["pipeline_tag"] == "image-classification"
    assert hub.repositories[REPOSITORY]["private"]


def test_only_public_makes_a_repository_public(hub, push, capsys):
    assert push("--public", repository="zoo/animals")[0] == 0
    assert not hub.repositories["zoo/animals"]["private"]
    status, _, errors = push(repository="zoo/animals")
    assert (status, "exists and is public; add --public" in errors) == (2, True)
    assert len(hub.commits) == 1


# huggingface_hub 2.4 sends large files with an argument that its own HTTP client deprecates.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_file_gets_its_card_as_readme_and_large_files_are_uploaded_as_large_files(hub, tmp_path):
    contents = {
        "model.onnx": b"x" * (LARGE + 1),
        "model.onnx.json": b"{}",
        "model.onnx.md": b"---\ntags: [thaw]\n---\n# A",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    checked_repository(REPOSITORY, public=False).push(Exported(tmp_path / "model.onnx", 1, 0.0).files)
    ((_, files),) = hub.commits
    assert files == {"README.md" if name.endswith(".md") else name: content for name, content in contents.items()}
    assert list(hub.large.values()) == [contents["model.onnx"]]


@pytest.mark.parametrize(
    ("repository", "sentence"),
    [
        ("animals", "has no owner: write OWNER/animals"),
        ("ada/so many", "is not a valid name of a repository"),
        ("ada/a/b", "is not a valid name of a repository"),
        ("eve/animals", "eve is not an owner you may write to; choose ada or zoo."),
    ],
)
def test_a_name_that_cannot_be_pushed_to_is_refused_before_any_work(hub, push, tmp_path, repository, sentence):
    status, printed, errors = push(repository=repository)
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert sentence in errors
    assert not (tmp_path / "out").exists()
    assert hub.repositories == {}


def test_a_token_is_needed_that_the_hub_accepts_and_that_may_write(hub, push, monkeypatch):
    hub.user["auth"] = {"accessToken": {"role": "read"}}
    assert "the token may only read" in push()[2]
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not accept the token" in push()[2]
    monkeypatch.delenv("HF_TOKEN")
    status, _, errors = push()
    assert (status, "set HF_TOKEN, or log in with `hf auth login`" in errors) == (2, True)


def test_a_missing_package_is_named_with_its_installation(push, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    status, _, errors = push()
    assert (status, "huggingface_hub: pip install -e '.[hub]'" in errors) == (2, True)


def test_public_without_a_repository_is_refused(script, tmp_path):
    status, _, errors = script("export", tmp_path, tmp_path / "out", "--format", "onnx", "--public")
    assert (status, "--public needs --push-to-hub" in errors) == (2, True)


def test_a_server_that_is_not_there_or_never_answers_is_found_at_once(hub, monkeypatch):
    monkeypatch.setattr(hub_repository, "_CHECK", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        start = time.monotonic()
        with pytest.raises(UserError, match=f"{address} cannot be reached"):
            checked_repository(REPOSITORY, public=False)
    with pytest.raises(UserError, match=f"{address} cannot be reached"):
        checked_repository(REPOSITORY, public=False)
    assert time.monotonic() - start < 5


def test_a_card_that_thaw_did_not_write_is_not_replaced(hub, push):
    hub.repositories[REPOSITORY] = {"private": True, "tags": ["pytorch"], "files": {"README.md": b"mine"}}
    status, _, errors = push()
    assert (status, "has a README.md that Thaw did not write" in errors) == (2, True)
    assert hub.repositories[REPOSITORY]["files"] == {"README.md": b"mine"}


def test_a_failed_upload_keeps_the_export_and_the_same_command_uploads_it(hub, push, tmp_path, monkeypatch):
    hub.broken = f"/api/models/{REPOSITORY}/commit"
    status, _, errors = push()
    assert status == 1
    assert errors.startswith(
        f"error: {tmp_path / 'out'} is written, but the upload to {hub.address}/{REPOSITORY} failed"
    )
    assert "The same command uploads it again" in errors
    assert hub.commits == []
    before = (tmp_path / "out" / "export.json").stat().st_mtime_ns
    hub.broken = None
    assert push()[0] == 0
    assert (tmp_path / "out" / "export.json").stat().st_mtime_ns == before
    assert len(hub.commits) == 1
    (tmp_path / "run" / "checkpoints" / "best.ckpt").write_bytes(b"other weights")
    status, _, errors = push()
    assert (status, "exists already" in errors) == (2, True)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # likewise
def test_a_server_without_xet_gets_large_files_or_is_explained(hub, monkeypatch, tmp_path):
    pytest.importorskip("hf_xet")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    (tmp_path / "model.onnx").write_bytes(b"x" * (LARGE + 1))
    try:
        checked_repository(REPOSITORY, public=False).push({"model.onnx": tmp_path / "model.onnx"})
        assert hub.commits  # early versions of huggingface_hub ask the server which transfers it has
    except RunError as error:
        assert "Set HF_HUB_DISABLE_XET=1" in str(error)
