import io
import time
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile
from torchvision.datasets.folder import IMG_EXTENSIONS

from thaw.data.endings import EXTENSIONS
from thaw.data.images import load_rgb, pixel_count, reduced_size
from thaw.data.preprocessing import TUTORIAL
from thaw.data.transforms import EvalTransform, read_size
from thaw.errors import UnreadableImageError

RAMP = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))  # 64 x 64, 0..252


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return np.asarray(load_rgb(path)).astype(int)


def test_endings_are_those_that_an_image_folder_reads():
    assert EXTENSIONS[: len(IMG_EXTENSIONS)] == IMG_EXTENSIONS


def test_a_grey_image_becomes_rgb_with_equal_channels(tmp_path):
    assert (saved(tmp_path, Image.fromarray(RAMP), "grey.png") == RAMP[..., None]).all()


def test_sixteen_bits_keep_their_range(tmp_path):
    pixels = saved(tmp_path, Image.fromarray(RAMP.astype(np.uint16) * 257), "deep.png")
    assert abs(pixels - RAMP[..., None]).max() <= 1


@pytest.mark.parametrize(("top", "dtype"), [(1.0, np.float32), (255, np.float32), (65535, np.int32)])
def test_a_tiff_of_floats_or_long_integers_keeps_its_range(tmp_path, top, dtype):
    ramp = np.tile(np.linspace(0, top, 64), (8, 1)).astype(dtype)
    pixels = saved(tmp_path, Image.fromarray(ramp), "deep.tif")
    assert abs(pixels[0, :, 0] - np.linspace(0, 255, 64)).max() <= 1.01


def test_transparency_lies_over_white(tmp_path):
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert abs(saved(tmp_path, half, "half.png")[0, 0] - [255, 127, 127]).max() <= 1
    grey = Image.merge("LA", [Image.new("L", (4, 4), 0), Image.new("L", (4, 4), 0)])
    assert (saved(tmp_path, grey, "grey-alpha.png") == 255).all()


def test_a_transparent_palette_colour_lies_over_white(tmp_path):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 1)
    pixels = saved(tmp_path, image, "palette.png", transparency=0)
    assert pixels[0, 0].tolist() == [200, 100, 50]
    assert pixels[1, 1].tolist() == [255, 255, 255]


def test_a_transparent_rgb_colour_lies_over_white(tmp_path):
    pixels = saved(tmp_path, Image.new("RGB", (4, 4), (1, 2, 3)), "key.png", transparency=(1, 2, 3))
    assert (pixels == 255).all()


def test_cmyk_keeps_its_colour(tmp_path):
    red = Image.new("RGB", (16, 16), (230, 20, 30)).convert("CMYK")
    assert abs(saved(tmp_path, red, "print.jpg", quality=95)[8, 8] - [230, 20, 30]).max() <= 4


def test_bilevel_and_animated_images_are_read(tmp_path):
    assert saved(tmp_path, Image.new("1", (4, 4), 1), "fax.png").tolist() == np.full((4, 4, 3), 255).tolist()
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    pixels = saved(tmp_path, frames[0], "moving.gif", save_all=True, append_images=frames[1:])
    assert pixels[0, 0].tolist() == [255, 0, 0]


def test_lab_is_converted(tmp_path):
    assert abs(saved(tmp_path, Image.new("LAB", (4, 4), (255, 128, 128)), "lab.tif")[0, 0] - 255).max() <= 3


def stored_turned(upright, orientation, path, **options):
    turns = {
        1: [],
        2: [0],
        3: [3],
        4: [1],
        5: [5],
        6: [2],
        7: [6],
        8: [4],
    }  # Pillow's transpose that undoes the viewer's
    stored = upright
    for turn in turns[orientation]:
        stored = stored.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_honoured(tmp_path, orientation):
    upright = Image.fromarray(RAMP[:48]).convert("RGB")
    path = stored_turned(upright, orientation, tmp_path / "turned.png")
    assert (np.asarray(load_rgb(path)) == np.asarray(upright)).all()


@pytest.mark.parametrize("fault", ["empty", "text", "truncated", "missing"])
@pytest.mark.parametrize("short_side", [None, 20])
def test_what_cannot_be_decoded_is_named(tmp_path, fault, short_side):
    path = tmp_path / "Müll 1.jpg"
    if fault == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif fault != "missing":
        path.write_text("" if fault == "empty" else "no image at all")
    with pytest.raises(UnreadableImageError) as error:
        load_rgb(path, short_side)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("warnings_are", ["error", "ignore"])
@pytest.mark.parametrize("side", [11, 20])
@pytest.mark.parametrize("read", [load_rgb, pixel_count])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch, warnings_are, side, read):
    path = tmp_path / "bomb.png"
    Image.new("L", (side, side)).save(path)
    Image.new("L", (10, 10)).save(tmp_path / "harmless.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow warns of 121 pixels and refuses 400
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded") if image.width > 10 else None)
    with warnings.catch_warnings():
        warnings.simplefilter(warnings_are)
        with pytest.raises(UnreadableImageError, match=rf"bomb\.png: .*{side**2} pixels"):
            read(path)
    assert pixel_count(tmp_path / "harmless.png") == 100


@pytest.fixture(scope="module")
def photograph():
    """As large as a camera's, with large shapes, fine lines and noise."""
    y, x = np.mgrid[:1500, :2000].astype(np.float32)
    waves = [128 + 80 * np.sin(x / 170 + y / 90), 128 + 80 * np.cos(x / 60), 128 + 60 * np.sin(y / 30)]
    noise = np.random.default_rng(0).normal(0, 10, (1500, 2000, 1))
    return Image.fromarray((np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8))


def seen_by_a_net(image, size=56):
    return EvalTransform(TUTORIAL.scaled(size))(image).numpy().astype(float)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_a_large_photograph_looks_the_same_when_it_is_read_small(tmp_path, photograph, orientation, ending):
    path = stored_turned(photograph, orientation, tmp_path / f"large.{ending}")
    small = load_rgb(path, read_size(64))
    assert small.size == (171, 128)
    assert pixel_count(path, read_size(64)) == 171 * 128
    assert abs(seen_by_a_net(small) - seen_by_a_net(load_rgb(path))).mean() < 1


@pytest.mark.parametrize("mode", ["L", "P", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("CMYK", "RGBA"))])
def test_a_large_image_of_any_mode_looks_the_same_when_it_is_read_small(tmp_path, photograph, mode):
    path = tmp_path / ("large.jpg" if mode in ("L", "CMYK") else "large.png")
    photograph.convert(mode).save(path)
    small = load_rgb(path, read_size(64))
    assert small.size == (171, 128)
    assert abs(seen_by_a_net(small) - seen_by_a_net(load_rgb(path))).mean() < 1


def test_a_large_jpeg_is_read_several_times_as_fast_when_it_is_read_small(tmp_path, photograph):
    photograph.save(tmp_path / "large.jpg")

    def seconds(short_side):
        start = time.process_time()
        seen_by_a_net(load_rgb(tmp_path / "large.jpg", short_side))
        return time.process_time() - start

    assert min(seconds(None) for _ in range(5)) > 1.5 * min(seconds(128) for _ in range(5))


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("short_side", [48, 49, 1000])
def test_what_is_no_larger_than_needed_stays_as_it_is(tmp_path, ending, short_side):
    path = tmp_path / f"small.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 70, 3), dtype=np.uint8)).save(path)
    with Image.open(path) as image:
        assert (np.asarray(load_rgb(path, short_side)) == np.asarray(image)).all()


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((500, 375), 448, (500, 375)),
        ((4000, 3000), 448, (597, 448)),
        ((3000, 4000), 448, (448, 597)),
        ((449, 449), 448, (448, 448)),
        ((9000, 10), 448, (9000, 10)),
        ((9000, 9000), None, (9000, 9000)),
    ],
)
def test_sizes_keep_their_shape_and_are_never_enlarged(size, short_side, expected):
    assert reduced_size(size, short_side) == expected


def test_an_open_file_is_read_as_one_with_a_path(tmp_path):
    path = tmp_path / "ramp.png"
    Image.fromarray(RAMP).save(path)
    read = load_rgb(io.BytesIO(path.read_bytes()), 32, ["PNG"])
    assert (np.asarray(read) == np.asarray(load_rgb(path, 32))).all()
    with pytest.raises(UnreadableImageError, match=r"^cannot read the image: Pillow does not know its format\.$"):
        load_rgb(io.BytesIO(path.read_bytes()), formats=["JPEG"])
