"""Put conf/ into the wheel: `thaw train` finds it there outside of a checkout."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConfiguration(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copytree("conf", Path(self.build_lib) / "thaw" / "conf", dirs_exist_ok=True)


setup(cmdclass={"build_py": WithConfiguration})
