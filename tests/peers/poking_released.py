"""One training iteration of the poking model in the form of the authors' program, and as costly.

A transcription, layer by layer and frame by frame, of what their program is known to compute, on plain tensors that
are named as in a checkpoint: separate convolutions on concatenated tensors for each gate, frames decoded within the
loop over time, one call of the feature extractor a frame and kind, through its last block and with gradients for its
weights, target frames through encoder and decoder with a graph, discriminators that iterate their spectral norm in
each of four forward passes, that are differentiated for each of their three losses by itself, and that gather unused
gradients in the generator's pass, feature matching of the patch discriminator at weight zero. Only logging is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
Judge = Callable[[State, Tensor], tuple[Tensor, list[Tensor]]]
TAPS = {"vgg19": (3, 8, 13, 22, 31), "vgg16": (3, 8, 15, 22, 29)}
CONVOLUTIONS = {
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}
POOLS = {"vgg19": (4, 9, 18, 27, 36), "vgg16": (4, 9, 16, 23, 30)}
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def leaves(state: Mapping[str, Tensor]) -> State:
    """Copies that require grad; the vectors of spectral norms do not."""
    return {
        key: value.detach().clone().requires_grad_(not key.endswith(("weight_u", "weight_v")))
        for key, value in state.items()
    }


def _conv(state: State, key: str, x: Tensor, stride: int = 1, activation: str = "elu") -> Tensor:
    x = F.conv2d(F.pad(x, (1, 1, 1, 1)), state[f"{key}.conv.weight"], state[f"{key}.conv.bias"], stride)
    x = F.instance_norm(x)
    return F.elu(x) if activation == "elu" else x


def _up(state: State, key: str, x: Tensor) -> Tensor:
    x = F.conv_transpose2d(x, state[f"{key}.conv.weight"], state[f"{key}.conv.bias"], 2, 1, 1)
    return F.relu(F.instance_norm(x))


def _residual(state: State, key: str, x: Tensor, up: bool = False) -> Tensor:
    layer = _up if up else _conv
    inner = _conv(state, f"{key}.conv2", layer(state, f"{key}.conv1", x), activation="none")
    return inner + (layer(state, f"{key}.res_conv", x) if f"{key}.res_conv.conv.weight" in state else x)


def _count(state: State, prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def encode(state: State, x: Tensor) -> list[Tensor]:
    maps = []
    for index in range(_count(state, "shape_enc.blocks.")):
        x = _conv(state, f"shape_enc.blocks.{index}", x, stride=2)
        maps.append(x)
    return [_residual(state, "shape_enc.bottleneck", x), *maps[::-1]]


def encode_poke(state: State, poke: Tensor) -> Tensor:
    for index in range(_count(state, "dynamics_enc.model.")):
        poke = _conv(state, f"dynamics_enc.model.{index}", poke, stride=2)
    for index in range(2):
        poke = _residual(state, f"dynamics_enc.bottleneck.{index}", poke)
    return poke


def decode(state: State, states: Sequence[Tensor]) -> Tensor:
    x = _residual(state, "dec.in_block", states[0])
    for index in range(_count(state, "dec.blocks.")):
        x = torch.cat([x, states[index + 1]], dim=1)
        x = _residual(state, f"dec.blocks.{index}", x, up=True)
    x = F.conv2d(F.pad(x, (1, 1, 1, 1)), state["dec.out_conv.conv.weight"], state["dec.out_conv.conv.bias"])
    return torch.tanh(x)


def _cell(state: State, key: str, x: Tensor, h: Tensor) -> Tensor:
    def gate(name: str, second: Tensor) -> Tensor:
        stacked = torch.cat([x, second], dim=1)
        return F.conv2d(stacked, state[f"{key}.{name}.weight"], state[f"{key}.{name}.bias"], padding=1)

    if f"{key}.up_gate.weight" in state:
        x = F.conv_transpose2d(x, state[f"{key}.up_gate.weight"], state[f"{key}.up_gate.bias"], 2, 1, 1)
    update, reset = torch.sigmoid(gate("update_gate", h)), torch.sigmoid(gate("reset_gate", h))
    content = torch.tanh(gate("out_gate", h * reset))
    return h * (1 - update) + content * update


def rollout(state: State, x0: Tensor, poke: Tensor, horizon: int) -> tuple[list[list[Tensor]], list[Tensor]]:
    """States and frames of each step."""
    states, phi = encode(state, x0), encode_poke(state, poke)
    kept, frames = [], []
    for _ in range(horizon):
        below, moved = phi, []
        for level, held in enumerate(states):
            below = _cell(state, f"fusion_block.cells.{level}", below, held)
            moved.append(below)
        states = moved
        kept.append(states)
        frames.append(decode(state, states))
    return kept, frames


class Features:
    """VGG whose weights require grad, as in a network that nobody froze."""

    def __init__(self, net: str, tensors: Mapping[str, Tensor]) -> None:
        self.net = net
        self.tensors = leaves({key: value for key, value in tensors.items() if key.startswith("features.")})

    def __call__(self, x: Tensor) -> list[Tensor]:
        spread, mean = (torch.tensor(v, dtype=x.dtype, device=x.device).view(1, 3, 1, 1) for v in (SPREAD, MEAN))
        x = ((x + 1) / 2 - mean) / spread
        found = [x]
        for index in range(POOLS[self.net][-1] + 1):
            if index in CONVOLUTIONS[self.net]:
                weight, bias = (self.tensors[f"features.{index}.{kind}"] for kind in ("weight", "bias"))
                x = F.conv2d(x, weight, bias, padding=1)
            elif index in POOLS[self.net]:
                x = F.max_pool2d(x, 2)
            else:
                x = F.relu(x)
            if index in TAPS[self.net]:
                found.append(x)
        return found

    def distance(self, target: Tensor, image: Tensor) -> Tensor:
        wanted, found = self(target), self(image)
        return sum(((a - b).abs().mean() for a, b in zip(wanted, found, strict=True)), target.new_zeros(()))


def patch_scores(state: State, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    x = F.leaky_relu(F.conv2d(x, state["in_conv.weight"], state["in_conv.bias"], 2, 1), 0.2)
    maps = []
    for index, stride in enumerate((2, 2, 1)):
        x = F.conv2d(x, state[f"layers.{index}.weight"], state[f"layers.{index}.bias"], stride, 1)
        x = F.leaky_relu(F.instance_norm(x), 0.2)
        maps.append(x)
    return F.conv2d(x, state["out_conv.weight"], state["out_conv.bias"], 1, 1), maps


def temporal_scores(state: State, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """One forward pass in training mode: each spectral norm takes one power iteration."""

    def weight(key: str) -> Tensor:
        matrix = state[f"{key}.weight_orig"]
        u, v = state[f"{key}.weight_u"], state[f"{key}.weight_v"]
        with torch.no_grad():
            v = F.normalize(torch.mv(matrix.flatten(1).t(), u), dim=0, eps=1e-12)
            u = F.normalize(torch.mv(matrix.flatten(1), v), dim=0, eps=1e-12)
            state[f"{key}.weight_u"], state[f"{key}.weight_v"] = u.clone(), v.clone()
        return matrix / torch.dot(u, torch.mv(matrix.flatten(1), v))

    def norm(key: str, x: Tensor) -> Tensor:
        return F.group_norm(x, 16, state[f"{key}.weight"], state[f"{key}.bias"])

    def block(key: str, x: Tensor, stride: tuple[int, int, int]) -> Tensor:
        shortcut = x
        if f"{key}.downsample.0.weight_orig" in state:
            shortcut = norm(f"{key}.downsample.1", F.conv3d(x, weight(f"{key}.downsample.0"), None, stride, 1))
        x = F.relu(norm(f"{key}.bn1", F.conv3d(x, weight(f"{key}.conv1"), None, stride, 1)))
        return F.relu(norm(f"{key}.bn2", F.conv3d(x, weight(f"{key}.conv2"), None, 1, 1)) + shortcut)

    x = F.relu(norm("gn1", F.conv3d(x, weight("conv1"), None, (1, 2, 2), (1, 3, 3))))
    x = F.max_pool3d(x, 3, (1, 2, 2), 1)
    x = block("layer1.1", block("layer1.0", x, (1, 1, 1)), (1, 1, 1))
    maps = [x]
    for index in range(_count(state, "layers.")):
        side = 2 if index < 2 else 1
        x = block(f"layers.{index}.1", block(f"layers.{index}.0", x, (2, side, side)), (1, 1, 1))
        maps.append(x)
    return F.conv2d(x.squeeze(2), state["final.weight"], state["final.bias"], padding=1), maps


def matching(maps: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a - b).abs().mean() for a, b in zip(maps, wanted, strict=True)]).mean()


def penalty(scores: Tensor, real: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    return gradient.pow(2).reshape(len(real), -1).sum(1).mean()


class ReleasedStep:
    """Networks, optimisers and one iteration after another. Images are in [-1, 1].

    Args:
        generator, patch, temporal: states; the discriminators' may be None.
        features: the perceptual network.
        rate: of Adam.
    """

    def __init__(
        self,
        generator: Mapping[str, Tensor],
        features: Features,
        patch: Mapping[str, Tensor] | None = None,
        temporal: Mapping[str, Tensor] | None = None,
        rate: float = 1e-4,
    ) -> None:
        self.generator, self.features = leaves(generator), features
        self.patch = None if patch is None else leaves(patch)
        self.temporal = None if temporal is None else leaves(temporal)
        named = {
            "static": self._of("shape_enc", "dec"),
            "dynamics": self._of("dynamics_enc", "fusion_block", "dec"),
        }
        for name, state in (("patch", self.patch), ("temporal", self.temporal)):
            if state is not None:
                named[name] = {key: value for key, value in state.items() if value.requires_grad}
        self.parameters = named
        self.optimizers = {name: torch.optim.Adam(list(found.values()), rate) for name, found in named.items()}
        self.gradients: dict[str, dict[str, Tensor]] = {}

    def _of(self, *parts: str) -> State:
        return {key: value for key, value in self.generator.items() if key.startswith(parts)}

    def _move(self, name: str, *losses: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        for loss in losses:
            loss.backward(retain_graph=loss is not losses[-1])
        self.gradients[name] = {
            key: torch.zeros_like(value) if value.grad is None else value.grad.clone()
            for key, value in self.parameters[name].items()
        }
        optimizer.step()

    def __call__(
        self, frames: Tensor, poke: Tensor, drawn_real: Sequence[int] = (), drawn_fake: Sequence[int] = ()
    ) -> dict[str, float]:
        """One iteration.

        Args:
            frames: `[B, T + 1, 3, H, W]`.
            poke: `[B, 2, H, W]`.
            drawn_real, drawn_fake: for the patch discriminator, clip * T + frame; empty: before the discriminators.
        """
        state, x0, truth = self.generator, frames[:, 0], frames[:, 1:]
        horizon = truth.shape[1]
        found = {}
        static = self.features.distance(x0, decode(state, encode(state, x0)))
        found["static"] = static
        self._move("static", static)

        states, video = rollout(state, x0, poke, horizon)
        targets = []
        for t in range(horizon):
            targets.append(encode(state, truth[:, t]))
            decode(state, targets[-1])
        rec = torch.stack([self.features.distance(truth[:, t], video[t]) for t in range(horizon)]).mean()
        frame_errors = [
            torch.stack([F.mse_loss(a, b) for a, b in zip(states[t], targets[t], strict=True)]).mean()
            for t in range(horizon)
        ]
        trajectory = torch.stack(frame_errors).mean()
        loss = 5 * rec + 0.1 * trajectory
        found |= {"reconstruction": rec, "trajectory": trajectory, "dynamics": loss}
        if drawn_real:
            loss = loss + self._adversarial(torch.stack(video, 1), truth, drawn_real, drawn_fake, found)
        self._move("dynamics", loss)
        return {name: float(value.detach()) for name, value in found.items()}

    def _adversarial(
        self,
        video: Tensor,
        truth: Tensor,
        drawn_real: Sequence[int],
        drawn_fake: Sequence[int],
        found: dict[str, Tensor],
    ) -> Tensor:
        assert self.patch is not None
        assert self.temporal is not None
        real, fake = truth.flatten(0, 1)[list(drawn_real)], video.flatten(0, 1)[list(drawn_fake)]
        scores, maps, wanted = self._against("patch", patch_scores, self.patch, real, fake, 1e-4, found)
        patch, unused = -scores.mean(), matching(maps, wanted)
        clips = truth.transpose(1, 2), video.transpose(1, 2)
        scores, maps, wanted = self._against("temporal", temporal_scores, self.temporal, *clips, 0.1, found)
        temporal, matched = -scores.mean(), matching(maps, wanted)
        found |= {"patch_generator": patch, "temporal_generator": temporal, "temporal_matching": matched}
        return patch + 0 * unused + 5 * temporal + 10 * matched

    def _against(
        self, name: str, judge: Judge, state: State, real: Tensor, fake: Tensor, weight: float, found: dict[str, Tensor]
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Moves a discriminator, then judges for the generator: scores and maps of `fake`, maps of `real`."""
        real = real.clone().requires_grad_()
        scores, _ = judge(state, real)
        right, r1 = F.relu(1 - scores).mean(), penalty(scores, real)
        wrong = F.relu(1 + judge(state, fake.detach())[0]).mean()
        found |= {name: right + wrong, f"{name}_penalty": r1}
        self._move(name, right, weight * r1, wrong)
        scores, maps = judge(state, fake)
        return scores, maps, judge(state, real)[1]
