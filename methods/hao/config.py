"""Configuration of the method of Hao et al., and the named recipes."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from methods.recompute import Recompute
from methods.training import Recipe


class HaoConfig(BaseModel):
    """Network, objective and optimiser. The defaults are those of the authors' programs for UCF-101 and Robot-Push.

    Attributes:
        name: tag of the method's name.
        size: side in px of the frames that the network was trained with; None: any.
        width: channels of the first stage; the others have 2, 4, 8 and 8 times as many. The authors' have 64.
        batch_norm: batch normalisation after each convolution but the heads; off in the authors' KITTI variant.
        completion_penalty: what the penalty on completion values outside [0, 1] looks at. "clamped": the completion
            after it was clamped, as the authors' program does, so that the penalty is always 0. "raw": the output of
            the network, which is what the penalty was meant for.
        letterbox: leave the dark border and one more pixel of the target out of the reconstruction error, as the
            authors do for UCF-101 and Robot-Push; off for KITTI.
        completion_weight, mask_weight: factors of the two penalties.
        min_tracks, max_tracks: the number of trajectories shown is drawn uniformly from these, both included, for
            each clip and step; never more than the clip has.
        max_interval: longest time from the source frame to the target, in frames.
        learning_rate: of Adam, constant.
        recompute: what the layers of the network compute is not kept for the backward pass, but computed again there,
            the layers of one resolution after the other: less memory, more time, the same gradients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "paper-128"
    size: int | None = Field(default=128, ge=16, multiple_of=16)
    width: int = Field(default=64, ge=1)
    batch_norm: bool = True
    completion_penalty: Literal["clamped", "raw"] = "clamped"
    letterbox: bool = True
    completion_weight: float = Field(default=0.1, ge=0)
    mask_weight: float = Field(default=0.01, ge=0)
    min_tracks: int = Field(default=1, ge=1)
    max_tracks: int = Field(default=5, ge=1)
    max_interval: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    recompute: Recompute = False

    @model_validator(mode="after")
    def _limits_are_ordered(self) -> Self:
        if self.min_tracks > self.max_tracks:
            raise ValueError(f"expected min_tracks <= max_tracks, found {self.min_tracks} and {self.max_tracks}")
        return self


SMALL_WIDTH = 16
"""2.0 million parameters instead of 32.4 million."""

PAPER_STEPS = 200_000
"""The authors tested their Robot-Push network after 198,000 steps."""
SMALL_STEPS = 20_000


def _recipe(kind: str, size: int, width: int, steps: int, summary: str) -> Recipe:
    return Recipe(
        model=HaoConfig(name=f"{kind}-{size}", size=size, width=width),
        data={"size": size, "context": 1, "horizon": 10},
        loop={"batch_size": 32, "steps": steps},
        summary=summary,
    )


RECIPES: dict[str, Recipe] = {
    "paper-128": _recipe("paper", 128, 64, PAPER_STEPS, "the authors' network at 128 px"),
    "paper-64": _recipe("paper", 64, 64, PAPER_STEPS, "the authors' network at 64 px"),
    "small-128": _recipe("small", 128, SMALL_WIDTH, SMALL_STEPS, "a quarter of the channels, 128 px"),
    "small-64": _recipe("small", 64, SMALL_WIDTH, SMALL_STEPS, "a quarter of the channels, 64 px"),
}
