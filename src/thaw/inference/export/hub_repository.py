"""Upload an export to a repository of the Hugging Face Hub, or of another server with its interface (HF_ENDPOINT)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.errors import RunError, UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_OPTION = "--push-to-hub"
_CARD = "README.md"
# Seconds to wait for a connection, for an answer to a check, and for an answer during an upload. huggingface_hub itself
# waits without a limit.
_CONNECT, _CHECK, _UPLOAD = 10.0, 20.0, 120.0


@dataclass(frozen=True)
class HubRepository:
    """A repository OWNER/NAME that the user may write to; `exists` says whether the Hub has it already."""

    name: str
    private: bool
    exists: bool
    api: "HfApi"

    @property
    def address(self) -> str:
        return f"{self.api.endpoint}/{self.name}"

    def push(self, files: Mapping[str, Path]) -> str:
        """Upload `files`, by their path in the repository, in one commit; return the repository's address.

        A missing repository is created. Other files in the repository stay.

        Raises:
            RunError: if the upload fails.

        """
        from huggingface_hub import CommitOperationAdd

        _bound_waiting(_UPLOAD)
        added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path)) for name, path in files.items()]
        try:
            if not self.exists:
                self.api.create_repo(self.name, private=self.private, exist_ok=True)
            self.api.create_commit(self.name, added, commit_message="Model exported by Thaw")
        except Exception as error:  # of huggingface_hub, its HTTP client, or hf_xet
            advice = " Set HF_HUB_DISABLE_XET=1 if the server has no Xet." if "xet-write-token" in str(error) else ""
            raise RunError(f"the upload to {self.address} failed: {_reason(error)}{advice}") from error
        return self.address


def checked_repository(name: str, public: bool) -> HubRepository:
    """Return the repository `name`, after checking that the user may push to it; nothing is created yet.

    Raises:
        UserError: if huggingface_hub is missing, `name` is not OWNER/NAME, there is no token that may write, the server
            cannot be reached, or the repository holds a card of someone else or is public and `public` is false.

    """
    try:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.utils import RepositoryNotFoundError
    except ImportError as error:
        raise UserError(f"{_OPTION} needs the package huggingface_hub: pip install -e '.[hub]'.") from error
    _refuse_invalid(name)
    token = get_token()
    if not token:
        raise UserError(f"{_OPTION} needs a token that may write: set HF_TOKEN, or log in with `hf auth login`.")
    _bound_waiting(_CHECK)
    api = HfApi(endpoint=(os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None, token=token)
    try:
        user: dict[str, Any] = api.whoami()
        _refuse_other_owner(name, user)
        info = api.model_info(name)
    except RepositoryNotFoundError:
        return HubRepository(name, not public, False, api)
    except UserError:
        raise
    except Exception as error:  # of huggingface_hub or its HTTP client, whose package differs between versions
        raise UserError(f"{_OPTION} {name}: {_fault(error, api.endpoint)}") from error
    _refuse_existing(info, public)
    return HubRepository(name, bool(info.private), True, api)


def _refuse_invalid(name: str) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"{_OPTION} {name} is not a valid name of a repository: {_reason(error)}") from error
    if "/" not in name:
        raise UserError(f"{_OPTION} {name} has no owner: write OWNER/{name}, with your user name or an organisation.")


def _refuse_other_owner(name: str, user: Mapping[str, Any]) -> None:
    role = user.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise UserError(f"{_OPTION} {name}: the token may only read; create one that may write, and set HF_TOKEN.")
    owners = [user["name"], *(one["name"] for one in user.get("orgs", ()))]
    owner = name.partition("/")[0]
    if role != "fineGrained" and owner.lower() not in map(str.lower, owners):  # a fine-grained token may hide owners
        raise UserError(f"{_OPTION} {name}: {owner} is not an owner you may write to; choose {' or '.join(owners)}.")


def _refuse_existing(info: Any, public: bool) -> None:
    if not info.private and not public:
        raise UserError(f"{_OPTION} {info.id}: the repository exists and is public; add --public, or use another NAME.")
    if any(file.rfilename == _CARD for file in info.siblings or ()) and "thaw" not in (info.tags or ()):
        raise UserError(
            f"{_OPTION} {info.id}: the repository exists and has a {_CARD} that Thaw did not write; use another NAME."
        )


def _bound_waiting(answer: float) -> None:
    """Let requests of huggingface_hub fail if the server does not answer within `answer` seconds."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def client() -> Any:
        made = default_client_factory()
        made.timeout = type(made.timeout)(answer, connect=_CONNECT)
        return made

    set_client_factory(client)


def _fault(error: Exception, endpoint: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"{endpoint} does not accept the token; set HF_TOKEN to a valid one, or log in with `hf auth login`."
    if status:
        return f"{endpoint} refused the request: {_reason(error)}"
    return f"{endpoint} cannot be reached ({_reason(error).rstrip('.')}); check the connection and HF_ENDPOINT."


def _reason(error: BaseException) -> str:
    """Return the first line of an error's message, or of its cause's, as a sentence."""
    cause = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error
    return f"{(str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip('.')}."
