"""Where a number came from: commit, command, versions, hardware."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "av",
    "lpips",
    "mujoco",
    "numpy",
    "opencv-python-headless",
    "pokebench",
    "scikit-image",
    "scipy",
    "torch",
    "torchvision",
)
_ABSOLUTE = re.compile(r"(?:^|(?<=[=:,]))(?:~|/)[^=:,]*/[^=:,]*")
"""An absolute path, alone or as an option's value; what has no folder in it, such as "/", is none worth shortening."""


COMMIT_VARIABLE = "POKEBENCH_COMMIT"
"""Names the commit of a source tree that was exported without its history."""


def commit() -> str:
    """Commit of the source tree, with "+changes" when it is not clean.

    Where the tree has no history of its own, also inside the checkout of another project: $POKEBENCH_COMMIT or "".
    """
    root = Path(__file__).resolve().parent.parent
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return os.environ.get(COMMIT_VARIABLE, "")
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get(COMMIT_VARIABLE, "")
    return head + ("+changes" if changed else "")


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on, and of Python; absent packages are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, str]:
    """Processor, cores used, memory, and the GPU when `device` is one."""
    import torch

    facts = {
        "device": device,
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda or ""
    return facts


def command() -> str:
    """The command line; of absolute paths the last part alone, since one machine's folders mean nothing elsewhere.

    `python -m bench.cli`, as torchrun needs it, is "bench".
    """
    program = Path(sys.argv[0])
    name = "bench" if program.parts[-2:] == ("bench", "cli.py") else program.name
    return " ".join([name, *(_ABSOLUTE.sub(_last_part, word) for word in sys.argv[1:])])


def _last_part(found: re.Match[str]) -> str:
    return Path(found[0]).name


def now() -> str:
    """Current time, ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
