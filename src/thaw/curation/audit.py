"""Find problems of a data set before training: broken files, copies in several splits, unusual classes and images."""

from dataclasses import dataclass
from pathlib import Path

from thaw.curation.findings import (
    ERROR,
    NOTE,
    WARNING,
    File,
    Finding,
    class_findings,
    copy_findings,
    folder_findings,
    image_findings,
)
from thaw.curation.inspection import inspect_all
from thaw.curation.source_tree import SPLITS, Tree, scan
from thaw.data.layout import has_test_beside_classes, is_divided
from thaw.errors import UserError


@dataclass(frozen=True)
class Doubt:
    """Image with a doubtful label. A classifier gives `probability` to `label`, and `other` to `suggested`."""

    path: Path
    label: str
    suggested: str
    probability: float
    other: float


@dataclass(frozen=True)
class Audit:
    root: Path
    trees: dict[str, Tree]
    files: list[File]
    findings: list[Finding]

    @property
    def distorted(self) -> bool:
        return any(finding.severity == ERROR for finding in self.findings)


def class_trees(root: Path) -> dict[str, Tree]:
    """List the files of each split without decoding images. Class folders directly in `root` form a split named "".

    Raises:
        UserError: if `root` has no classes.

    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}.")
    trees = _trees(root)
    if not any(tree.classes for tree in trees.values()):
        raise UserError(
            f"{root} holds no classes. It needs train/ and val/ with one folder of images per class, or class folders."
        )
    return trees


def audit(root: Path, trees: dict[str, Tree] | None = None) -> Audit:
    """Decode every image of a data set and return all problems found. `trees` lists its images, if that is known.

    Raises:
        UserError: if `root` has no classes.

    """
    trees = trees or class_trees(root)
    listed = [(split, tree.root / path, label) for split, tree in trees.items() for path, label in tree.images]
    inspections = inspect_all([path for _, path, _ in listed], "inspecting")
    files = [
        File(path.relative_to(root), split, label, found)
        for (split, path, label), found in zip(listed, inspections, strict=True)
    ]
    findings = [*folder_findings(root, trees), *class_findings(trees), *image_findings(files), *copy_findings(files)]
    order = (ERROR, WARNING, NOTE)
    return Audit(root, trees, files, sorted(findings, key=lambda finding: order.index(finding.severity)))


def _trees(root: Path) -> dict[str, Tree]:
    divided = [name for name in SPLITS if (root / name).is_dir()] if is_divided(root) else []
    if divided or not has_test_beside_classes(root):
        return {name: scan(root / name) for name in divided or [""]}
    return {"": scan(root, others=["test"]), "test": scan(root / "test")}
