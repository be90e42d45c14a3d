"""Each loss against its definition, written out slowly."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from peers.poking_clips import batch, classifier, filled, training
from peers.poking_released import Features
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from methods.perceptual import BLOCKS, POOL, Net, Perceptual, distance
from methods.poking.config import PokingConfig
from methods.poking.discriminators import SpectralConv3d
from methods.poking.layers import instance_norm
from methods.poking.losses import (
    fake_hinge,
    feature_matching,
    generator_term,
    gradient_penalty,
    norm_trajectory,
    real_hinge,
    squared_trajectory,
)
from methods.poking.objective import PokingTraining
from methods.poking.supervision import LPIPS_SCALE, by_time, signed
from metrics.lpips import lpips

HORIZON, CLIPS = 3, 2


def states(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(5, 2, 2), (3, 4, 4)]
    return [torch.randn(HORIZON * CLIPS, *shape, generator=generator, dtype=torch.float64) for shape in shapes]


def numbers(x: Tensor) -> list[float]:
    return [float(v) for v in x.flatten()]


def test_squared_trajectory() -> None:
    ours, theirs = states(0), states(1)
    frames = []
    for t in range(HORIZON):
        levels = []
        for state, target in zip(ours, theirs, strict=True):
            rows = slice(t * CLIPS, (t + 1) * CLIPS)
            pairs = list(zip(numbers(state[rows]), numbers(target[rows]), strict=True))
            levels.append(sum((a - b) ** 2 for a, b in pairs) / len(pairs))
        frames.append(sum(levels) / len(levels))
    assert float(squared_trajectory(ours, theirs)) == pytest.approx(sum(frames) / HORIZON, rel=1e-12)


def test_norm_trajectory() -> None:
    ours, theirs = states(0), states(1)
    total = 0.0
    for clip in range(CLIPS):
        for t in range(HORIZON):
            for state, target in zip(ours, theirs, strict=True):
                row = t * CLIPS + clip
                pairs = list(zip(numbers(state[row]), numbers(target[row]), strict=True))
                total += math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(pairs))
    assert float(norm_trajectory(ours, theirs, HORIZON)) == pytest.approx(total / CLIPS, rel=1e-9)


def test_the_gradient_of_a_norm_is_finite_at_zero() -> None:
    same = [state.requires_grad_() for state in states(0)]
    norm_trajectory(same, [state.detach() for state in same], HORIZON).backward()
    assert all(torch.isfinite(state.grad).all() for state in same if state.grad is not None)


def test_hinges_and_the_generator_term() -> None:
    scores = torch.tensor([[[-2.0, 0.5], [3.0, 1.0]], [[0.0, -1.0], [-0.5, 2.0]]])
    assert real_hinge(scores).tolist() == pytest.approx([(3 + 0.5 + 0 + 0) / 4, (1 + 2 + 1.5 + 0) / 4])
    assert fake_hinge(scores).tolist() == pytest.approx([(0 + 1.5 + 4 + 2) / 4, (1 + 0 + 0.5 + 3) / 4])
    assert generator_term(scores).tolist() == pytest.approx([-2.5 / 4, -0.5 / 4])


def test_gradient_penalty_of_a_known_function() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]], requires_grad=True)
    scores = (x**2).sum(1, keepdim=True) + x[:, :1]
    assert gradient_penalty(scores, x).tolist() == pytest.approx([3**2 + 4**2, 7**2 + 2**2])


def test_feature_matching() -> None:
    fake, real = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])], [torch.tensor([0.0, 4.0]), torch.tensor([[1.0]])]
    assert float(feature_matching(fake, real)) == pytest.approx((1.5 + 2) / 2)


def torchvision_layers(net: Net, tensors: dict[str, Tensor]) -> nn.Sequential:
    """torchvision's `features` with these weights, which may be narrower than its own."""
    from torchvision.models import vgg16, vgg19

    with torch.device("meta"):
        layers = (vgg19 if net == "vgg19" else vgg16)(weights=None).features
    for name, layer in layers.named_children():
        if isinstance(layer, nn.Conv2d):
            layer.weight = nn.Parameter(tensors[f"features.{name}.weight"].float())
            layer.bias = nn.Parameter(tensors[f"features.{name}.bias"].float())
    return layers


@pytest.mark.parametrize(("net", "taps"), [("vgg19", (3, 8, 13, 22, 31)), ("vgg16", (3, 8, 15, 22, 29))])
def test_the_maps_are_those_of_torchvision(net: Net, taps: tuple[int, ...]) -> None:
    tensors = classifier(net, torch.float32, shrink=8)
    layers = torchvision_layers(net, tensors)
    images = batch(dtype=torch.float32).frames[:, 0]
    mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (images - mean.view(3, 1, 1)) / spread.view(3, 1, 1)
    wanted = [x]
    with torch.no_grad():
        for index, layer in enumerate(layers):
            x = layer(x.clone())
            if index in taps:
                wanted.append(x.clone() if isinstance(layer, nn.ReLU) else x)
                assert isinstance(layer, nn.ReLU)
        found = Perceptual(net, 5, tensors)(signed(images))
    assert len(found) == len(wanted) == 6
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_fewer_maps_are_the_first_ones_and_cost_no_more_layers() -> None:
    tensors = classifier("vgg16", shrink=8)
    images = batch().frames[:, 0]
    all_maps, two = Perceptual("vgg16", 5, tensors).double()(images), Perceptual("vgg16", 2, tensors).double()
    maps = two(images)
    assert len(maps) == 3
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(maps, all_maps[:3], strict=True))
    kept = {name for name, _ in two.named_buffers() if name.startswith("weight_")}
    assert kept == {f"weight_{index}" for block in BLOCKS["vgg16"][:2] for index in block if index != POOL}


def test_distance_is_the_sum_of_means_with_or_without_pixels() -> None:
    tensors = classifier("vgg16", shrink=8)
    network, peer = Perceptual("vgg16", 5, tensors).double(), Features("vgg16", tensors)
    first, second = (signed(batch().frames[:, t]) for t in (0, 1))
    wanted = float(peer.distance(first, second).detach())
    with torch.no_grad():
        maps, targets = network(second), network.targets(first)
        assert float(distance(maps, targets)) == pytest.approx(wanted, rel=1e-6)
        pixels = float((maps[0] - targets[0]).abs().mean())
        assert float(distance(maps, targets, pixels=False)) == pytest.approx(wanted - pixels, rel=1e-6)


def test_the_classifier_gets_no_gradient_and_its_input_does() -> None:
    network = Perceptual("vgg16", 3, classifier("vgg16", shrink=8)).double()
    images = batch().frames[:, 0].requires_grad_()
    targets = network.targets(images)
    assert not any(target.requires_grad for target in targets)
    distance(network(images * 0.9), targets).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not list(network.parameters())
    assert not network.state_dict()


def test_the_papers_reconstruction_is_a_sum_over_frames_and_maps_without_pixels() -> None:
    """Equation 6 with |a|_1 = mean |a_i|; equation 8 weighs it with 1."""
    made = training(gan=False, form="paper", reconstruction_weight=1.0, trajectory_weight=0.0)
    part, found = batch(), {}
    network = made.supervision.perceptual()
    with torch.no_grad():
        rolled = made.supervision.states(part)
        frames = made.network.decode(rolled)
        loss = made.supervision.video_loss(part, rolled, None, lambda name, value: found.setdefault(name, value))
        truth, horizon = by_time(part), 3
        total = 0.0
        for clip in range(2):
            for t in range(horizon):
                row = slice(2 * t + clip, 2 * t + clip + 1)
                pairs = zip(network(frames[row])[1:], network(truth[row])[1:], strict=True)
                total += sum(float((a - b).abs().mean()) for a, b in pairs)
    assert float(loss) == pytest.approx(total / 2, rel=1e-9)
    assert float(found["reconstruction"]) == float(loss)


def test_frames_looked_at_stand_for_all() -> None:
    """Over many draws the mean of L_rec on two frames is that on all three."""
    from dataclasses import replace

    few, every = (
        training(gan=False, trajectory_weight=0.0, perceptual_layers=2, perceptual_frames=count) for count in (2, None)
    )
    part = batch()

    def ignore(name: str, value: Tensor) -> Tensor:
        return value

    with torch.no_grad():
        rolled = every.supervision.states(part)
        frames = every.network.decode(rolled)
        wanted = float(every.supervision.video_loss(part, rolled, frames, ignore))
        found = [
            float(few.supervision.video_loss(replace(part, seed=seed), rolled, frames, ignore)) for seed in range(60)
        ]
    assert sum(found) / len(found) == pytest.approx(wanted, rel=0.01)
    assert max(found) - min(found) > 0.001 * wanted


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_is_pytorchs(layout: torch.memory_format) -> None:
    x = torch.randn(2, 6, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = instance_norm(x.contiguous(memory_format=layout))
    torch.testing.assert_close(found, F.instance_norm(x, eps=1e-5), rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_spectral_norm_is_pytorchs() -> None:
    torch.manual_seed(0)
    ours = SpectralConv3d(4, 6, stride=(2, 1, 1)).double()
    nn.init.normal_(ours.weight_orig)
    theirs = nn.utils.spectral_norm(nn.Conv3d(4, 6, 3, (2, 1, 1), 1, bias=False)).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64)
    for _ in range(3):
        ours.advance()
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-10)
    before = ours.get_buffer("weight_u").clone()
    ours(x)
    assert torch.equal(ours.get_buffer("weight_u"), before)
    narrow = copy.deepcopy(ours).float()
    for network in (ours, narrow):
        with torch.autocast("cpu", torch.bfloat16):
            network.advance()
    torch.testing.assert_close(narrow.get_buffer("weight_u").double(), ours.get_buffer("weight_u"), rtol=0, atol=1e-6)
    ours.load_state_dict(theirs.state_dict())
    ours(x).sum().backward()
    theirs.eval()(x).sum().backward()
    assert ours.weight_orig.grad is not None
    torch.testing.assert_close(ours.weight_orig.grad, theirs.weight_orig.grad, rtol=1e-9, atol=1e-9)


def test_formula_weights_are_what_the_page_says() -> None:
    layer = filled(nn.Conv2d(2, 3, 1))
    value = [((104729 + 13 + 7919 * i) % 1009) / 1009 - 0.5 for i in range(6)]
    assert layer.weight.flatten().tolist() == pytest.approx([2 * v / math.sqrt(2) for v in value])
    assert layer.bias.tolist() == pytest.approx([0.1 * (((13 + 7919 * i) % 1009) / 1009 - 0.5) for i in range(3)])


def test_in_the_form_of_lpips_the_pixels_stay() -> None:
    values = {"size": 32, "width": 64, "min_side": 8, "perceptual": "vgg16", "gan": False, "horizon": 3}
    values |= {"perceptual_form": "lpips", "reconstruction_weight": 1.0, "trajectory_weight": 0.0}
    made = PokingTraining(PokingConfig.model_validate(values), seed=0)
    part = batch(dtype=torch.float32)
    with torch.no_grad():
        rolled = made.supervision.states(part)
        frames = made.network.decode(rolled)
        found = float(made.supervision.video_loss(part, rolled, frames, lambda name, value: value))
        network, truth = made.supervision.perceptual(), by_time(part)
        pixels = float((network(frames)[0] - network(truth)[0]).abs().mean())
        apart = float(lpips(*((video[:, None] + 1) / 2 for video in (frames, truth)), net="vgg").mean())
    assert found == pytest.approx(pixels + LPIPS_SCALE * apart, rel=1e-4)


def test_the_form_of_lpips_needs_its_network() -> None:
    with pytest.raises(ValidationError, match="weights for perceptual 'vgg16', found 'vgg19'"):
        PokingConfig(perceptual="vgg19", perceptual_form="lpips")
