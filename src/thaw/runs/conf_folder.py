"""Find the folder of configuration files: conf/ in a checkout, or its copy in an installed wheel."""

from pathlib import Path


def conf_folder() -> Path:
    package = Path(__file__).absolute().parent.parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent.parent / "conf"
