"""Splitting work on the CPU by clips."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from metrics.threads import split_by_clip


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("clips", [1, 2, 3, 8])
def test_keeps_order_threads_and_gradient_mode(threads: int, clips: int) -> None:
    seen: list[tuple[int, int, bool]] = []

    def double(part: Tensor) -> Tensor:
        seen.append((len(part), torch.get_num_threads(), torch.is_grad_enabled()))
        return part * 2

    batch = torch.arange(clips * 3.0).view(clips, 3)
    with torch.no_grad():
        assert torch.equal(split_by_clip(double, batch), batch * 2)
    parts = min(threads, clips)
    assert len(seen) == parts
    assert sum(n for n, _, _ in seen) == clips
    assert {inner for _, inner, _ in seen} == {max(1, threads // parts)}
    assert not any(gradients for _, _, gradients in seen)
    assert torch.get_num_threads() == threads


def test_an_error_reaches_the_caller_and_threads_are_restored() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    def refuse(part: Tensor) -> Tensor:
        raise ValueError(f"{len(part)} clips in {threading.current_thread().name.partition('_')[0]}")

    try:
        with pytest.raises(ValueError, match="2 clips in pokebench"):
            split_by_clip(refuse, torch.zeros(4, 1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
