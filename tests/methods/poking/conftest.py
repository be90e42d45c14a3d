"""Fixtures of the poking model's tests."""

from __future__ import annotations

import pytest

from methods.poking.discriminators import TemporalDiscriminator


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporal discriminator with few channels, so that it can be differentiated twice in no time."""
    monkeypatch.setattr(TemporalDiscriminator, "WIDTHS", (32, 32))
