import pytest
import torch

from thaw.errors import UserError
from thaw.training.hardware import best_precision, check_accelerator, cpu_has_bf16, memory_format


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu sse avx512f avx512_bf16 avx512vbmi", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu sse avx512f avx512_vnni", False),
        ("", False),
    ],
)
def test_bfloat16_is_used_where_the_cpu_has_instructions_for_it(tmp_path, line, expected):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\nbugs\t\t: bf16_is_no_flag_here\n")
    assert cpu_has_bf16(tmp_path / "cpuinfo") is expected


def test_elsewhere_than_on_linux_float32_is_used(tmp_path):
    assert not cpu_has_bf16(tmp_path / "no such file")


def test_the_precision_follows_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    monkeypatch.setattr("thaw.training.hardware.cpu_has_bf16", lambda: False)
    assert best_precision("auto") == best_precision("gpu") == "bf16-mixed"
    assert best_precision("cpu") == "32-true"


def test_a_gpu_that_is_not_there_is_refused_with_the_choices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="sees no GPU here; the choices are trainer=default"):
        check_accelerator("gpu")
    with pytest.raises(UserError, match="accelerator=tpu is not supported; the choices are auto, cpu, gpu, cuda, mps"):
        check_accelerator("tpu")
    check_accelerator("auto")


def test_the_memory_format_can_be_chosen():
    assert memory_format(True) is torch.channels_last
    assert memory_format(False) is torch.contiguous_format
    assert memory_format() in (torch.channels_last, torch.contiguous_format)
