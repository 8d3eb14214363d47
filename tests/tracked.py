"""Read what runs left in MLflow and in the offline files of Weights & Biases."""

import json
import struct
from types import SimpleNamespace

HEADER, BLOCK = 7, 2**15  # of W&B's file and of each piece in it; pieces do not cross blocks


def mlflow_runs(store):
    """Return every run in a store, by its name, with the history of each metric and the paths of its artifacts."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{store}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    return {run.info.run_name: _mlflow_run(client, run) for run in client.search_runs(experiments)}


def _mlflow_run(client, run):
    key = run.info.run_id
    history = {name: [(m.step, m.value) for m in client.get_metric_history(key, name)] for name in run.data.metrics}
    return SimpleNamespace(
        id=key, status=run.info.status, params=run.data.params, tags=run.data.tags, metrics=run.data.metrics,
        history=history, artifacts=set(_artifacts(client, key, "")),
    )  # fmt: skip


def _artifacts(client, run, folder):
    for one in client.list_artifacts(run, folder):
        yield from _artifacts(client, run, one.path) if one.is_dir else [one.path]


def wandb_runs(folder):
    """Return each offline run below `folder`: its id, group, configuration, history, summary, files and exit code."""
    return [_wandb_run(path) for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def _wandb_run(path):
    from wandb.proto import wandb_internal_pb2

    run = SimpleNamespace(config={}, history=[], summary={}, files=set(), exit_code=None, folder=path.parent)
    for content in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(content)
        if record.HasField("run"):
            run.id, run.group, run.job_type = record.run.run_id, record.run.run_group, record.run.job_type
            run.name = record.run.display_name
        for update in (record.run.config.update, record.config.update):
            run.config |= {one.key or ".".join(one.nested_key): json.loads(one.value_json) for one in update}
        if record.HasField("history"):
            items = record.history.item
            run.history.append({one.key or ".".join(one.nested_key): json.loads(one.value_json) for one in items})
        for one in record.summary.update:
            run.summary[one.key or ".".join(one.nested_key)] = json.loads(one.value_json)
        run.files |= {one.path for one in record.files.files}
        if record.HasField("exit"):
            run.exit_code = record.exit.exit_code
    return run


def _records(content):
    """Yield the records of W&B's file, a log in LevelDB's format: pieces with checksum, length and kind."""
    place, whole = HEADER, b""
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:  # the rest of a block that is too short for a piece
            place += BLOCK - place % BLOCK
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield whole
            whole = b""
