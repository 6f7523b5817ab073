"""Networks of diffusers with conditions, learned variances and more channels than their states."""

import pytest
import torch

pytest.importorskip("diffusers")

import sdediff as sd
from sdediff.bridges import BridgeError, DiffusersNetwork, scheduler_times
from sdediff.bridges.conventions import channels_of, convention_of
from tests.bridges.small import F64, MARKS, conditional, diffusers, dit, start, unet

pytestmark = MARKS
TEXT = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(5), dtype=F64)


def model_of(network, **config):
    return sd.from_diffusers((network, diffusers.DDIMScheduler(clip_sample=False, **config)))


def test_text_is_a_condition_with_a_row_a_sample():
    network, x = conditional(), start(2, 4, 8, 8)
    model = model_of(network)
    assert model.card["data"]["shape"] == [4, 8, 8]
    found = model.given(encoder_hidden_states=TEXT)(x, 300).raw
    expected = network(x, 299, encoder_hidden_states=TEXT).sample
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(sd.ModelError, match=r"needs encoder_hidden_states: write model\.given"):
        model(x, 300)


def test_labels_are_a_condition():
    network, x = unet(num_class_embeds=5), start()
    labels = torch.tensor([1, 4])
    model = model_of(network)
    torch.testing.assert_close(model.given(class_labels=labels)(x, 300).raw, network(x, 299, labels).sample)
    with pytest.raises(sd.ModelError, match="class_labels"):
        sd.sample(model, (2, 1, 8, 8), steps=2)
    assert sd.sample(model, (2, 1, 8, 8), steps=2, cond={"class_labels": labels}).shape == (2, 1, 8, 8)


def test_added_conditions_are_nested():
    network = conditional(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 5
    )
    x, added = start(2, 4, 8, 8), {"text_embeds": TEXT[:, 0, :5], "time_ids": torch.ones(2, 6, dtype=F64)}
    model = model_of(network)
    with pytest.raises(sd.ModelError, match="added_cond_kwargs"):
        model.given(encoder_hidden_states=TEXT)(x, 300)
    found = model.given(encoder_hidden_states=TEXT, added_cond_kwargs=added)(x, 300).raw
    expected = network(x, 299, encoder_hidden_states=TEXT, added_cond_kwargs=added).sample
    torch.testing.assert_close(found, expected)


def test_a_transformer_with_a_learned_variance():
    network, x, labels = dit(), start(2, 2, 8, 8), torch.tensor([0, 9])
    model = sd.from_diffusers((network, diffusers.DDPMScheduler(variance_type="learned_range", clip_sample=False)))
    prediction = model.given(class_labels=labels)(x, 300)
    whole = network(x, timestep=torch.tensor([299, 299]), class_labels=labels).sample
    torch.testing.assert_close(prediction.raw, whole[:, :2])
    torch.testing.assert_close(prediction.extra, whole[:, 2:])
    assert "learned_range" in model.card["notes"][0]


def test_an_inpainting_network_takes_its_further_channels():
    network, x = conditional(in_channels=9), start(2, 4, 8, 8)
    more = start(2, 5, 8, 8)
    model = model_of(network).given(encoder_hidden_states=TEXT)
    assert model.card["data"]["shape"] == [4, 8, 8]
    with pytest.raises(sd.ModelError, match=r"needs concat \(B, 5, ...\): write model.given\(concat="):
        model(x, 300)
    expected = network(torch.cat([x, more], 1), 299, encoder_hidden_states=TEXT).sample
    torch.testing.assert_close(model.given(concat=more)(x, 300).raw, expected)
    with pytest.raises(sd.ModelError, match="no effect"):
        model_of(unet()).given(concat=more)(start(), 300)


def test_learned_time_embeddings_are_given_whole_numbers():
    network = unet(time_embedding_type="learned", num_train_timesteps=1000)
    model = model_of(network)
    torch.testing.assert_close(model(start(), 300).raw, network(start(), torch.tensor(299)).sample)


def test_the_network_is_made_again_from_its_configuration():
    net = model_of(unet()).net
    twin = DiffusersNetwork(**net.config).double().eval().requires_grad_(False)  # both decide how torch multiplies
    twin.load_state_dict(net.state_dict())
    clock = torch.full((2,), 299.0, dtype=F64)
    assert torch.equal(twin(start(), clock), net(start(), clock))


def test_networks_that_are_not_known_are_refused():
    with pytest.raises(BridgeError, match="FluxTransformer2DModel is not known here"):
        convention_of("FluxTransformer2DModel", {})
    with pytest.raises(BridgeError, match="reads 3 channels and gives 7"):
        channels_of("UNet2DModel", {"in_channels": 3, "out_channels": 7})
    with pytest.raises(BridgeError, match="cannot be made"):
        DiffusersNetwork("UNet2DModel", {"in_channels": 1, "out_channels": 1, "block_out_channels": [3]})


def test_times_are_the_schedulers():
    """4 steps, offset 1: linspace 999 666 333 0; leading 751 501 251 1; trailing 999 749 499 249."""
    for spacing, timesteps in (
        ("linspace", [999, 666, 333, 0]),
        ("leading", [751, 501, 251, 1]),
        ("trailing", [999, 749, 499, 249]),
    ):
        model = model_of(unet(), timestep_spacing=spacing, steps_offset=1)
        assert scheduler_times(model, 4).tolist() == [t + 1.0 for t in timesteps]
    with pytest.raises(BridgeError, match="names no scheduler"):
        scheduler_times(sd.ScoreModel(lambda x, t: x, sd.VP()), 4)
    with pytest.raises(BridgeError, match="cannot be larger"):
        scheduler_times(model_of(unet()), 2000)
    moved = sd.from_diffusers((unet(), diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)))
    with pytest.raises(BridgeError, match="mu"):
        scheduler_times(moved, 4)
    assert scheduler_times(moved, 4, mu=1.0)[1].item() < 1
