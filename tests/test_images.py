import numpy as np
import pytest
from PIL import Image

from thaw.data.images import load_rgb
from thaw.errors import UnreadableImageError

RAMP = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))  # 64 x 64, 0..252


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return np.asarray(load_rgb(path)).astype(int)


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


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation_is_honoured(tmp_path, orientation):
    upright = Image.fromarray(RAMP[:48]).convert("RGB")
    turns = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}  # Pillow's transpose that undoes the viewer's
    stored = upright
    for turn in turns[orientation]:
        stored = stored.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    assert (np.asarray(load_rgb(path)) == np.asarray(upright)).all()


@pytest.mark.parametrize("fault", ["empty", "text", "truncated", "missing"])
def test_what_cannot_be_decoded_is_named(tmp_path, fault):
    path = tmp_path / "Müll 1.jpg"
    if fault == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif fault != "missing":
        path.write_text("" if fault == "empty" else "no image at all")
    with pytest.raises(UnreadableImageError) as error:
        load_rgb(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
