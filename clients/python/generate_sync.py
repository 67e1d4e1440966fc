"""Makes the sync client, and its tests, from the async ones: `python clients/python/generate_sync.py`.

With `--check` it writes nothing and ends with 1 if a file is not what it would write. Files that are written by hand
are those that `BY_HAND` names.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import unasync

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (Path("clients/python/src/vigil_client/_async"), Path("tests/clients/python/_async"))
BY_HAND = {"__init__.py", "io.py"}
NOTE = "# Made from {source} by clients/python/generate_sync.py: change that one.\n"
NAMES: Mapping[str, str] = {
    "AsyncVigil": "Vigil",
    "AsyncSession": "Session",
    "AsyncStream": "Stream",
    "AsyncEvents": "Events",
    "AsyncKeepAlive": "KeepAlive",
    "AsyncCaller": "Caller",
    "AsyncWebSocket": "WebSocket",
    "AsyncClient": "Client",
    "AsyncBaseTransport": "BaseTransport",
    "_async": "_sync",
    "aclose": "close",
    "aread": "read",
    "aiter_bytes": "iter_bytes",
    "anext": "next",
    "on_either_loop": "as_it_is",
}


def main() -> int:
    made = dict(_made())
    if "--check" not in sys.argv[1:]:
        for path, text in made.items():
            path.write_text(text)
        return 0
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} is not up to date: run python clients/python/generate_sync.py")
    return 1 if stale else 0


def _made() -> Iterator[tuple[Path, str]]:
    """Each file to be made, and what is to be in it."""
    for source in SOURCES:
        for path in sorted((ROOT / source).glob("*.py")):
            if path.name not in BY_HAND:
                target = ROOT / source.parent / "_sync" / path.name
                yield (
                    target,
                    _in_house_format(NOTE.format(source=source / path.name) + _unsynced(path), target),
                )


def _unsynced(path: Path) -> str:
    with tempfile.TemporaryDirectory() as directory:
        unasync.unasync_files([str(path)], [unasync.Rule(f"{path.parent}/", f"{directory}/", dict(NAMES))])
        return (Path(directory) / path.name).read_text()


def _in_house_format(text: str, target: Path) -> str:
    """As ruff has it in a file of this name."""
    for command in (["check", "--quiet", "--fix-only", "--select=I"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, f"--stdin-filename={target}", "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout  # noqa: S603
    return text


if __name__ == "__main__":
    sys.exit(main())
