"""A thousand classes: everything that is shown stays small enough to be read, and to be kept in memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluated import fill
from nets import tiny_net
from written_runs import write_run

from thaw.comparison.comparison_page import table as compared_table
from thaw.comparison.comparison_page import write_comparison
from thaw.curation.audit import Audit, File
from thaw.curation.audit_page import facts as audit_facts
from thaw.curation.audit_page import table as audit_table
from thaw.curation.audit_page import write_audit
from thaw.curation.inspection import Inspection
from thaw.data.preprocessing import Preprocessing
from thaw.evaluation.predictions import Predictions
from thaw.inference.evaluate import evaluate
from thaw.inference.evaluation_page import table, write_evaluation
from thaw.inference.gallery import write_gallery
from thaw.inference.labelled_folder import read_labelled
from thaw.inference.predict import Prediction
from thaw.inference.trained_model import TrainedModel
from thaw.pages import charts
from thaw.report import figures

NAMES = [f"species {number:03}" for number in range(1000)]


def evaluation(count=2000):
    labels = torch.arange(count) % 1000
    logits = 3 * torch.nn.functional.one_hot(labels, 1000).float()
    logits[:500] = logits[:500].roll(1, 1)
    logits[1000] = logits[0]
    return Predictions([f"/p/{n}.png" for n in range(count)], labels.numpy(), logits.numpy(), NAMES)


def test_the_confusion_matrix_of_many_classes_is_a_list_of_the_most_frequent_confusions(tmp_path):
    figure = figures.confusion_matrix(evaluation())
    assert max(charts.save(figure, tmp_path / "figures" / "confusion_matrix.png").shape) < 1500
    first, *others = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert first == "species 000 → species 001", "twice, and all others once"
    assert len(others) == 19


def test_without_a_mistake_the_figure_says_so(tmp_path):
    figure = figures.confusion_matrix(Predictions([""] * 40, np.arange(40), 9 * np.eye(40), NAMES[:40]))
    charts.save(figure, tmp_path / "a.png")
    assert "40 of 40 right\nNo mistakes among 40 classes" in figure.get_suptitle()


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """By a net of 300 classes, of five of which there are images."""
    folder = tmp_path_factory.mktemp("many")
    torch.manual_seed(0)
    net = tiny_net(300).eval()
    model = TrainedModel(net, NAMES[:300], Preprocessing(37, 32), 1.0, torch.device("cpu"), folder / "best.ckpt")
    photos = fill(folder / "photos", NAMES[:250:50])
    done = evaluate(model, read_labelled(photos, model.classes), robustness=False, top=2)
    write_evaluation(folder, done)
    return folder, done


def test_an_evaluations_page_and_table_show_the_hardest_classes(evaluated):
    folder, done = evaluated
    assert done.facts["confusion"] is None and len(done.facts["per_class"]) == 300
    page = (folder / "evaluation.html").read_text()
    assert "The 100 of 300 classes with the lowest F1" in page and page.count("<tr><td>species") <= 100 + 20
    told = table(done.facts)
    assert "these are the 40 classes with the lowest F1" in told and "and 283 more; macro" in told
    assert len(told.splitlines()) < 80 and max(map(len, told.splitlines())) < 500
    assert all(name in page and name in told for name in NAMES[:250:50]), "of classes without images there is no F1"


def test_a_comparisons_page_shows_the_hardest_classes_and_the_best_candidates(tmp_path, monkeypatch):
    for name, most in {"CANDIDATES": 2, "ROWS": 5, "LINES": 3}.items():
        monkeypatch.setattr(f"thaw.comparison.comparison_page.{name}", most)
    right = np.random.default_rng(0).random((4, 150)) < 0.5
    runs = [write_run(tmp_path / str(n), right[n], f"s{n}", classes=NAMES[:120]) for n in range(4)]
    facts = write_comparison(tmp_path, runs)
    assert facts["candidates"][0]["confusion"] is None and len(facts["candidates"][0]["confused"]) == 20
    page = (tmp_path / "report.html").read_text()
    assert "The 5 of 120 classes on which" in page and page.count("<tr><td>species") == 5 + 2 * 20
    assert "the 2 most accurate of 4 candidates" in page and "The first 5 of 6 pairs" in page
    assert "and 1 more, in comparison.csv" in compared_table(facts)
    assert (tmp_path / "comparison.json").stat().st_size < 100_000


def test_a_gallery_counts_the_most_frequent_classes(tmp_path):
    found = [Prediction(f"{n}.jpg", [(name, 0.5)] * 1000) for n, name in enumerate(NAMES)]
    write_gallery(tmp_path / "page.html", "run", found, 0)
    page = (tmp_path / "page.html").read_text()
    assert "and 980 more classes" in page and len(page) < 3_000_000


def test_an_audit_shows_the_smallest_classes_and_a_part_of_a_large_group(tmp_path):
    from thaw.curation.audit import ERROR, Finding

    files = [File(Path(name) / "0.png", "", name, Inspection(Path("0.png"), 1, "")) for name in NAMES]
    copies = Finding("conflict", ERROR, "images are in several classes", [[file.path for file in files]])
    told = audit_facts(Audit(tmp_path, {"": None}, files, [copies]), None)
    write_audit(tmp_path, told)
    page = (tmp_path / "audit.html").read_text()
    assert "The 100 smallest of 1000" in page and "and 988 more" in page and len(page) < 100_000
    assert "and 988 more" in audit_table(told) and max(map(len, audit_table(told).splitlines())) < 1000


MEASURED = """
import resource, torch
from thaw.evaluation.calibration import held_out
from thaw.evaluation.measures import calibration, metrics
from thaw.evaluation.prediction_sets import fitted_sets
from thaw.evaluation.predictions import Predictions
n, classes = 8000, 1000
labels = torch.arange(n) % classes
logits = torch.randn(n, classes, generator=torch.Generator().manual_seed(0))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
given = Predictions([""] * n, labels.numpy(), logits.numpy(), [str(i) for i in range(classes)])
before = peak()
metrics(given), calibration(given, held_out(given)), fitted_sets(held_out(given)), given.divided_by(1.5).losses
print(peak() - before)
"""


@pytest.mark.slow
def test_numbers_are_computed_a_few_images_at_a_time():
    told = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    assert int(told.stdout) < 120e6, "the logits are 32 MB; all at once in double precision took 500"
