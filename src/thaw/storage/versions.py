"""Version numbers of the code whose results are cached, and of installed libraries.

The cache key of a result contains the version number of the code that computed the result. If you change what a file
below computes, raise the number next to it. A change of names or comments needs no new number.
`tests/storage/test_versions.py` fails if the code of such a file changed and its number did not.
"""

from importlib.metadata import PackageNotFoundError, version

READING = 2  # data/images.py, grey.py and metadata.py: from files to pixels
PIXELS = 1  # data/pixel_cache.py: decoded pixels on disk
TRANSFORMS = 1  # data/transforms.py, rotation.py and folders.py: from pixels to the network's input
FEATURES = 1  # features/prefix.py and models/: from the network's input to features
DRAWINGS = 1  # demo/drawings.py and faces.py: the images of the demo data sets
PRETRAINING = 1  # demo/pretraining.py: the recipe of the demo weights


def library_version(name: str) -> str:
    """Return the installed version of a package, or "unknown" if the package has no metadata."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
