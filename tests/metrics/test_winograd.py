"""The transformed convolution against PyTorch's in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from metrics.features.winograd import RowConv


@pytest.mark.parametrize("height", [1, 2, 3, 4, 7, 14, 28])
@pytest.mark.parametrize(("taps", "stride"), [(3, (1, 1)), (4, (2, 2)), (4, (1, 1))])
def test_equals_a_plain_convolution(height: int, taps: int, stride: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(height)
    weight = torch.randn(8, 5, 3, taps, 3, dtype=torch.float64, generator=generator) / (45 * taps) ** 0.5
    bias = torch.randn(8, dtype=torch.float64, generator=generator)
    conv = RowConv(weight, bias, stride)
    x = torch.randn(conv.rows(height), 2, 5, 6, 5, generator=generator)

    expected = F.conv3d(x.double().permute(1, 4, 2, 0, 3), weight, bias, (stride[0], 1, stride[1]), (1, 0, 1))
    expected = expected.permute(3, 0, 2, 4, 1)[:height]
    beside = torch.full((*expected.shape[:-1], 11), -7.0)
    found = conv(x, beside[..., 2:10])
    assert found.data_ptr() == beside[..., 2:10].data_ptr()
    assert (beside[..., :2] == -7).all()
    assert (beside[..., 10:] == -7).all()
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("taps", [3, 4])
def test_rounding_error_is_near_that_of_a_plain_convolution(taps: int) -> None:
    generator = torch.Generator().manual_seed(taps)
    weight = torch.randn(64, 64, 3, taps, 3, dtype=torch.float64, generator=generator)
    conv = RowConv(weight, torch.zeros(64, dtype=torch.float64))
    x = torch.rand(conv.rows(28), 1, 5, 28, 64, generator=generator)
    columns = x.permute(1, 4, 2, 0, 3)
    exact = F.conv3d(columns.double(), weight, None, 1, (1, 0, 1)).permute(3, 0, 2, 4, 1)[:28]
    plain = F.conv3d(columns, weight.float(), None, 1, (1, 0, 1)).permute(3, 0, 2, 4, 1)[:28]
    found = conv(x, torch.empty(28, 1, 5, 28, 64))
    assert (found - exact).norm() < 5 * (plain - exact).norm()
    assert (found - exact).norm() < 2e-6 * exact.norm()
