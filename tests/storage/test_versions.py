"""Cached results are keyed by numbers in thaw.storage.versions; this reminds whoever changes what is computed."""

import ast
import hashlib
import importlib.metadata
import sys

import pytest
from conftest import ROOT

from thaw.storage import versions

# A file whose code changed: raise its number if what it computes changed, and in any case write its new digest here.
FAMILIES = [f"models/families/{path.name}" for path in sorted((ROOT / "src/thaw/models/families").glob("*.py"))]
COMPUTED = {
    "READING": ["data/images.py", "data/grey.py", "data/metadata.py"],
    "PIXELS": ["data/pixel_cache.py"],
    "TRANSFORMS": [
        f"data/{name}.py"
        for name in (
            "transforms",
            "batch_resize",
            "device_pixels",
            "device_resize",
            "random_boxes",
            "rotation",
            "folders",
        )
    ],
    "FEATURES": ["features/prefix.py", "models/staged.py", *FAMILIES],
    "DRAWINGS": ["demo/drawings.py"],
    "PRETRAINING": ["demo/pretraining.py"],
}
RECORDED = {
    "READING": (2, "571bb17426c5"),
    "PIXELS": (1, "7972ebf109b0"),
    "TRANSFORMS": (1, "1633286f3a8e"),
    "FEATURES": (1, "1ca33d35c9f4"),
    "DRAWINGS": (1, "4e215a632ae5"),
    "PRETRAINING": (1, "91727490958e"),
}


def code_of(path):
    """The file without comments, docstrings, imports and annotations of layout."""
    tree = ast.parse((ROOT / "src/thaw" / path).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            node.body = [
                part
                for part in node.body
                if not isinstance(part, ast.Import | ast.ImportFrom)
                and not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
    return ast.unparse(tree)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions of Python write syntax trees differently")
@pytest.mark.parametrize("name", COMPUTED)
def test_code_whose_results_are_cached_has_not_changed_without_its_version(name):
    code = "\n".join(map(code_of, COMPUTED[name]))
    found = getattr(versions, name), hashlib.sha256(code.encode()).hexdigest()[:12]
    assert found == RECORDED[name], f"if what {COMPUTED[name]} compute has changed, raise {name}"


def test_a_package_without_metadata_has_an_unknown_version(monkeypatch):
    assert versions.library_version("torch") == importlib.metadata.version("torch")
    assert versions.library_version("no-such-package") == "unknown"
