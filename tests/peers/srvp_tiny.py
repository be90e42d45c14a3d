"""A tiny SRVP, the plainest way to predict with it, and its training in several processes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from peers.engine import PlainEngine
from torch import Tensor, distributed
from torch.nn import functional

from methods.interface import Conditioning
from methods.srvp.config import SRVPConfig
from methods.srvp.convolutions import Block
from methods.srvp.network import SRVPNetwork, sampled
from methods.srvp.objective import SRVPTraining
from methods.training import TrainingBatch


def tiny(**fields: object) -> SRVPConfig:
    """A configuration of some thousand parameters."""
    base = {"name": "tiny", "filters": 2, "code": 8, "state": 3, "noise": 4, "inference_width": 6, "residual_width": 9}
    return SRVPConfig(**{**base, **fields})


def tiny_network(seed: int = 0, **fields: object) -> SRVPNetwork:
    """A network whose outputs vary: weights and running statistics moved away from their initial values."""
    network = SRVPTraining(tiny(**fields), seed).network
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.startswith(("encoder", "decoder")) and value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            value.add_(0.2 * noise.abs() if name.endswith("running_var") else 0.2 * noise)
    return network


def tiny_batch(clips: int = 4, length: int = 5, seed: int = 0, channels: int = 3) -> TrainingBatch:
    """Clips in which a bright bar moves."""
    speed = torch.arange(1, clips + 1)[:, None]
    place = (10 + speed * torch.arange(length)).view(clips, length, 1, 1, 1)
    bar = torch.exp(-((torch.arange(64) - place) ** 2) / 40.0)
    frames = (0.2 + 0.6 * bar).expand(clips, length, channels, 64, 64).contiguous()
    return TrainingBatch(frames, 2, tuple(f"clip{i}" for i in range(clips)), seed)


def naive_prediction(network: SRVPNetwork, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
    """Every sample on its own: the context is encoded again, the skips are concatenated in every frame."""
    config, context = network.config, conditioning.context[:, :, : network.config.channels]
    clips = []
    for clip, generator in zip(context, conditioning.generators(seed), strict=True):
        steps = len(clip) + conditioning.horizon - 1
        made = []
        for _ in range(samples):
            noise = torch.randn(config.state + steps * config.noise, generator=generator).to(clip)
            codes, features = network.encode(clip[None])
            content = network.content(codes[:, -config.conditioning :])
            start = sampled(network.first_parameters(codes), noise[None, : config.state])
            eps = noise[config.state :].view(1, steps, config.noise)
            states = network.evolve(start, network.posterior_parameters(codes), eps).states[0, len(clip) :]
            vectors = torch.cat([content.expand(len(states), -1), states], dim=1)
            frames = decoded_with_concatenation(network, vectors, [feature[:, -1] for feature in features])
            made.append(torch.sigmoid(frames))
        clips.append(torch.stack(made))
    return torch.stack(clips).expand(-1, -1, -1, 3, -1, -1)


def decoded_with_concatenation(network: SRVPNetwork, vectors: Tensor, skips: list[Tensor]) -> Tensor:
    """The decoder's logits of the frames of one clip, each stage's first convolution of features and skip together."""
    decoder = network.decoder
    x = decoder.first(vectors[:, :, None, None])
    for i, stage in enumerate(decoder.stages):
        if decoder.upsamples:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        for j, block in enumerate(stage):
            joined = torch.cat([x, skips[i].expand(len(x), -1, -1, -1)], 1) if skips and j == 0 else x
            x = _whole(block, joined)
    return x


def _whole(block: Block, x: Tensor) -> Tensor:
    conv = block.conv
    function = functional.conv_transpose2d if conv.transposed else functional.conv2d
    x = function(x, conv.weight, stride=conv.stride, padding=conv.padding)
    x = x if block.norm is None else block.norm(x)
    return functional.leaky_relu(x, 0.2) if block.activation == "leaky" else x


class SharedEngine(PlainEngine):
    """Averages gradients over processes."""

    def minimise(self, name: str, losses: Iterable[Tensor], max_norm: float | None = None) -> None:
        optimizer = self.optimizers[name]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.zero_grad(set_to_none=True)
        for loss in losses:
            torch.autograd.backward(loss, inputs=parameters)
        for parameter in parameters:
            distributed.all_reduce(parameter.grad)
            parameter.grad /= distributed.get_world_size()
        optimizer.step()


def wide_training(**fields: object) -> SRVPTraining:
    """A float64 training."""
    training = SRVPTraining(tiny(learning_rate=1e-3, **fields), seed=3)
    training.network.double()
    return training


def train_share(rank: int, world: int, batch: TrainingBatch, steps: int, folder: str) -> None:
    """Trains on the share of process `rank`, and writes the weights it ends with."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    training = wide_training()
    engine = SharedEngine(training.optimizers, steps=100)
    for engine.iteration in range(steps):
        training.step([batch.parts(world)[rank]], engine)
    torch.save(training.network.state_dict(), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()
