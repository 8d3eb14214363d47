"""JPEG files that a GPU decodes: which ones, and that all others are Pillow's. A stand-in decodes without a GPU."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from thaw.data.datamodule import image_folders
from thaw.data.gpu_jpegs import JpegDecoder, are_jpegs, jpeg_decoder
from thaw.data.images import load_rgb
from thaw.data.jpeg_header import plain_jpeg
from thaw.errors import RunError, UnreadableImageError

CPU = torch.device("cpu")


def photograph(height=60, width=80, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def saved(path, image=None, **options):
    (image or photograph()).save(path, **options)
    return path


def turned(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def images(decoder, paths, short_side=100):
    """Return the decoded images as Pillow's arrays are: (H, W, 3)."""
    return [image.permute(1, 2, 0).cpu() for group in decoder.groups(paths, short_side) for image in group]


@pytest.fixture
def decoder():
    """Decodes as Pillow does, and counts; a file that Pillow refuses is a RuntimeError, as from nvJPEG."""
    counted = []

    def decode(files):
        counted.append(len(files))
        try:
            images = [Image.open(io.BytesIO(file.numpy().tobytes())).convert("RGB") for file in files]
        except OSError as error:
            raise RuntimeError("nvJPEG failed") from error
        return [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]

    made = JpegDecoder("stand-in 1", decode, CPU)
    made.decode.counted = counted
    return made


ODD = {
    "progressive.jpg": {"progressive": True},
    "turned.jpg": {"exif": turned(6)},
    "cmyk.jpg": {"image": photograph().convert("CMYK")},
    "drawing.png": {},
    "rgb.jpg": {"keep_rgb": True},
}
PLAIN = {"plain.jpg": {}, "upright.jpg": {"exif": turned(1)}, "grey.jpg": {"image": photograph().convert("L")}}


@pytest.mark.parametrize("name", [*ODD, *PLAIN])
def test_only_plain_files_are_decoded_on_a_gpu(tmp_path, name):
    path = saved(tmp_path / name, **(ODD | PLAIN)[name])
    assert plain_jpeg(path.read_bytes()) == ((80, 60) if name in PLAIN else None)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00\x10\xff\xd9", b"GIF89a"])
def test_a_file_that_ends_early_is_not_plain(content):
    assert plain_jpeg(content) is None


def test_all_images_equal_those_of_pillow_in_their_order(tmp_path, decoder):
    paths = [str(saved(tmp_path / name, **options)) for name, options in (ODD | PLAIN).items()]
    for path, image in zip(paths, images(decoder, paths), strict=True):
        np.testing.assert_array_equal(image, np.asarray(load_rgb(path, 100)), path)
    assert decoder.decode.counted == [len(PLAIN)]


def test_larger_images_are_reduced_nearly_as_by_pillow(tmp_path, decoder):
    path = str(saved(tmp_path / "large.jpg", photograph(300, 401)))
    (image,) = images(decoder, [path])
    wanted = np.asarray(load_rgb(path, 100)).astype(int)
    assert image.shape == wanted.shape == (100, 134, 3)
    assert np.abs(image.numpy() - wanted).mean() < 1


def test_a_truncated_file_is_named(tmp_path, decoder):
    good, bad = (saved(tmp_path / name) for name in ("good.jpg", "bad.jpg"))
    bad.write_bytes(bad.read_bytes()[:-300])
    with pytest.raises(UnreadableImageError, match=r"bad\.jpg"):
        images(decoder, [str(good), str(bad)])


def test_files_that_the_gpu_refuses_are_decoded_by_pillow(tmp_path):
    def refuse(files):
        raise RuntimeError("nvJPEG failed")

    paths = [str(saved(tmp_path / f"{number}.jpg", photograph(seed=number))) for number in range(3)]
    for path, image in zip(paths, images(JpegDecoder("none", refuse, CPU), paths), strict=True):
        np.testing.assert_array_equal(image, np.asarray(load_rgb(path, 100)))


def test_folders_of_other_files_are_not_decoded_anew_in_every_run(tmp_path):
    plain = [str(saved(tmp_path / f"{number}.jpg")) for number in range(9)]
    odd = [str(saved(tmp_path / f"{number}.png")) for number in range(2)]
    assert are_jpegs(plain) and are_jpegs([*plain, odd[0]]) and not are_jpegs([*plain, *odd])


def test_a_cpu_has_no_such_decoder():
    assert jpeg_decoder(CPU) is None


@pytest.mark.parametrize(("device_gb", "chosen"), [(1, "auto"), (0, "auto"), (1, "pillow")])
def test_images_that_fit_on_the_gpu_are_decoded_there(tmp_path, monkeypatch, decoder, device_gb, chosen):
    monkeypatch.setattr("thaw.data.prepared_pixels.jpeg_decoder", lambda device: decoder)
    for number, split in enumerate(("train", "val")):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            saved(tmp_path / split / name / "1.jpg", photograph(seed=number))
    data, plain = (image_folders(tmp_path, 32, device_gb=device_gb, decoder=chosen) for _ in range(2))
    data.attach(None)
    data.prepare_pixels()
    used = device_gb == 1 and chosen == "auto"
    assert decoder.decode.counted == ([2, 2] if used else [])
    assert data.train.is_on_device == bool(device_gb) and (data.train.digest != plain.train.digest) == used
    for found, wanted in zip(data.val_dataloader(), plain.val_dataloader(), strict=True):
        assert found[0].equal(wanted[0])
    crops = [data.view_loader(data.train, 3), plain.view_loader(plain.train, 3)]
    for found, wanted in zip(*crops, strict=True):
        assert all(map(torch.equal, found[0], wanted[0]))


def test_a_gpu_without_room_is_told_with_the_options_that_help(tmp_path, monkeypatch):
    def fail(files):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("thaw.data.prepared_pixels.jpeg_decoder", lambda device: JpegDecoder("none", fail, CPU))
    for split in ("train", "val"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            saved(tmp_path / split / name / "1.jpg")
    data = image_folders(tmp_path, 32, device_gb=1)
    data.attach(None)
    with pytest.raises(RunError, match=r"do not fit on cpu: lower data\.device_gb, or choose data\.decoder=pillow"):
        data.prepare_pixels()


@pytest.mark.gpu
def test_a_gpu_decodes_nearly_as_pillow(tmp_path):
    found = jpeg_decoder(torch.device("cuda"))
    if found is None:
        pytest.skip("neither torchcodec nor a torchvision before 0.29 is installed")
    paths = [str(saved(tmp_path / name, **options)) for name, options in (ODD | PLAIN).items()]
    for path, image in zip(paths, images(found, paths), strict=True):
        difference = np.abs(image.cpu().numpy() - np.asarray(load_rgb(path, 100)).astype(int))
        assert image.device.type == "cuda"
        assert difference.mean() < 4, f"{path}: strong colours, half as many as grey levels, are enlarged otherwise"
