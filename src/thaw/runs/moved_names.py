"""Former names of Thaw's modules: configurations that contain them still work, and so do runs of earlier versions."""

import logging
import re
from functools import cache
from typing import Any

from omegaconf import DictConfig, ListConfig, read_write

log = logging.getLogger(__name__)

_MODULES = {
    "annotations": "runs.type_hints",
    "arrays": "storage.arrays",
    "benchmark.processes": "benchmark.sides",
    "benchmark.report": "benchmark.results_table",
    "benchmark.results": "benchmark.measurements",
    "benchmark.run": "benchmark.measure",
    "cache": "storage.cache",
    "checkpoints": "storage.checkpoints",
    "checks": "training.checks",
    "comparison.page": "comparison.comparison_page",
    "comparison.plots": "pages.plots",
    "comparison.runs": "comparison.finished_runs",
    "comparison.statistics": "evaluation.statistics",
    "components": "runs.components",
    "configuration": "runs.configuration",
    "curation.plan": "curation.decisions",
    "curation.tree": "curation.source_tree",
    "data.demo": "demo.datasets",
    "data.drawings": "demo.drawings",
    "data.index": "data.file_index",
    "data.options": "data.option_values",
    "data.pixels": "data.pixel_cache",
    "data.turning": "data.rotation",
    "deploy.answers": "inference.folder_predictions",
    "deploy.evaluate": "inference.evaluate",
    "deploy.evaluation_page": "inference.evaluation_page",
    "deploy.export.formats": "inference.export.formats",
    "deploy.export.run": "inference.export.export",
    "deploy.export.shipped": "inference.export.shipped",
    "deploy.export.timm_folder": "inference.export.timm_folder",
    "deploy.gallery": "inference.gallery",
    "deploy.gradcam": "inference.gradcam",
    "deploy.inputs": "inference.image_paths",
    "deploy.labelled": "inference.labelled_folder",
    "deploy.measures": "evaluation.measures",
    "deploy.predict": "inference.predict",
    "deploy.robustness": "evaluation.corruptions",
    "deploy.tables": "inference.prediction_tables",
    "deploy.trained": "inference.trained_model",
    "duration": "pages.duration",
    "faults": "runs.machine_faults",
    "features.cache": "training.phase_data",
    "features.datamodule": "features.feature_data",
    "features.head": "training.head_fitting",
    "features.plan": "features.cost",
    "files": "storage.files",
    "idle": "runs.idle_options",
    "models.caffe": "models.families.caffe",
    "models.caffe_names": "models.families.caffe",
    "models.classifier": "training.classifier",
    "models.freezing": "strategy.freezing",
    "models.lite": "models.families.lite",
    "models.pretraining": "demo.pretraining",
    "models.timm_chain": "models.families.timm_chain",
    "models.timm_nets": "models.families.timm",
    "models.timm_stages": "models.families.timm_stages",
    "names": "data.class_names",
    "output": "sweep.own_folder",
    "ownership": "runs.ownership",
    "probe.objective": "features.linear_objective",
    "probe.solver": "features.linear_solver",
    "ranks": "runs.ranks",
    "remote": "storage.addresses",
    "report.board": "report.tensorboard",
    "report.calibration": "evaluation.calibration",
    "report.confusion": "evaluation.confusion",
    "report.evaluation": "evaluation.evaluation",
    "report.extras": "runs.extras",
    "report.html": "pages.html",
    "report.limits": "pages.limits",
    "report.predictions": "evaluation.predictions",
    "report.record": "runs.summary",
    "report.stages": "report.stage_table",
    "reserved": "runs.reserved_options",
    "resume": "runs.resume",
    "run": "runs.recorded_run",
    "run_folder": "runs.run_folder",
    "selection": "strategy.selection",
    "serve.app": "inference.serve.app",
    "serve.batching": "inference.serve.batching",
    "serve.decoding": "inference.serve.decoding",
    "serve.forms": "inference.serve.forms",
    "serve.page": "inference.serve.start_page",
    "serve.requests": "inference.serve.requests",
    "serve.server": "inference.serve.server",
    "shorthand": "runs.shorthand",
    "signatures": "runs.call_signatures",
    "stopping": "runs.stopping",
    "streams": "runs.streams",
    "sweep.plan": "sweep.jobs",
    "sweep.run": "sweep.execution",
    "targets": "runs.targets",
    "text": "pages.text",
    "writable": "runs.writable",
}
_FORMER = re.compile(rf"thaw\.({'|'.join(map(re.escape, _MODULES))})\.(\w+)")


def current_name(name: str) -> str:
    """Return the current name of a class or function, which may be in a module that has moved."""
    former = _FORMER.fullmatch(name)
    return f"thaw.{_MODULES[former[1]]}.{former[2]}" if former else name


def with_current_names(values: Any) -> Any:
    """Return plain `values` with each former name of a class or function replaced by the current one."""
    if isinstance(values, dict):
        return {key: with_current_names(value) for key, value in values.items()}
    if isinstance(values, list):
        return [with_current_names(value) for value in values]
    return current_name(values) if isinstance(values, str) else values


def use_current_names(cfg: DictConfig | ListConfig) -> None:
    """Replace each former name of a class or function in `cfg`, and log its current name once."""
    for key in list(cfg) if isinstance(cfg, DictConfig) else range(len(cfg)):
        node: Any = cfg._get_node(key)
        if isinstance(node, DictConfig | ListConfig):
            if not (node._is_none() or node._is_missing() or node._is_interpolation()):
                use_current_names(node)
            continue
        value = node._value()
        if isinstance(value, str) and current_name(value) != value:
            _log_once(value, current_name(value))
            with read_write(cfg):
                cfg[key] = current_name(value)


@cache
def _log_once(former: str, current: str) -> None:
    log.info(f"{former} is now called {current}; the configuration still contains the former name")
