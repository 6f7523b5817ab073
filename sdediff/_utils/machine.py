"""What a figure was measured with: versions and machine, in plain values for JSON."""

from __future__ import annotations

import os
import platform
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "numpy", "scipy", "torchdiffeq", "torchsde")


def versions(*more: str) -> dict[str, str]:
    """Versions of sdediff, Python, what computes, and of further distributions: name -> version."""
    package = sys.modules["sdediff"]  # loaded already; an import statement would run upwards
    installed = {"sdediff": package.__version__, "python": platform.python_version()}
    for name in (*_PACKAGES, *more):
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def machine(device: Any = "cpu") -> dict[str, Any]:
    """The processor, its cores, torch's threads, the platform, the accelerator if one is used, and the date."""
    place = torch.device(device)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu(),
        "cores": usable,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else str(place),
        "platform": platform.platform(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
