"""Latent diffusion on Fashion-MNIST's 10,000 test images, 8,500 to train and 1,500 to test, on one core.

    python benchmarks/latent_diffusion.py IMAGES LABELS --seed 10 [--vq 500]

An autoencoder (KL, and VQ with --vq) trained with the patch-adversarial term from 30 % of its updates, then a U-Net
with cross-attention on class words together with the small text encoder that reads them, then samples under
classifier-free guidance, judged by a classifier of pictures that was fitted to the training images. The record is of
one run with --seed 10, whose numbers of updates were set before it. The gates: both trainings within 20 minutes of
two cores, and at scale 2 at most 20 % errors, two standard errors added.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import RESULTS, Gate, judged, versions, write
from torch import Tensor

import sdediff as sd
from sdediff.benchmark import machine
from sdediff.bridges import DiffusersAutoencoder, TransformersText
from sdediff.datasets import read, save_grid
from sdediff.training import Objective, TrainingSettings, train_autoencoder, train_with_texts

WORDS = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
TRAINED = 8500
BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
CONFIG: dict[str, Any] = {
    "in_channels": 1, "out_channels": 1, "latent_channels": 4, "block_out_channels": (8, 16, 32), **BLOCKS,
    "layers_per_block": 1, "norm_num_groups": 8, "scaling_factor": 1.0, "mid_block_add_attention": False,
}  # fmt: skip


def text_encoder() -> TransformersText:
    """Words to tokens (B, 4, 16), by a transformer of one layer."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = sorted({part for word in WORDS for part in word.split()})
    vocabulary = {"[start]": 0, "[end]": 1} | {word: 2 + i for i, word in enumerate(words)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[end]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing("[start] $A [end]", None, [("[start]", 0), ("[end]", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[end]", bos_token="[start]", eos_token="[end]", model_max_length=4
    )
    config = transformers.CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=4, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    encoder = sd.training.build(lambda: transformers.CLIPTextModel(config))
    return TransformersText(tokenizer, encoder.eval().requires_grad_(False), "tokens")


def trained_autoencoder(x: Tensor, kind: str, updates: int, seed: int) -> tuple[DiffusersAutoencoder, dict[str, Any]]:
    """The autoencoder with shift and scale of its latents, and how its reconstructions are."""
    name, config = ("VQModel", {**CONFIG, "num_vq_embeddings": 256, "vq_embed_dim": 4}) if kind == "vq" else (
        "AutoencoderKL", CONFIG)  # fmt: skip
    autoencoder = sd.training.build(lambda: DiffusersAutoencoder(name, config))
    began = time.process_time()
    settings = TrainingSettings(updates=updates, batch=32, rate=2e-3, seed=seed + 1)
    log = train_autoencoder(autoencoder, x[:TRAINED], settings)
    seconds = time.process_time() - began
    autoencoder = autoencoder.scaled_to(x[:TRAINED])
    test, again = x[TRAINED:], reconstructed(autoencoder, x[TRAINED:])
    with torch.no_grad():
        z = torch.cat([autoencoder.encode(part) for part in test.split(250)])
    rmse = (again - test).square().mean().sqrt().item()
    return autoencoder, {
        "kind": name, "updates": updates, "cpu_seconds": round(seconds), "loss": float(np.mean(log.losses[-50:])),
        "weights": sum(p.numel() for p in autoencoder.parameters()),
        "test_mean_absolute_error": (again - test).abs().mean().item(), "test_rmse": rmse,
        "test_rmse_of_the_mean_image": (test - x[:TRAINED].mean(0)).square().mean().sqrt().item(),
        "latents_mean": z.mean().item(), "latents_std": z.std().item(),
    }  # fmt: skip


def reconstructed(autoencoder: DiffusersAutoencoder, images: Tensor) -> Tensor:
    """Images, encoded and decoded."""
    with torch.no_grad():
        return torch.cat([autoencoder.decode(autoencoder.encode(part)) for part in images.split(250)])


def trained_model(
    x: Tensor, labels: Tensor, autoencoder: DiffusersAutoencoder, updates: int, seed: int
) -> tuple[sd.ScoreModel, dict[str, Any]]:
    """The latent model, its U-Net under the words of the classes."""
    with torch.no_grad():
        z = torch.cat([autoencoder.encode(part) for part in x[:TRAINED].split(250)])
    words = [WORDS[k] for k in labels[:TRAINED].tolist()]
    net = sd.training.build(
        lambda: sd.nets.UNet(channels_in=4, width=32, multiples=(1,), blocks=2, attention=4, tokens=16)
    )
    card = {"about": "Latent diffusion on Fashion-MNIST, conditioned on class words.", "data": {"shape": [4, 7, 7]}}
    model = sd.ScoreModel(
        net,
        sd.RectifiedFlow(),
        "velocity",
        autoencoder=autoencoder,
        text_encoder=text_encoder(),
        card=card,
        stats=sd.statistics(z),
    )
    began = time.process_time()
    settings = TrainingSettings(updates=updates, batch=64, rate=3e-3, seed=seed + 2)
    before = model.text_encoder(WORDS)["tokens"]
    log = train_with_texts(model, {"x": z, "texts": words}, settings, Objective(drop=0.1))
    seconds, loss = round(time.process_time() - began), float(np.mean(log.losses[-100:]))
    return model, {
        "updates": updates, "cpu_seconds": seconds, "loss": loss,
        "weights": sum(p.numel() for p in net.parameters()),
        "weights_of_the_text_encoder": sum(p.numel() for p in model.text_encoder.parameters()),
        "change_of_the_tokens": (model.text_encoder(WORDS)["tokens"] - before).norm().item() / before.norm().item(),
    }  # fmt: skip


def accuracy(model: sd.ScoreModel, classifier: Any, scale: float, each: int, seed: int, work: Path) -> dict[str, Any]:
    """The accuracy of samples under guidance, by an independent classifier."""
    labels = np.repeat(np.arange(10), each)
    tokens = model.text_encoder([WORDS[k] for k in labels])["tokens"]
    guided = model.given(tokens=tokens)
    guided = guided if scale == 1 else sd.guidance.classifier_free(guided, scale)
    with torch.no_grad():
        images = model.autoencoder.decode(sd.sample(guided, (len(labels), 4, 7, 7), calls=20, seed=seed))
    save_grid(images.reshape(10, each, 1, 28, 28)[:, :10].flatten(0, 1), work / f"fashion-{scale:g}.png", range=(-1, 1))
    right = classifier.predict(images.flatten(1).clamp(-1, 1).numpy()) == labels
    return {
        "scale": scale, "accuracy": float(right.mean()), "error": float(right.std() / len(right) ** 0.5),
        "samples": len(right), "by_class": dict(zip(WORDS, right.reshape(10, each).mean(1).tolist(), strict=True)),
    }  # fmt: skip


def fitted_classifier(x: Tensor, labels: Tensor) -> Any:
    """The classifier of pictures, fitted to the training images."""
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    made = make_pipeline(PCA(50, random_state=0), SVC(C=10))
    return made.fit(x[:TRAINED].flatten(1).numpy(), labels[:TRAINED].numpy())


def options() -> argparse.Namespace:
    """What is typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("labels")
    parser.add_argument("--json", type=Path, default=RESULTS / "latent_diffusion.json")
    parser.add_argument("--work", type=Path, default=Path("latent-diffusion"))
    parser.add_argument(
        "--updates", type=int, nargs=2, default=(1500, 3000), help="of the autoencoder and of the U-Net"
    )
    parser.add_argument("--vq", type=int, default=0, help="updates of a VQ autoencoder, which is measured alone")
    parser.add_argument("--each", type=int, default=100, help="samples a class at each scale")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train, sample, judge, and write the record and the pictures."""
    given = options()
    torch.set_num_threads(1)
    x = read(given.images, 256, (0, 255)).tensor()
    labels = torch.from_numpy(read(given.labels).x.reshape(-1).astype(np.int64))
    given.work.mkdir(parents=True, exist_ok=True)
    split = f"images 0-{TRAINED - 1} to train, {TRAINED}-{len(x) - 1} to test"
    record: dict[str, Any] = {"split": split, "seed": given.seed}
    if given.vq:
        record["vq_autoencoder"] = trained_autoencoder(x, "vq", given.vq, given.seed)[1]
    autoencoder, record["autoencoder"] = trained_autoencoder(x, "kl", given.updates[0], given.seed)
    print(json.dumps(record, indent=1), flush=True)
    again = reconstructed(autoencoder, x[TRAINED:])
    save_grid(torch.cat([x[TRAINED:][:10], again[:10]]), given.work / "reconstructions.png", range=(-1, 1))
    model, record["model"] = trained_model(x, labels, autoencoder, given.updates[1], given.seed)
    print(json.dumps(record["model"], indent=1), flush=True)
    sd.save(model, given.work / "model")
    classifier = fitted_classifier(x, labels)
    for name, images in {"real_test_images": x[TRAINED:], "their_reconstructions": again}.items():
        found = classifier.predict(images.flatten(1).clamp(-1, 1).numpy())
        record[f"accuracy_on_{name}"] = float((found == labels[TRAINED:].numpy()).mean())
    record["guided"] = [
        accuracy(model, classifier, scale, given.each, given.seed, given.work) for scale in (1.0, 2.0, 4.0)
    ]
    seconds, two = record["autoencoder"]["cpu_seconds"] + record["model"]["cpu_seconds"], record["guided"][1]
    gates = [
        Gate("CPU seconds of both trainings", seconds, 1200.0),
        Gate("errors at scale 2, two standard errors added", 1 - two["accuracy"] + 2 * two["error"], 0.2),
    ]
    kinds = ["torch", "diffusers", "transformers", "scikit-learn"]
    write(given.json, record | {"gates": judged(gates), "machine": machine(), "versions": versions(kinds)})


if __name__ == "__main__":
    main()
