"""Write a model as an ONNX file, a file for `torch.export.load`, or a folder with safetensors.

Each function writes one format, loads the result, and returns its probabilities for the images in `check`.
"""

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch.export import Dim

from thaw.errors import UserError
from thaw.evaluation.prediction_sets import COVERAGE
from thaw.inference.export.exported_model import Check, ExportedModel, example, facts, outputs
from thaw.inference.export.timm_folder import READ_BY_TIMM, probabilities_by_timm, timm_config
from thaw.inference.trained_model import TrainedModel
from thaw.models.tensor_files import read_safetensors
from thaw.storage.files import as_json

_ANY_NUMBER = {"images": {0: Dim("batch", min=1)}}


def as_onnx(model: TrainedModel, path: Path, check: Check) -> torch.Tensor:
    """Write an ONNX file that accepts any batch size; its metadata has the classes and the preprocessing.

    Besides `probabilities`, it has the outputs `in_set` and `distance` if the model has these limits.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ImportError as error:
        raise UserError(f"--format onnx needs the package {error.name}: pip install -e '.[export]'.") from error
    with _quiet():
        exported = torch.onnx.export(
            ExportedModel(model, model.limits).eval(),
            (example(model),),
            input_names=["images"],
            output_names=outputs(model.limits),
            dynamic_shapes=_ANY_NUMBER,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None, "with dynamo=True an ONNXProgram is returned"
    program = exported.model_proto
    for node in (*program.graph.node, *(node for function in program.functions for node in function.node)):
        del node.metadata_props[:]  # stack traces, which name this machine's folders
    sets = {} if isinstance(model.limits.sets, str) else {"coverage": COVERAGE}
    for key, value in (facts(model) | sets).items():
        program.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    path.write_bytes(program.SerializeToString())
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    batches = [session.run(None, {"images": part.numpy()}) for part in check.batches()]
    arrays = map(np.concatenate, zip(*batches, strict=True))
    found = dict(zip(outputs(model.limits), map(torch.from_numpy, arrays), strict=True))
    check.compare_limits(model, found)
    return found["probabilities"]


def as_torch(model: TrainedModel, path: Path, check: Check) -> torch.Tensor:
    """Write a .pt2 file for `torch.export.load`; `thaw.json` inside it has the classes and the preprocessing."""
    with _quiet(), path.open("wb") as file:
        program = torch.export.export(ExportedModel(model).eval(), (example(model),), dynamic_shapes=_ANY_NUMBER)
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # likewise
        torch.export.save(program, file, extra_files={"thaw.json": as_json(facts(model), indent=2)})
    with path.open("rb") as file:
        loaded = torch.export.load(file).module()
    with torch.inference_mode():
        return torch.cat([loaded(part) for part in check.batches()])


def as_safetensors(model: TrainedModel, path: Path, check: Check) -> torch.Tensor:
    """Write a folder with `config.json` and `model.safetensors`, whose tensors have the published checkpoint's names.

    timm can load the folder if timm has the same network.
    """
    path.mkdir()
    tensors = {key.removeprefix(model.net.prefix): value for key, value in model.net.state_dict().items()}
    content = save({key: value.contiguous() for key, value in tensors.items()}, {"format": "pt"})
    (path / "model.safetensors").write_bytes(content)  # `save_file` would write a file that only its owner can read
    config, ours = timm_config(model), facts(model)
    _write(path, config | {"thaw": ours})
    by_timm = probabilities_by_timm(model, path, check)
    _write(path, config | {"thaw": ours | {"timm": by_timm is not None and READ_BY_TIMM}})
    return _read_back(model, path, check) if by_timm is None else by_timm


FORMATS: dict[str, Callable[[TrainedModel, Path, Check], torch.Tensor]] = {
    "safetensors": as_safetensors,
    "onnx": as_onnx,
    "torch": as_torch,
}


@contextmanager
def _quiet() -> Iterator[None]:
    optimizer = logging.getLogger("onnxscript.optimizer")  # warns of each operation that it leaves unchanged
    level = optimizer.level
    optimizer.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    optimizer.setLevel(level)


def _write(folder: Path, config: dict) -> None:
    (folder / "config.json").write_text(as_json(config, indent=2) + "\n", encoding="utf-8")


def _read_back(model: TrainedModel, folder: Path, check: Check) -> torch.Tensor:
    net = copy.deepcopy(model.net)
    tensors = read_safetensors(folder / "model.safetensors")
    net.load_state_dict({net.prefix + key: value for key, value in tensors.items()})
    again = replace(model, net=net)
    return again.probabilities(torch.cat([again.logits(part) for part in check.images.split(32)]))
