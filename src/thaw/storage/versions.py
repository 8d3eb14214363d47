"""Versions of libraries, and of Thaw's own computations whose results are cached.

The key of a cached result contains the version of the code that computed it. If you change what that code computes,
raise its number here; changes of names or comments need no new number. `tests/storage/test_versions.py` fails if a
file changed and its number did not.
"""

from importlib.metadata import PackageNotFoundError, version

READING = 2  # data/images.py, grey.py and metadata.py: files to pixels
PIXELS = 1  # data/pixel_cache.py: decoded pixels on disk
TRANSFORMS = 1  # data/transforms.py, rotation.py and folders.py: pixels to the network's input
FEATURES = 1  # features/prefix.py and models/: the network's input to features
DRAWINGS = 1  # demo/drawings.py and faces.py
PRETRAINING = 1  # demo/pretraining.py: the recipe of the demo weights


def library_version(name: str) -> str:
    """Return the installed version of a package, or "unknown" without metadata."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
