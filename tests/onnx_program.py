"""Predict images with an exported ONNX file, without Thaw and PyTorch: onnx_program.py MODEL IMAGE…

Prints a line of JSON per image.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read(path: str, resize: int, crop: int, interpolation: str) -> np.ndarray:
    """Return the centre of an image, uint8 (crop, crop, 3), after resizing the short side to `resize`."""
    with Image.open(path) as image:
        image.draft(None, reduced(image.size, 2 * resize))  # decode large JPEGs at a lower resolution
        image = ImageOps.exif_transpose(image).convert("RGB")
    if min(image.size) > 2 * resize:  # reduce large images first, as Thaw does in training
        image = image.resize(reduced(image.size, 2 * resize), Image.Resampling.BILINEAR, reducing_gap=3)
    width, height = image.size
    size = (resize, resize * height // width) if width <= height else (resize * width // height, resize)
    image = image.resize(size, Image.Resampling[interpolation.upper()])
    left, top = round((image.width - crop) / 2), round((image.height - crop) / 2)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


def reduced(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    return tuple(round(side * short_side / min(size)) for side in size) if min(size) > short_side else size


def main(model: str, paths: list[str]) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    classes, preprocessing = json.loads(told["classes"]), json.loads(told["preprocessing"])
    seen = [preprocessing[name] for name in ("resize", "crop", "interpolation")]
    images = np.stack([read(path, *seen) for path in paths])
    (probabilities,) = session.run(["probabilities"], {"images": images})
    for path, row in zip(paths, probabilities, strict=True):
        best = int(row.argmax())
        print(json.dumps({"path": path, "predicted": classes[best], "probabilities": row.tolist()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
