"""Which device a process works on."""

from __future__ import annotations

import pytest
import torch

from bench.distributed import DeviceError, choose_device


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four GPUs, of which this process is to use the last."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")


@pytest.mark.parametrize(
    ("name", "expected"), [(None, "cuda:3"), ("cuda", "cuda:3"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_each_process_has_its_own_gpu(four: None, name: str | None, expected: str) -> None:
    assert choose_device(name) == torch.device(expected)


def test_a_gpu_that_is_not_there(four: None) -> None:
    with pytest.raises(DeviceError, match=r"no device 'cuda:4' here: GPUs are \"cuda:0\" to \"cuda:3\""):
        choose_device("cuda:4")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta"])
def test_no_such_device(name: str) -> None:
    with pytest.raises(DeviceError, match=f'expected "cpu", "cuda" or "cuda:N" as device, found \'{name}\''):
        choose_device(name)


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError, match="no GPU that PyTorch can use"):
            choose_device(name)
