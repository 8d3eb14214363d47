"""Copies of images are found, and nothing else is taken for one."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from heap import ALTERATIONS, Heap
from homogeneous import COPIES, KINDS, copy_of, write_set
from PIL import Image

from thaw.curation.alignment import WHOLE, cut, fit, residue
from thaw.curation.difference import Pair, excess
from thaw.curation.inspection import inspect, inspect_all
from thaw.curation.signatures import Signatures
from thaw.curation.similarity import alike_by_design, grey_thumbnail, similar_pairs
from thaw.data.connected_groups import groups


def pairs_of(paths):
    found = [inspect(path) for path in paths]
    return similar_pairs(paths, [each.thumbnail for each in found])


@pytest.fixture(scope="module")
def heap(tmp_path_factory):
    return Heap(tmp_path_factory.mktemp("heap") / "pictures", 100)


@pytest.mark.slow
def test_altered_copies_are_found_and_nothing_else(heap, tmp_path):
    """As many of each kind, of different pictures."""
    originals, copies, each = heap.good[:120], [], 8
    for number, path in enumerate(originals[: each * len(ALTERATIONS)]):
        alter = list(ALTERATIONS.values())[number % len(ALTERATIONS)]
        copies.append(tmp_path / f"{number}.jpg")
        with Image.open(path) as image:
            alter(image.convert("RGB")).save(copies[-1], quality=88)
    expected = {(number, len(originals) + number) for number in range(len(copies))}
    found = set(pairs_of([*originals, *copies]))
    assert found <= expected
    missed = Counter(number % len(ALTERATIONS) for number, _ in expected - found)
    assert max(missed.values(), default=0) <= 1


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
    pictures = np.random.default_rng(0).normal(size=(2, 48, 48)).astype(np.float32)
    waves = Signatures(9)
    mirrored = waves.of(np.ascontiguousarray(pictures[:, :, ::-1]), WHOLE)
    assert mirrored == pytest.approx(waves.of(pictures, WHOLE) * waves.mirror, abs=1e-4)


def test_the_box_of_a_crop_is_found():
    noise = Image.effect_noise((12, 12), 90).resize((480, 480), Image.Resampling.BICUBIC)
    parts = [noise, noise.crop((48, 24, 456, 432))]
    whole, part = (grey_thumbnail(image.convert("RGB")).astype(np.float32)[None] / 50 for image in parts)
    boxes = fit(part, whole, np.array([WHOLE]))
    assert boxes[0] == pytest.approx([0.05, 0.9, 0.1, 0.95], abs=0.005)
    assert residue(part, whole, boxes) < 0.01 < residue(part, whole, np.array([WHOLE], np.float32))
    assert cut(whole, np.array([WHOLE], np.float32))[0] == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_differs_no_more_than_re_encoding_and_another_image_of_its_kind_does(kind, tmp_path):
    first, *others = write_set(tmp_path, kind, 3)
    copy = copy_of(first, "all", tmp_path / "copy.jpg")
    assert excess(Pair(copy, first, True, (0.0, 0.9, 0.05, 0.94))) < 1
    assert all(excess(Pair(first, other, False, WHOLE)) > 3 for other in others)


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


def _with_copies(root, kind, count, copied):
    paths = write_set(root, kind, count)
    names = list(COPIES)
    step = count // copied
    copies = [
        copy_of(path, names[number % len(names)], path.with_name(f"{path.stem}-copy.png"))
        for number, path in enumerate(paths[: copied * step : step])
    ]
    return [*paths, *copies], {(number * step, count + number) for number in range(copied)}


@pytest.mark.slow
def test_copies_are_told_from_images_that_are_alike_by_design(tmp_path):
    paths, expected = _with_copies(tmp_path, "cells", 40, 6)
    found = [inspect(path) for path in paths]
    assert set(similar_pairs(paths, [each.thumbnail for each in found])) == expected
    assert "copies only if re-encoding can explain" in alike_by_design([each.thumbnail for each in found])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_homogeneous_set_has_no_copies_but_its_own(kind, tmp_path):
    paths, expected = _with_copies(tmp_path, kind, 260, 60)
    found = set(similar_pairs(paths, [each.thumbnail for each in inspect_all(paths, "")]))
    assert len(found & expected) >= 0.95 * len(expected)
    assert found <= expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_copies_of_one_image_in_a_homogeneous_set_are_one_group(kind, tmp_path):
    paths = write_set(tmp_path, kind, 150)
    for source, copies in ((7, 12), (20, 5), (31, 3)):
        names = list(COPIES)[:copies]
        paths += [copy_of(paths[source], name, tmp_path / f"{source}-{place}.png") for place, name in enumerate(names)]
    pairs = similar_pairs(paths, [each.thumbnail for each in inspect_all(paths, "")])
    found = [members for members in groups(len(paths), pairs) if len(members) > 1]
    assert found == [[7, *range(150, 162)], [20, *range(162, 167)], [31, *range(167, 170)]]


def test_different_pictures_are_not_alike_by_design(heap):
    assert alike_by_design([inspect(path).thumbnail for path in heap.good]) is None
