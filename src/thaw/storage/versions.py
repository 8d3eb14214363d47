"""Versions: of the libraries in use, and of Thaw's own computations whose results are cached.

A cached result is keyed by the version of the code that computed it. Whoever changes what that code computes raises its
number here; a change of names or comments keeps the caches. `tests/test_versions.py` fails when a file changed and its
number did not.
"""

from importlib.metadata import PackageNotFoundError, version

READING = 1  # data/images.py, grey.py and metadata.py: from a file to pixels
PIXELS = 1  # data/pixel_cache.py: decoded pixels on disk
TRANSFORMS = 1  # data/transforms.py, rotation.py and folders.py: from pixels to what a network sees
FEATURES = 1  # features/prefix.py and models/: from what a network sees to features
DRAWINGS = 1  # demo/drawings.py
PRETRAINING = 1  # demo/pretraining.py: the recipe of the demo weights


def library_version(name: str) -> str:
    """Return the installed version of a package, "unknown" where its metadata is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
