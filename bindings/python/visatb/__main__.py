"""`python -m visatb`: what is installed, what is missing, what that costs and how to mend it.

With the arguments of the command `visatb` it is that command.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import platform
import sys
from pathlib import Path

from . import _lib
from ._errors import ArgumentError, Error, LibraryError
from ._streams import guarded
from ._version import __version__

_WITHOUT_JSON = (
    "score and weight files do not work, so neither does the command visatb",
    "apt install libjansson-dev (Fedora: jansson-devel), then in the source tree "
    "pip install --force-reinstall ./bindings/python",
)
_WITHOUT_BLAS = (
    "vitw_linear_loss works, several times slower than it could be",
    "pip install scipy-openblas32",
)
_COST_OF_CUDA = "the losses do not work on the GPU; on the CPU they do"
_WITHOUT_CUDA = (
    "with the nvcc of CUDA 12.4 or newer on PATH, in the source tree "
    "pip install --force-reinstall ./bindings/python"
)
_UNUSABLE_CUDA = (
    "a driver as new as the library's CUDA, or with the nvcc of an older CUDA on PATH, in the "
    "source tree pip install --force-reinstall ./bindings/python"
)
_WITHOUT_TORCH = (
    "the losses do not work; weights and the command visatb do",
    "pip install 'torch>=2.1'",
)


_DESCRIPTION = "What is installed, what is missing, what that costs and how to mend it."
_EPILOG = "python -m visatb COMMAND ... is the command `visatb COMMAND ...`; see `visatb --help`."


def main() -> int:
    """Prints the diagnosis; 1 if the library cannot be loaded."""
    if sys.argv[1:] and not sys.argv[1].startswith("-"):
        from . import cli

        return cli.main()
    return guarded(_diagnose, "python -m visatb")


def _diagnose() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m visatb", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.parse_args()
    _say("visatb", f"{__version__}, {Path(__file__).parent}")
    _say("python", f"{platform.python_version()}, {sys.executable}")
    loaded = _library()
    _module("numpy")
    torch = _module("torch")
    if torch is None:
        _mend(*_WITHOUT_TORCH)
    elif tuple(int(part) for part in torch.split(".")[:2]) < (2, 1):
        _mend("it is older than 2.1, so the losses do not work", _WITHOUT_TORCH[1])
    elif loaded:
        _gpu()
    return 0 if loaded else 1


def _library() -> bool:
    try:
        path, info = _lib.library_path(), _lib.build_info()
    except LibraryError as error:
        _say("libvisatb", f"cannot be loaded, so nothing works\n{error}")
        return False
    _say("libvisatb", f"{info.pop('version', 'unknown')}, {path}")
    for key, value in info.items():
        _say(f"  {key}", value)
        if key == "json" and value == "no":
            _mend(*_WITHOUT_JSON)
        # Whoever chose to have none needs no remedy.
        chosen = ("plain (VISATB_BLAS=", "plain (built without BLAS)")
        if key == "blas" and value.startswith("plain (") and not value.startswith(chosen):
            _mend(*_WITHOUT_BLAS)
    return True


def _gpu() -> None:
    """Says whether the library can use the GPU that PyTorch sees; nothing where it sees none."""
    import torch

    if torch.version.cuda is None or not torch.cuda.is_available():
        return
    name, reason = torch.cuda.get_device_name(), _why_no_cuda()
    _say("  gpu", f"{name}, which libvisatb cannot use: {reason}" if reason else name)
    if reason:
        built_without = _lib.build_info()["cuda"].startswith("no")
        _mend(_COST_OF_CUDA, _WITHOUT_CUDA if built_without else _UNUSABLE_CUDA)


def _why_no_cuda() -> str:
    """What the library says to a call on the current GPU; "" where it would compute there."""
    arguments = _lib.VitwLossArgs(
        rows=1, vocab=1, tasks=1, dtype=_lib.Dtype.FLOAT32, device=_lib.Device.CUDA
    )
    opened = _lib.library()
    status = opened.visatb_vitw_loss_plan(ctypes.byref(arguments), ctypes.byref(_lib.LossPlan()))
    try:
        _lib.check(status)
    except (ArgumentError, Error) as error:
        return str(error).removeprefix("visatb_vitw_loss_plan: ")
    return ""


def _module(name: str) -> str | None:
    """Says which version of a module is there; None if it cannot be imported."""
    try:
        version = str(importlib.import_module(name).__version__)
    except ModuleNotFoundError:
        _say(name, "not installed")
        return None
    except Exception as error:  # noqa: BLE001 - a broken module may raise anything
        _say(name, f"installed, but its import fails: {error}")
        return None
    _say(name, version)
    return version


def _say(what: str, value: str) -> None:
    print(f"{what + ':':<14}{value}")


def _mend(cost: str, remedy: str) -> None:
    print(f"{'':<14}without it: {cost}\n{'':<14}to mend it: {remedy}")


if __name__ == "__main__":
    sys.exit(main())
