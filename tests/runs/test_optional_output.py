"""Figures, pages and loggers come after results, and fail nothing."""

import json
from types import SimpleNamespace

import pytest
from conftest import rows
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from written_runs import write_run

from thaw.comparison.comparison_page import write_comparison
from thaw.runs.optional_output import warn_on_failure
from thaw.training.loggers import attempt, shield


def fails(*given, **options):
    raise MemoryError("no room")


def test_what_only_shows_results_costs_one_warning(caplog):
    with warn_on_failure("the figure a.png"):
        fails()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == "warning: the figure a.png failed (no room); the results are complete without it"
    with pytest.raises(KeyboardInterrupt), warn_on_failure("a"):
        raise KeyboardInterrupt


def test_a_logger_that_fails_is_told_of_once_and_left_alone(tmp_path, caplog, monkeypatch):
    good, bad = CSVLogger(tmp_path), TensorBoardLogger(tmp_path)
    monkeypatch.setattr(bad, "log_metrics", fails)
    trainer = SimpleNamespace(loggers=[good, bad])
    shield(trainer), shield(trainer)
    assert trainer.loggers == [good, bad]
    for step in range(3):
        for logger in trainer.loggers:
            logger.log_metrics({"a": 1.0}, step)
    bad.save(), bad.finalize("success"), good.save()
    assert [record.message for record in caplog.records] == [
        "warning: TensorBoardLogger failed and is not used any more (no room)"
    ]
    assert len(rows(tmp_path / "lightning_logs/version_0/metrics.csv")) == 3
    assert attempt(bad, lambda: 1) is None and attempt(good, lambda: 1) == 1


def test_a_logger_that_cannot_start_is_replaced(tmp_path, caplog):
    (tmp_path / "file").touch()
    trainer = SimpleNamespace(loggers=[TensorBoardLogger(tmp_path / "file")])
    shield(trainer)
    trainer.loggers[0].log_metrics({"a": 1.0}, 0)
    assert len(caplog.records) == 1 and not isinstance(trainer.loggers[0], TensorBoardLogger)


def test_a_comparison_without_its_page_is_whole(tmp_path, monkeypatch, caplog):
    runs = [write_run(tmp_path / str(seed), [1, 0, 1], seed=seed) for seed in range(2)]
    monkeypatch.setattr("thaw.comparison.comparison_page._page", fails)
    write_comparison(tmp_path, runs)
    assert (tmp_path / "comparison.json").is_file() and len(caplog.records) == 1


def test_a_page_that_was_not_written_is_not_named_and_an_older_one_is_deleted(tmp_path, script, monkeypatch):
    for seed in range(2):
        write_run(tmp_path / str(seed), [1, 0, 1], seed=seed)
    page = tmp_path / "report.html"
    assert script("compare", tmp_path)[1].endswith(f"\n\nreport   {page}\n")
    monkeypatch.setattr("thaw.comparison.comparison_page._page", fails)
    status, output, _ = script("compare", tmp_path)
    assert (status, "Use bias" in output, "report" in output, page.exists()) == (0, True, False, False)


def test_a_sweep_without_its_comparison_has_not_failed(tmp_path, monkeypatch, caplog):
    from thaw.sweep.execution import finish_sweep

    monkeypatch.setattr("thaw.comparison.comparison_page.compare", fails)
    finish_sweep(tmp_path, [], None)
    assert len(caplog.records) == 1


def test_an_evaluation_without_its_page_is_whole(tmp_path, monkeypatch, caplog):
    from thaw.inference.evaluation_page import write_evaluation

    written = []
    done = SimpleNamespace(
        facts={"acc": 1}, folder=SimpleNamespace(root=tmp_path),
        predictions=None,
    )  # fmt: skip
    monkeypatch.setattr("thaw.inference.evaluation_page.write_predictions", lambda path, *rest: written.append(path))
    monkeypatch.setattr("thaw.inference.evaluation_page._page", fails)
    write_evaluation(tmp_path, done)
    assert written and json.loads((tmp_path / "evaluation.json").read_text()) == {"acc": 1}
    assert len(caplog.records) == 1 and not (tmp_path / "evaluation.html").exists()


def test_an_audit_without_its_page_is_whole(tmp_path, monkeypatch, caplog):
    from thaw.curation.audit_page import write_audit

    monkeypatch.setattr("thaw.curation.audit_page._page", fails)
    write_audit(tmp_path, {"root": "x"})
    assert (tmp_path / "audit.json").is_file() and len(caplog.records) == 1


@pytest.mark.slow
def test_a_run_whose_figures_and_loggers_fail_is_finished_with_its_results(tiny_run, tmp_path, monkeypatch, caplog):
    from train import main

    def after_results(*given):
        assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "finished"
        assert len(rows(tmp_path / "run/predictions.csv")) == 10
        fails()

    monkeypatch.setattr("thaw.report.figures.predictions", after_results)
    monkeypatch.setattr("thaw.report.figures.confusion_matrix", after_results)
    monkeypatch.setattr(TensorBoardLogger, "log_metrics", fails)
    accuracy = main(tiny_run())
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["val"]["acc"] == accuracy and len(rows(tmp_path / "run/metrics.csv")) == 2
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 3 and all("no room" in line for line in told)
    assert (tmp_path / "run/figures/samples.png").is_file()
