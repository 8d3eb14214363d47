"""A run goes on with the images that it was trained on, wherever they lie now, or not at all."""

import shutil

import pytest
import torch

from thaw.data.datamodule import image_folders
from thaw.data.fingerprint import refuse_other_data
from thaw.errors import UserError


@pytest.fixture
def drawn(image_folder):
    """Class folders alone, of which validation images are drawn."""
    return image_folder(train=10, size=8) / "train"


def of(root):
    return image_folders(root, image_size=8, num_workers=0).fingerprint


def rename_class(root):
    (root / "bees").rename(root / "wasps")


def add_class(root):
    shutil.copytree(root / "bees", root / "wasps")


def add_image(root):
    (root / "bees" / "new.png").write_bytes((root / "bees" / "1.png").read_bytes() + b" ")


def remove_image(root):
    (root / "bees" / "1.png").unlink()


def change_image(root):
    (root / "bees" / "1.png").write_bytes((root / "bees" / "1.png").read_bytes() + b" ")


def swap_labels(root):
    """Of one image in each class, whose numbers of images stay."""
    one, other = root / "ants" / "1.png", root / "bees" / "1.png"
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (rename_class, "the classes were ants, bees, and are ants, wasps now"),
        (add_class, "the classes were ants, bees, and are ants, bees, wasps now"),
        (add_image, r"the train images were 16 \(8 ants, 8 bees\), and are 17 \(8 ants, 9 bees\) now"),
        (remove_image, "(train|val) images"),
        (change_image, "(train|val) images"),
        (swap_labels, "(train|val) images"),
    ],
)
def test_images_that_have_changed_are_refused_in_a_sentence(drawn, tmp_path, change, sentence):
    torch.save({"data": of(drawn)}, tmp_path / "last.ckpt")
    change(drawn)
    with pytest.raises(UserError, match=rf"resume=run: the images in data\.root=.* differ from those.*{sentence}"):
        refuse_other_data("run", tmp_path / "last.ckpt", of(drawn), drawn)


def test_images_that_were_moved_are_the_same(drawn, tmp_path):
    torch.save({"data": of(drawn)}, tmp_path / "last.ckpt")
    shutil.move(drawn, tmp_path / "moved")
    refuse_other_data("run", tmp_path / "last.ckpt", of(tmp_path / "moved"), tmp_path / "moved")


def test_a_run_that_kept_no_fingerprint_goes_on_where_its_images_were(drawn, tmp_path):
    torch.save({}, tmp_path / "last.ckpt")
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/resolved.yaml").write_text(f"data: {{root: {drawn}}}")
    refuse_other_data(tmp_path, tmp_path / "last.ckpt", of(drawn), drawn)
    with pytest.raises(UserError, match="does not record which images were there"):
        refuse_other_data(tmp_path, tmp_path / "last.ckpt", of(drawn), tmp_path / "moved")
