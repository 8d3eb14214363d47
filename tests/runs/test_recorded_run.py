import json
import logging
import signal
import sys

import pytest

from thaw.errors import RunError, UserError
from thaw.runs.recorded_run import recorded_run


@pytest.fixture
def run(tiny_run, tmp_path, caplog):
    """Runs a body within the frame; gives back the exit status, the summary and what was told as an error."""
    caplog.set_level(logging.INFO)

    def go(body, *overrides):
        caplog.clear()
        with pytest.raises(BaseException) as raised, recorded_run(tiny_run(*overrides, root=tmp_path)):
            body()
        told = [record.message for record in caplog.records if record.name == "thaw.errors"]
        return raised.value, json.loads((tmp_path / "run" / "summary.json").read_text()), told

    return go


def raiser(error, cause=None):
    def body():
        raise error from cause

    return body


@pytest.mark.parametrize(("error", "status"), [(UserError("a=1 is odd; choose 2."), 2), (RunError("it broke."), 1)])
def test_a_told_error_is_one_sentence_and_its_exit_status(run, error, status):
    raised, summary, told = run(raiser(error))
    assert isinstance(raised, SystemExit)
    assert raised.code == status
    assert (summary["status"], summary["error"], told) == ("failed", str(error), [f"error: {error}"])


def test_an_error_wrapped_by_hydra_is_found(run):
    raised, _, told = run(raiser(RuntimeError("Error in call to target"), cause=UserError("the reason.")))
    assert (raised.code, told) == (2, ["error: the reason."])


def test_a_traceback_is_shown_where_it_is_asked_for(run, monkeypatch):
    monkeypatch.setenv("THAW_DEBUG", "1")
    assert "Traceback" in run(raiser(UserError("the reason.")))[2][0]


def test_an_error_is_told_where_hydra_logs_nothing(run, monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger("thaw.errors"), "disabled", True)
    run(raiser(UserError("a\udce9=1 is odd.")))
    assert capsys.readouterr().err == "error: a\ufffd=1 is odd.\n"


def test_an_unforeseen_error_is_recorded_and_goes_on(run):
    raised, summary, _ = run(raiser(KeyError("surprise")))
    assert isinstance(raised, KeyError)
    assert (summary["status"], summary["error"]) == ("failed", "KeyError: 'surprise'")


def test_in_a_multirun_an_error_is_left_to_hydra_so_that_other_jobs_run(run):
    raised, summary, _ = run(raiser(UserError("the reason.")), "hydra.mode=MULTIRUN")
    assert isinstance(raised, UserError)
    assert summary["status"] == "failed"


def test_ctrl_c_exits_with_130_whatever_status_a_library_makes_of_it(run):
    raised, summary, told = run(raiser(KeyboardInterrupt()))
    assert (raised.code, summary["status"]) == (130, "interrupted")
    assert "stopped by SIGINT" in told[0]

    def library():
        try:
            signal.raise_signal(signal.SIGINT)
        except SystemExit:
            sys.exit(1)

    assert run(library)[0].code == 130


def test_sigterm_exits_with_143(run):
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    raised, summary, _ = run(raiser(SIGTERMException()))
    assert (raised.code, summary["status"]) == (143, "interrupted")


def test_the_summary_says_which_run_it_was(run):
    _, summary, _ = run(raiser(RunError("it broke.")), "seed=7", "strategy=fine_tune")
    chosen = {key: summary[key] for key in ("strategy", "data", "model", "weights", "seed")}
    assert chosen == {
        "strategy": "fine_tune",
        "data": "image_folder",
        "model": "resnet34",
        "weights": "none",
        "seed": 7,
    }


def test_a_value_without_default_is_asked_for(configure):
    with pytest.raises(SystemExit) as raised, recorded_run(configure("data=image_folder")):
        pass
    assert raised.value.code == 2
