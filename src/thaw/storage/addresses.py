"""Files are read from this machine alone: what an address gives today, another gives tomorrow."""

from thaw.errors import UserError


def is_remote(path: str) -> bool:
    return "://" in path


def refuse_remote(name: str, path: str) -> None:
    """Raises:
    UserError: if `path`, which `name` was given as, is an address.

    """
    if is_remote(path):
        raise UserError(f"{name}={path} is an address, and only files of this machine are read: download it first.")
