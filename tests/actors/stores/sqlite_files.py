"""Records for tests of the SQLite store, its files, and other processes on them."""

import subprocess
import sys
from pathlib import Path

from vigil.actors.core.records import Anchor, Message, Session, TimeoutConfig
from vigil.actors.stores.sqlite.store import SqliteStore

NOW = 1_800_000_000_000
CONFIG = TimeoutConfig(30, True, 180, 5)


def anchor() -> Anchor:
    return Anchor(NOW, NOW)


def session(key: int = 1, metadata: str = "{}") -> Session:
    return Session(key, f"id-{key}", "agent-123", "user-1", f"channel-{key}", metadata, NOW, NOW, NOW, CONFIG)


def message(created_at: int, content: str = "hello") -> Message:
    return Message(f"message-{created_at}", created_at, "user-1", False, content, "{}", "")


def wal(path: Path) -> Path:
    return Path(f"{path}-wal")


def size_of(file: Path) -> int:
    return file.stat().st_size


async def contents(store: SqliteStore, key: int) -> list[str]:
    """Oldest first."""
    page = await store.history(key, None, None, 1_000_000)
    return [one.content for one in page.messages][::-1]


def child(script: str, *args: object) -> "subprocess.Popen[str]":
    """Another Python process that runs `script`."""
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
