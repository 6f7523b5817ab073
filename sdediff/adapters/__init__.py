"""Low-rank adapters (LoRA) of attention layers, through peft."""

from sdediff.adapters.files import load_lora, save_lora
from sdediff.adapters.lora import add_lora, merge_lora, remove_lora, unmerge_lora
from sdediff.adapters.network import TARGETS, LoraNetwork

__all__ = [
    "TARGETS",
    "LoraNetwork",
    "add_lora",
    "load_lora",
    "merge_lora",
    "remove_lora",
    "save_lora",
    "unmerge_lora",
]
