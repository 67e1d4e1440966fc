"""What a figure was measured on, without which it says little."""

import os
import platform
import re
import shutil
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vigil.loadtests.bench.measures.store import fsync_ms

_PACKAGES = (
    "vigil-sessions",
    "trio",
    "httptools",
    "hypercorn",
    "quart-trio",
    "apsw",
    "pydantic",
    "orjson",
    "fastapi",
    "uvicorn",
    "uvloop",
    "redis",
)


def described() -> dict[str, str]:
    """Name to value, for people. `load` is how busy the machine was before: near 0, or the figures are noise."""
    with tempfile.TemporaryDirectory() as directory:
        disk_ms = fsync_ms(Path(directory))
    return {
        "processor": _first(r"model name\s*: (.*)", _read("/proc/cpuinfo")) or platform.processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": _gib(_first(r"MemTotal:\s*(\d+)", _read("/proc/meminfo"))),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "append and fsync": f"{disk_ms:g} ms",
        "load": f"{os.getloadavg()[0]:.2f}",
        "wrk": _said("wrk", "-v", r"wrk (\S+)"),
        "redis-server": _said("redis-server", "--version", r"v=(\S+)"),
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _said(program: str, flag: str, pattern: str) -> str:
    path = shutil.which(program)
    if path is None:
        return "not installed"
    done = subprocess.run([path, flag], capture_output=True, text=True, check=False)  # noqa: S603  found
    return _first(pattern, done.stdout + done.stderr) or "unknown"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1].strip() if match else ""


def _gib(kib: str) -> str:
    return f"{int(kib) / 1024**2:.1f} GiB" if kib else "unknown"
