"""What another program has to do with an export: onnx_program.py MODEL IMAGE… prints a line of JSON for each.

It imports nothing of Thaw's, nor PyTorch.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read(path: str, resize: int, crop: int, interpolation: str) -> np.ndarray:
    """uint8 (crop, crop, 3): the centre of the image, whose short side is resized first."""
    with Image.open(path) as image:
        image.draft(None, reduced(image.size, 2 * resize))  # of a large JPEG less is decoded
        image = ImageOps.exif_transpose(image).convert("RGB")
    if min(image.size) > 2 * resize:  # large images are reduced first, as they are where nets are trained
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
    (probabilities,) = session.run(None, {"images": images})
    for path, row in zip(paths, probabilities, strict=True):
        best = int(row.argmax())
        print(json.dumps({"path": path, "predicted": classes[best], "probabilities": row.tolist()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
