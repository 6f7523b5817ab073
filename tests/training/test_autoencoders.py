"""Losses of autoencoders against reference values and independent computations, and a short training of each kind."""

import pytest
import torch

import sdediff as sd
from sdediff.nets import PatchCritic
from sdediff.training import Draws, TrainingSettings, kl_to_normal, vq_loss

F64 = torch.float64


def test_kl_divergence_of_reference_values():
    mean, log_variance = torch.tensor([[0.5, -1.0]], dtype=F64), torch.tensor([[0.0, -2.0]], dtype=F64)
    assert kl_to_normal(mean, log_variance).item() == pytest.approx(1.19266764, abs=1e-8)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    exact = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros_like(mean), 1.0)).sum(1)
    torch.testing.assert_close(kl_to_normal(mean, log_variance), exact)


def test_the_commitment_weight_is_on_what_the_encoder_gives():
    z = torch.tensor([[0.3, -0.2]], dtype=F64, requires_grad=True)
    e = torch.tensor([[0.5, 0.0]], dtype=F64, requires_grad=True)
    loss = vq_loss(z, e)
    assert loss.item() == pytest.approx(0.05, abs=1e-12)
    on_z, on_e = torch.autograd.grad(loss.sum(), (z, e))
    torch.testing.assert_close(on_z, torch.tensor([[-0.05, -0.05]], dtype=F64))
    torch.testing.assert_close(on_e, torch.tensor([[0.2, 0.2]], dtype=F64))


def test_a_critic_sees_patches_of_one_sample():
    critic, x = PatchCritic(3, width=8), torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    scores = critic(x)
    assert scores.shape == (2, 1, 4, 4)
    torch.testing.assert_close(critic(x[1:]), scores[1:])


def autoencoder(name, **fields):
    pytest.importorskip("diffusers")
    from sdediff.bridges import DiffusersAutoencoder

    config = {
        "in_channels": 1, "out_channels": 1, "latent_channels": 2, "block_out_channels": (8, 8), "norm_num_groups": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1, "mid_block_add_attention": False, "scaling_factor": 1.0, **fields,
    }  # fmt: skip
    return sd.training.build(lambda: DiffusersAutoencoder(name, config))


KINDS = {"AutoencoderKL": {}, "VQModel": {"num_vq_embeddings": 16, "vq_embed_dim": 2}}
DIGITS = sd.data("digits", "train").tensor()[:64]


@pytest.mark.extras
@pytest.mark.parametrize("name", KINDS)
def test_an_autoencoder_is_trained_and_scaled(name):
    made = autoencoder(name, **KINDS[name])
    log = sd.training.train_autoencoder(
        made, DIGITS, TrainingSettings(updates=16, batch=16, rate=3e-3, warmup=0, average=0.0), adversarial_from=1.0
    )
    assert sum(log.losses[-5:]) < 0.9 * sum(log.losses[:5])
    scaled = made.scaled_to(DIGITS)
    with torch.no_grad():
        z = scaled.encode(DIGITS)
        assert z.mean().item() == pytest.approx(0, abs=1e-4)
        assert z.std().item() == pytest.approx(1, abs=1e-4)
        torch.testing.assert_close(scaled.decode(z), made.decode(made.encode(DIGITS)), rtol=1e-3, atol=1e-4)


@pytest.mark.extras
@pytest.mark.parametrize("name", KINDS)
def test_the_critic_moves_the_autoencoder_and_not_the_other_way(name):
    pair = sd.training.CriticisedAutoencoder(**autoencoder(name, **KINDS[name]).config, width=8)
    model, draws, x = sd.ScoreModel(pair, sd.VP()), Draws(0, 5), DIGITS[:4]
    made = sd.training.AutoencoderLoss(start=5)
    without = sd.training.AutoencoderLoss(start=6)(model, x, {}, draws)
    with_critic = made(model, x, {}, draws)
    z, regularisation = made.latents(pair.autoencoder, x, draws)
    network = pair.autoencoder.network
    decoded = network.decode(z, force_not_quantize=True)[0] if name == "VQModel" else network.decode(z)[0]
    error = (x - decoded).abs().flatten(1).mean(1)
    torch.testing.assert_close(without, error + regularisation)
    last = network.decoder.conv_out.weight
    fooled = -pair.critic(decoded).flatten(1).mean(1)
    slopes = [torch.autograd.grad(v.mean(), last, retain_graph=True)[0].norm() for v in (error, fooled)]
    hinge = (1 - pair.critic(x)).relu() + (1 + pair.critic(decoded)).relu()
    expected = without + 0.5 * slopes[0] / (slopes[1] + 1e-4) * fooled + 0.5 * hinge.flatten(1).mean(1)
    torch.testing.assert_close(with_critic, expected, rtol=1e-4, atol=1e-5)
    # The critic's weights feel its hinge loss alone, the decoder's the rest.
    on_critic = torch.autograd.grad(with_critic.mean(), pair.critic.last.weight, retain_graph=True)[0]
    fixed = (1 - pair.critic(x)).relu() + (1 + pair.critic(decoded.detach())).relu()
    alone = torch.autograd.grad(0.5 * fixed.mean(), pair.critic.last.weight)[0]
    torch.testing.assert_close(on_critic, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.extras
def test_what_is_no_autoencoder_is_refused():
    model, draws = sd.load("digits-vp"), Draws(0, 0)
    with pytest.raises(sd.Error, match="trains an autoencoder"):
        sd.training.AutoencoderLoss()(model, DIGITS[:2], {}, draws)
    with pytest.raises(sd.Error, match="kl=-1: a weight"):
        sd.training.AutoencoderLoss(kl=-1)
    with pytest.raises(sd.Error, match="a share of the updates"):
        sd.training.train_autoencoder(autoencoder("AutoencoderKL"), DIGITS, adversarial_from=3)
