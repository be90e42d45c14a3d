"""Products by either library, against float64, for every layout that the transforms of tiles give them."""

from __future__ import annotations

import pytest
import torch

from methods import products
from methods.products import batched_product

ROUNDED = 1e-6
"""Relative to the norm."""


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
def test_products(turned: tuple[bool, bool], dtype: torch.dtype, onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(products, "onednn_pays", lambda: onednn)
    generator = torch.Generator().manual_seed(1)
    given = []
    for (rows, columns), turn in zip(((33, 40), (40, 21)), turned, strict=True):
        shape = (3, columns, rows) if turn else (3, rows, columns)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        given.append(drawn.mT if turn else drawn)
    first, second = given
    wanted = first.double() @ second.double()
    out = torch.full((3, 33, 21), torch.nan, dtype=dtype)
    assert batched_product(first, second, out) is out
    assert (out.double() - wanted).norm() < ROUNDED * wanted.norm()


@pytest.mark.parametrize(("threads", "rows", "called"), [(1, 2, True), (2, 2, False), (2, 3, True)])
def test_threads_share_small_products(threads: int, rows: int, called: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """MKL takes all at once where there are several threads and little to multiply."""
    monkeypatch.setattr(products, "onednn_pays", lambda: True)
    monkeypatch.setattr(products, "SMALL", 2 * 5 * 7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert products._by_onednn(torch.ones(3, rows, 5), torch.ones(3, 5, 7)) == called
