"""The GPU, its driver, and the versions of all that took part."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import torch

from . import machine

RIVALS = (
    "liger_kernel",
    "quack-kernels",
    "nvidia-cutlass-dsl",
    "cut-cross-entropy",
    "triton",
    "transformers",
)


def describe(device: str) -> dict[str, Any]:
    """The commit, the machine and the versions."""
    versions = machine.versions() | {name: machine.version(name) for name in RIVALS}
    return {
        "commit": machine.commit(),
        "machine": machine.machine(),
        "gpu": _gpu() if device == "cuda" else None,
        "versions": versions | {"cuda_runtime": torch.version.cuda},
    }


def _gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": getattr(properties, "L2_cache_size", None),
        "driver": _driver(),
    }


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
    return (answer.stdout.splitlines() or ["unknown"])[0].strip()
