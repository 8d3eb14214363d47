"""The model card of an export: Markdown with front matter for the Hugging Face Hub."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from thaw.evaluation.prediction_sets import COVERAGE
from thaw.inference.export.card_metrics import measured, metric_rows, model_index
from thaw.inference.export.card_training import phases, settings
from thaw.inference.export.exported_model import plain
from thaw.inference.export.recorded_facts import RecordedFacts, recorded_facts
from thaw.inference.trained_model import TrainedModel
from thaw.models.backbones import family_of
from thaw.models.families.torchvision import Torchvision, build_options
from thaw.pages.limits import CARD_CLASSES
from thaw.pages.markdown import Verbatim, escaped, render_markdown, row
from thaw.pages.text import WIDEST_NAME, counted, printable
from thaw.storage.versions import library_version

_TAGS = {"onnx": ["onnx"], "torch": ["pytorch"], "safetensors": ["safetensors"]}
_LIBRARIES = {"onnx": "onnx", "torch": "pytorch", "timm": "timm", "torchvision": "pytorch", "own": "pytorch"}
_CLASS_NAMES = {
    "onnx": "the metadata `classes` of the file",
    "torch": "`thaw.json` inside the file",
    "safetensors": "`config.json`",
}
_FEW = 4  # classes that the title names
# Licences for which the Hub has an identifier; it wants "other" and a name for the rest.
_KNOWN = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-nc-4.0", "cc-by-4.0", "gemma", "apple-ascl", "apple-amlr")


def model_card(model: TrainedModel, kind: str, file: str, exported: Path) -> str:
    """Return the card of a model that was exported to the format `kind` at `exported`.

    `file` is the name of the exported file for its users; a folder has `model.safetensors` instead.
    """
    facts = recorded_facts(model)
    use = _way_of_use(model, kind, exported)
    title = _title(model.classes)
    return render_markdown(
        "model_card.md.jinja",
        front_matter=Verbatim(_front_matter(title, use, kind, facts)),
        title=title,
        model=model,
        temperature=plain(model.temperature),
        facts=facts,
        use=use,
        kind=kind,
        file=printable(file),
        snippet=_snippet(model, use, file),
        classes=counted(model.classes, CARD_CLASSES),
        class_rows=_class_rows(model, facts),
        listed=CARD_CLASSES,
        metric_rows=[row(cells) for cells in metric_rows(measured(facts))],
        coverage=COVERAGE,
        weights=Path(str(facts.summary.get("weights"))).name,
        where_classes=Verbatim(_CLASS_NAMES[kind]),
        robust=bool(facts.results.get("robustness")) or any(one.get("robustness") for one in facts.evaluations),
        foreign=any((one.get("distance") or {}).get("foreign") for one in facts.evaluations),
        torch_version=Verbatim(".".join(library_version("torch").split(".")[:2])),
        sets=_limit(model.limits.sets),
        distance=_limit(model.limits.distance),
        unseen=[one for one in facts.evaluations if not one["used"]],
        evaluations=[_evaluation(one) for one in facts.evaluations],
        phases=phases(facts.config),
        settings=settings(facts.config),
        exported_with={name: library_version(name) for name in ("thaw", "torch")},
    )


def _title(classes: list[str] | tuple[str, ...] | Any) -> str:
    few = len(classes) <= _FEW
    return f"Image classifier: {counted(classes)}" if few else f"Image classifier with {len(classes):,} classes"


def _way_of_use(model: TrainedModel, kind: str, exported: Path) -> str:
    """Return which program reads the export: onnx, torch, timm, torchvision, or own for code of the user's own."""
    if kind != "safetensors":
        return kind
    if json.loads((exported / "config.json").read_text(encoding="utf-8"))["thaw"]["timm"]:
        return "timm"
    return "torchvision" if isinstance(family_of(model.net.config["name"], own=True), Torchvision) else "own"


def _front_matter(title: str, use: str, kind: str, facts: RecordedFacts) -> str:
    values: dict[str, Any] = {
        "pipeline_tag": "image-classification",
        "library_name": _LIBRARIES[use],
        "tags": ["thaw", "image-classification", *_TAGS[kind]],
        **_licence((facts.summary.get("pretrained") or {}).get("licence")),
    }
    if index := model_index(title, measured(facts)):
        values["model-index"] = _printable(index)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).strip()


def _licence(name: str | None) -> dict[str, str]:
    if name is None:
        return {}
    known = name.lower() in _KNOWN
    return {"license": name.lower()} if known else {"license": "other", "license_name": printable(name)}


def _printable(values: Any) -> Any:
    """Return nested `values` with strings that YAML and UTF-8 can contain."""
    if isinstance(values, str):
        return printable(values)
    if isinstance(values, Mapping):
        return {key: _printable(value) for key, value in values.items()}
    return [_printable(value) for value in values] if isinstance(values, list) else values


def _snippet(model: TrainedModel, use: str, file: str) -> Verbatim | None:
    """Return Python code that predicts the class of `photo.jpg` from the exported files, or None for `own`."""
    if use == "own":
        return None
    name, config = model.net.config["name"], model.net.config
    options = build_options(name, config.get("image_size")) if use == "torchvision" else {}
    outputs = {"in_set": model.limits.sets, "distance": model.limits.distance}
    code = render_markdown(
        f"use_{use}.py.jinja",
        file=Verbatim(repr(printable(file))),
        name=Verbatim(repr(name)),
        options=Verbatim("".join(f", {key}={value!r}" for key, value in options.items())),
        size=Verbatim(model.preprocessing.crop),
        several=model.several,
        has={output for output, part in outputs.items() if not isinstance(part, str)},
    )
    return Verbatim(code.strip())


def _class_rows(model: TrainedModel, facts: RecordedFacts) -> list[Verbatim]:
    """Return the rows of the table of images per class, with the sums in the last row; none if they are not known."""
    if not facts.images:
        return []
    splits = list(facts.images)
    rows = [
        row([escaped(name, WIDEST_NAME), *(f"{facts.images[split].get(name, 0):,}" for split in splits)])
        for name in model.classes[:CARD_CLASSES]
    ]
    more = len(model.classes) - CARD_CLASSES
    if more > 0:
        rest = model.classes[CARD_CLASSES:]
        sums = (sum(facts.images[split].get(name, 0) for name in rest) for split in splits)
        rows.append(row([f"{more:,} more classes", *(f"{count:,}" for count in sums)]))
    rows.append(
        row(
            [
                Verbatim("**all labels**" if model.several else "**all**"),
                *(f"{sum(facts.images[split].values()):,}" for split in splits),
            ]
        )
    )
    return rows


def _limit(part: object) -> dict[str, Any]:
    """Return the reason why a model lacks prediction sets or distances, or the number of images they are fitted on."""
    return {"missing": part if isinstance(part, str) else None, "images": len(getattr(part, "scores", ()))}


def _evaluation(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a card says about an evaluation, besides its metrics."""
    corrupted = [one["acc"]["value"] for one in facts.get("robustness") or ()]
    return {
        "name": f"evaluation on {facts['name']}",
        "missing": len(facts.get("missing") or ()),
        "sets": facts.get("sets"),
        "foreign": (facts.get("distance") or {}).get("foreign"),
        "robustness": sum(corrupted) / len(corrupted) if corrupted else None,
    }
