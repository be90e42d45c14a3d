"""IVRNN as a method: samplers, weights files, the authors' checkpoints, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from methods.interface import Conditioning, method_fault
from methods.ivrnn.adapter import IVRNN
from methods.ivrnn.config import IVRNNConfig, Variant
from methods.ivrnn.network import ImprovedVRNN
from methods.ivrnn.official import convert, official_names
from methods.ivrnn.sampler import SampleNoise, incremental, released
from methods.registry import build_method
from methods.weights_file import save_weights
from metrics.errors import MethodError

TINY = (16, 16, 16, 32, 32, 32)
VARIANTS: tuple[Variant, ...] = ("hierarchical", "flat", "dense-prior")
CPU = torch.device("cpu")


def network(variant: Variant = "hierarchical", context: int = 2, seed: int = 0) -> ImprovedVRNN:
    """Tiny, with heads that are not zero, so that samples differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = ImprovedVRNN(IVRNNConfig(recipe="tiny", variant=variant, widths=TINY, top_latent=4, context=context))
        for name, parameter in made.named_parameters():
            if "head_norm" in name:
                torch.nn.init.normal_(parameter)
    return made


def shown(clips: int = 2, context: int = 2, horizon: int = 2, side: int = 64) -> Conditioning:
    frames = torch.rand(clips, context, 3, side, side, generator=torch.Generator().manual_seed(1))
    return Conditioning(frames, [f"clip{i}" for i in range(clips)], horizon)


@pytest.fixture
def method() -> IVRNN:
    return IVRNN.sharing(network())


@pytest.mark.parametrize("variant", VARIANTS)
def test_prediction(variant: Variant) -> None:
    method = IVRNN.sharing(network(variant))
    prediction = method.predict(shown(), samples=2, seed=0)
    assert prediction.shape == (2, 2, 2, 3, 64, 64)
    assert prediction.dtype == torch.float32
    assert not prediction.requires_grad
    assert float(prediction.min()) >= 0
    assert float(prediction.max()) <= 1
    assert not torch.equal(prediction[:, 0], prediction[:, 1])
    assert torch.equal(prediction, method.predict(shown(), samples=2, seed=0))
    assert not torch.equal(prediction, method.predict(shown(), samples=2, seed=1))


def test_a_clip_depends_neither_on_its_batch_nor_a_sample_on_their_number(method: IVRNN) -> None:
    whole = method.predict(shown(), samples=2, seed=0)
    row = method.predict(shown().select([1]), samples=2, seed=0)
    torch.testing.assert_close(row[0], whole[1], rtol=0, atol=1e-5)
    one = method.predict(shown(), samples=1, seed=0)
    torch.testing.assert_close(one[:, 0], whole[:, 0], rtol=0, atol=1e-5)


def test_a_frame_does_not_depend_on_the_horizon(method: IVRNN) -> None:
    short, long = (method.predict(shown(horizon=horizon), samples=2, seed=0) for horizon in (1, 3))
    torch.testing.assert_close(short, long[:, :, :1], rtol=0, atol=1e-5)


def test_many_samples_go_in_several_batches(method: IVRNN, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = method.predict(shown(), samples=2, seed=0)
    monkeypatch.setattr("methods.ivrnn.adapter.ROWS", 3)
    torch.testing.assert_close(method.predict(shown(), samples=2, seed=0), whole, rtol=0, atol=1e-5)


def test_only_the_last_context_frames_are_seen(method: IVRNN) -> None:
    more = shown(context=4)
    last = Conditioning(more.context[:, -2:], more.clip_ids, more.horizon)
    assert torch.equal(method.predict(more, 1, 0), method.predict(last, 1, 0))
    changed = Conditioning(more.context.clone(), more.clip_ids, more.horizon)
    changed.context[:, -2] = 0
    assert not torch.equal(method.predict(more, 1, 0), method.predict(changed, 1, 0))


class KeptNoise:
    """The same noise for a step in every pass."""

    def __init__(self, noise: list[Tensor]) -> None:
        self.noise, self.done = noise, 0

    def __call__(self, steps: int) -> list[Tensor]:
        whole = steps == self.noise[0].shape[1]
        start = 0 if whole else self.done
        self.done += steps
        return [level[:, start : start + steps] for level in self.noise]


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_samplers_give_the_same_frames_for_the_same_latents(variant: Variant) -> None:
    """What sets them apart is that the authors' procedure draws anew in each pass; here it does not."""
    made, context, generator = (
        network(variant).double(),
        shown(clips=1).context.double(),
        torch.Generator().manual_seed(2),
    )
    noise = [
        torch.randn(1, 3, z.channels, z.side, z.side, generator=generator, dtype=torch.float64)
        for z in made.config.latents
    ]
    frames = [sample(made, context, 3, 1, KeptNoise(noise)) for sample in (incremental, released)]
    torch.testing.assert_close(frames[0], frames[1], rtol=0, atol=1e-9)


def test_with_fresh_noise_both_samplers_share_the_first_frame_alone() -> None:
    made = network()
    found = [IVRNN.sharing(made, sampler).predict(shown(), 2, 0) for sampler in ("incremental", "released")]
    torch.testing.assert_close(found[0][:, :, 0], found[1][:, :, 0], rtol=0, atol=1e-5)
    assert float((found[0][:, :, 1] - found[1][:, :, 1]).abs().max()) > 1e-3


def test_noise_is_the_same_step_by_step_and_at_once() -> None:
    def noise() -> SampleNoise:
        return SampleNoise(shown().generators(0), 2, network().config.latents, CPU)

    whole, stepwise = noise()(3), noise()
    parts = [stepwise(1) for _ in range(3)]
    for level, values in enumerate(whole):
        assert values.shape[:2] == (4, 3)
        assert torch.equal(values, torch.cat([part[level] for part in parts], dim=1))
        assert not torch.equal(values[0], values[1])


def test_our_weights_file(tmp_path: Path) -> None:
    made, path = network("dense-prior"), tmp_path / "model.safetensors"
    save_weights(path, made.state_dict(), "ivrnn", made.config)
    method = build_method(f"ivrnn:checkpoint={path}")
    assert method_fault(method) == ""
    method.prepare(CPU)
    assert torch.equal(method.predict(shown(), 1, 0), IVRNN.sharing(made).predict(shown(), 1, 0))
    assert method.card.name == "ivrnn-tiny"
    assert method.card.parameters == sum(parameter.numel() for parameter in made.parameters())
    assert list(method.card.weights) == ["model.safetensors"]
    assert method.card.sizes == {64}
    released_card = build_method(f"ivrnn:checkpoint={path},sampler=released").card
    assert released_card.name == "ivrnn-tiny-released-sampler"


def official_file(made: ImprovedVRNN, path: Path, prefix: str = "module.", **more: Tensor) -> Path:
    names, state = official_names(made.config), made.state_dict()
    torch.save({prefix + names[own]: value for own, value in state.items()} | more, path)
    return path


@pytest.mark.parametrize(
    ("variant", "prefix"), [("hierarchical", ""), ("flat", "module."), ("dense-prior", "module.module.")]
)
def test_the_authors_checkpoint_says_what_it_is(variant: Variant, prefix: str, tmp_path: Path) -> None:
    made = network(variant, context=3)
    unused = {f"{prefix}det_init_net.0.main.0.bias": torch.zeros(3)} if variant == "dense-prior" else {}
    method = build_method(f"ivrnn:official={official_file(made, tmp_path / '00001.pth', prefix, **unused)}")
    config = method.network.config
    assert (config.variant, config.widths, config.context) == (variant, TINY, 3)
    assert config.top_latent == (TINY[-1] if variant == "dense-prior" else 4)
    assert method.card.name == f"ivrnn-{config.recipe}"
    assert method.card.licence == "weights: CC BY-NC 4.0"
    three = shown(context=3)
    assert torch.equal(method.predict(three, 1, 0), IVRNN.sharing(made).predict(three, 1, 0))


def test_every_tensor_without_a_place_is_named(tmp_path: Path) -> None:
    path = official_file(network("flat"), tmp_path / "a.pth", "", emb_extra=torch.zeros(1), zebra=torch.zeros(1))
    with pytest.raises(MethodError, match="2 tensors without a place: emb_extra, zebra"):
        IVRNN(official=path)


def test_every_missing_tensor_is_named(tmp_path: Path) -> None:
    path = official_file(network("flat"), tmp_path / "a.pth", "")
    state = torch.load(path)
    del state["render_nets.3.0.model.c_norm.bias"], state["posterior_nets.0.1.model.weight"]
    torch.save(state, path)
    match = r"2 tensors missing: posterior_nets\.0\.1\.model\.weight, render_nets\.3\.0\.model\.c_norm\.bias"
    with pytest.raises(MethodError, match=match):
        IVRNN(official=path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(MethodError, match=r"state dict of an IVRNN.*found 1 tensors \(conv\.weight"):
        IVRNN(official=tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(MethodError, match="bare state dict"):
        IVRNN(official=tmp_path / "list.pth")
    grey = {key: value[:, :1] if key == "emb_net.0.0.weight" else value for key, value in _flat_state().items()}
    torch.save(grey, tmp_path / "grey.pth")
    with pytest.raises(MethodError, match="RGB frames, found one of 1 channel"):
        IVRNN(official=tmp_path / "grey.pth")
    without = {key: value for key, value in _flat_state().items() if key != "emb_net.4.2.conv_1.0.weight"}
    torch.save(without, tmp_path / "without.pth")
    with pytest.raises(MethodError, match=r"emb_net\.4\.2\.conv_1\.0\.weight"):
        IVRNN(official=tmp_path / "without.pth")


def _flat_state() -> dict[str, Tensor]:
    made = network("flat")
    names = official_names(made.config)
    return {names[own]: value for own, value in made.state_dict().items()}


def test_a_state_dict_of_another_variant_is_refused_by_both_names() -> None:
    with pytest.raises(MethodError, match="variant 'hierarchical', found the variant 'flat'"):
        convert(_flat_state(), network("hierarchical").config, "a.pth")


def test_weights_of_another_variant_are_refused_by_both_names(tmp_path: Path) -> None:
    path = tmp_path / "flat.safetensors"
    made = network("flat")
    save_weights(path, made.state_dict(), "ivrnn", made.config)
    assert build_method(f"ivrnn:checkpoint={path},variant=flat").card.title == "IVRNN (one level)"
    with pytest.raises(MethodError, match="variant 'dense-prior', found the variant 'flat'"):
        build_method(f"ivrnn:checkpoint={path},variant=dense-prior")
    official = official_file(made, tmp_path / "flat.pth")
    with pytest.raises(MethodError, match="variant 'hierarchical', found the variant 'flat'"):
        build_method(f"ivrnn:official={official},variant=hierarchical")
    save_weights(path, made.state_dict(), "ivrnn", network("hierarchical").config)
    with pytest.raises(MethodError, match=r"does not fit ImprovedVRNN.*missing"):
        build_method(f"ivrnn:checkpoint={path}")


def test_it_needs_one_file() -> None:
    with pytest.raises(MethodError, match="found neither"):
        build_method("ivrnn")
    with pytest.raises(MethodError, match="found both"):
        build_method("ivrnn:checkpoint=a,official=b")
    with pytest.raises(MethodError, match="incremental, released"):
        build_method("ivrnn:checkpoint=a,sampler=fast")


@pytest.mark.parametrize(
    ("conditioning", "match"),
    [
        (shown(context=1), "at least 2 context frames.*found 1"),
        (shown(side=128), "64 x 64 px, found 128 x 128"),
        (shown(horizon=0), "found horizon 0"),
    ],
)
def test_conditioning_that_does_not_fit(conditioning: Conditioning, match: str) -> None:
    with pytest.raises(MethodError, match=match):
        IVRNN.sharing(network()).predict(conditioning, 1, 0)
