"""Refusal of addresses: Thaw reads only local files, because the content of an address can change."""

from thaw.errors import UserError


def is_remote(path: str) -> bool:
    return "://" in path


def refuse_remote(name: str, path: str) -> None:
    """Raise UserError if `path`, the value of the option `name`, is an address."""
    if is_remote(path):
        raise UserError(f"{name}={path} is an address, and Thaw reads only local files: download it first.")
