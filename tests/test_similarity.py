"""Copies of images are found, and nothing else is taken for one."""

from itertools import combinations

import numpy as np
import pytest
from heap import ALTERATIONS, Heap
from PIL import Image, ImageOps

from thaw.curation.inspection import inspect
from thaw.curation.similarity import _ODD, groups, marks_of, similar_pairs


def pairs_of(paths):
    found = [inspect(path) for path in paths]
    return similar_pairs(paths, [each.marks for each in found])


@pytest.fixture(scope="module")
def heap(tmp_path_factory):
    return Heap(tmp_path_factory.mktemp("heap") / "pictures", 100)


def test_different_pictures_are_no_copies(heap):
    assert pairs_of(heap.good) == []


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_copy_is_found(heap, tmp_path, name):
    copies = []
    for path in heap.good[:20]:
        copies.append(tmp_path / f"{path.stem}-{path.parent.name}.jpg")
        with Image.open(path) as image:
            ALTERATIONS[name](image.convert("RGB")).save(copies[-1], quality=88)
    found = pairs_of([*heap.good[:40], *copies])
    expected = {(number, 40 + number) for number in range(20)}
    assert len(expected & set(found)) >= 19
    assert set(found) <= expected


@pytest.mark.slow
def test_photographs_have_no_copies_but_their_own(photographs, tmp_path):
    originals = sorted(photographs.rglob("*.jpg"))
    copies = []
    for number, path in enumerate(originals[:160:2]):
        name, alter = list(ALTERATIONS.items())[number % len(ALTERATIONS)]
        copies.append(tmp_path / f"{number}-{name}.jpg")
        with Image.open(path) as image:
            alter(image.convert("RGB")).save(copies[-1], quality=88)
    found = set(pairs_of([*originals, *copies]))
    expected = {(2 * number, len(originals) + number) for number in range(len(copies))}
    assert len(expected & found) >= 0.95 * len(expected)
    assert len(found - expected) <= len(originals) / 1000


def test_a_mirror_turns_round_the_odd_waves():
    image = Image.effect_noise((96, 96), 80).convert("RGB").resize((300, 200))
    assert marks_of(ImageOps.mirror(image))[0] == pytest.approx(marks_of(image)[0] * _ODD, abs=2e-2)


def test_marks_are_no_farther_apart_than_the_pixels():
    """Which is why a tree of marks misses nothing that is near."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = (Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(2))
        pixels = []
        for image in (a, b):
            grey = np.asarray(image.convert("L").resize((96, 96), 2).resize((16, 16), 2), float)
            pixels.append((grey - grey.mean()) / np.linalg.norm(grey - grey.mean()))
        apart = np.linalg.norm(marks_of(a)[0].astype(float) - marks_of(b)[0])
        assert apart <= np.linalg.norm(pixels[0] - pixels[1]) + 1e-2


def test_blank_images_are_not_copies_of_each_other(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, colour in zip(paths, ("red", "red", "blue"), strict=True):
        Image.new("RGB", (40, 40), colour).save(path)
    assert pairs_of(paths) == []


@pytest.mark.slow
def test_many_copies_of_one_image_are_one_group(tmp_path):
    heap = Heap(tmp_path / "heap", 3)
    copies = []
    for number in range(30):
        copies.append(tmp_path / f"{number}.jpg")
        with Image.open(heap.good[0]) as image:
            image.save(copies[-1], quality=50 + number)
    paths = [*heap.good, *copies]
    found = [members for members in groups(len(paths), pairs_of(paths)) if len(members) > 1]
    assert found == [[0, *range(len(heap.good), len(paths))]]


def test_groups_are_what_pairs_connect():
    """As a search by hand finds them."""
    rng = np.random.default_rng(1)
    pairs = [tuple(sorted(pair)) for pair in rng.choice(list(combinations(range(30), 2)), 18, replace=False).tolist()]
    expected = [{index} for index in range(30)]
    for a, b in pairs:
        joined = next(group for group in expected if a in group) | next(group for group in expected if b in group)
        expected = [group for group in expected if not group & joined] + [joined]
    assert groups(30, pairs) == sorted(sorted(group) for group in expected)
