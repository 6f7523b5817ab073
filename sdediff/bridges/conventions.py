"""How networks of diffusers are called: what their clock is, which conditions they need, what their states are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sdediff._utils.suggestions import hint
from sdediff.bridges.errors import BridgeError

Config = Mapping[str, Any]


class Convention(NamedTuple):
    """clock: the factor from the scheduler's timestep to what the network reads; needs: conditions that it cannot do
    without; axes: of a state beside the channels."""

    clock: float = 1.0
    needs: tuple[str, ...] = ()
    axes: int = 2


_TEXT = ("encoder_hidden_states",)
NETWORKS: dict[str, Convention] = {
    "UNet1DModel": Convention(axes=1),
    "UNet2DModel": Convention(),
    "UNet2DConditionModel": Convention(needs=_TEXT),
    "UNet3DConditionModel": Convention(needs=_TEXT, axes=3),
    "DiTTransformer2DModel": Convention(needs=("class_labels",)),
    "Transformer2DModel": Convention(),
    "PixArtTransformer2DModel": Convention(needs=_TEXT),
    "SD3Transformer2DModel": Convention(needs=(*_TEXT, "pooled_projections")),
    "SanaTransformer2DModel": Convention(needs=_TEXT),
    "AuraFlowTransformer2DModel": Convention(clock=1e-3, needs=_TEXT),
    "WanTransformer3DModel": Convention(needs=_TEXT, axes=3),
    "StableAudioDiTModel": Convention(needs=(*_TEXT, "global_hidden_states", "rotary_embedding"), axes=1),
}


def convention_of(name: str, config: Config) -> Convention:
    """The convention of a network by its class and configuration. BridgeError: a class that is not known here."""
    if name not in NETWORKS:
        raise BridgeError(
            f"the network {name} is not known here{hint(name, NETWORKS)}; known are {', '.join(NETWORKS)}: for another "
            "one write a function (x, t, **cond) -> output and give it to sd.ScoreModel"
        )
    known = NETWORKS[name]
    needs = dict.fromkeys(known.needs)
    if config.get("class_embed_type") or config.get("num_class_embeds") or config.get("norm_type") == "ada_norm_zero":
        needs["class_labels"] = None
    added = config.get("addition_embed_type") not in (None, "text")
    projected = config.get("encoder_hid_dim_type") in ("image_proj", "text_image_proj")
    if added or projected or config.get("use_additional_conditions"):
        needs["added_cond_kwargs"] = None
    scale = config.get("timestep_scale") or 1.0
    return known._replace(needs=tuple(needs), clock=known.clock * float(scale))


def channels_of(name: str, config: Config) -> tuple[int, int]:
    """The channels of a state, and how many more the network reads beside them (an inpainting network's mask).

    BridgeError: numbers of channels that go together in no known way.
    """
    read, given = config.get("in_channels"), config.get("out_channels") or config.get("in_channels")
    if not isinstance(read, int) or not isinstance(given, int) or min(read, given) < 1:
        raise BridgeError(f"{name} has in_channels={read!r}, out_channels={given!r}: its config.json is damaged")
    if given in (read, 2 * read):
        return read, 0
    if given < read:
        return given, read - given
    raise BridgeError(f"{name} reads {read} channels and gives {given}: needed are as many, twice as many, or fewer")


def shape_of(name: str, config: Config, axes: int) -> tuple[int, ...] | None:
    """The shape of one state, None where the configuration leaves it open."""
    size = config.get("sample_size")
    sizes: list[Any] = list(size) if isinstance(size, list | tuple) else [size] * axes
    if axes == 3 or len(sizes) != axes or not all(isinstance(n, int) and n > 0 for n in sizes):
        return None
    return (channels_of(name, config)[0], *sizes)
