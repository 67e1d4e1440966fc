"""What people wrote leaves all files of the SQLite store with its session."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import apsw
import trio

from tests.actors.stores.sqlite_files import NOW, anchor, child, contents, message, session
from vigil.actors.core.records import Message
from vigil.actors.stores.base import (
    InsertMessage,
    InsertSession,
    RemoveSession,
    SaveAnswer,
    UpdateSession,
    Write,
)
from vigil.actors.stores.sqlite.schema import PAGE_BYTES
from vigil.actors.stores.sqlite.store import SqliteStore

MARK = re.compile(rb"<\d+\.\d+>")


def marks(path: Path) -> set[int]:
    """The sessions whose marks stand anywhere in the files, read as bytes."""
    files = path.parent.glob("vigil.db*")
    found = {mark for file in files for mark in MARK.findall(file.read_bytes())}
    return {int(mark[1:].split(b".")[0]) for mark in found}


async def eventually(holds: Callable[[], bool]) -> None:
    """Erasing goes on in real time, in a thread of the store's own that nothing else can be asked about."""
    with trio.fail_after(120):
        while not holds():  # noqa: ASYNC110
            await trio.sleep(0.02)


class Scribbler:
    """Sessions that come and go at random, with their mark in everything that people wrote."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.live: set[int] = set()
        self.gone: set[int] = set()
        self._at = NOW

    def text(self, key: int) -> str:
        self._at += 1
        size = self._random.choice((3, 30, 100, 300, 2000))
        return f"{'x' * self._random.randrange(size)}<{key}.{self._at}>{'y' * self._random.randrange(size)}"

    def open(self, key: int) -> list[Write]:
        self.live.add(key)
        return [InsertSession(session(key, metadata=self.text(key)))]

    def say(self, key: int) -> list[Write]:
        texts = [self.text(key), "{}", ""]
        self._random.shuffle(texts)
        content, metadata, attachments = texts
        said = Message("m", self._at, "user-1", False, content, metadata, attachments)
        writes: list[Write] = [InsertMessage(key, said, "waiting")]
        if self._random.random() < 0.3:
            answer = self.text(key).encode()
            writes.append(SaveAnswer(f"id-{key}", str(self._at), b"h", answer, key, NOW))
        return writes

    def some(self) -> int:
        return self._random.choice(sorted(self.live))

    def remove(self, key: int) -> list[Write]:
        self.live.remove(key)
        self.gone.add(key)
        return [RemoveSession(key, None)]


async def test_what_people_wrote_leaves_all_files_with_its_session(path: Path) -> None:
    store = SqliteStore(path, erase_delay_s=0.1)
    await store.start(anchor)
    scribbler = Scribbler(seed=1)
    for key in range(1, 201):
        writes = scribbler.open(key)
        for _ in range(6):
            writes += scribbler.say(scribbler.some())
        if key > 20:
            writes += scribbler.remove(scribbler.some())
        await store.commit(writes)
    await eventually(lambda: not marks(path) & scribbler.gone)
    assert marks(path) == scribbler.live
    await store.close()
    assert marks(path) == scribbler.live


def pages_of(path: Path) -> list[bytes]:
    file = path.read_bytes()
    return [file[start : start + PAGE_BYTES] for start in range(0, len(file), PAGE_BYTES)]


async def test_what_people_wrote_is_kept_off_b_tree_pages(path: Path, store: SqliteStore) -> None:
    """SQLite may leave copies in the gaps of these when it splits or merges them; the others it zeroes whole."""
    writes: list[Write] = []
    for n in range(4, 1100):
        text = "~" * n
        said = [
            Message("m", 1, "user-1", False, text, "{}", ""),
            Message("m", 2, "user-1", False, "", text, ""),
            Message("m", 3, "user-1", False, "", "", text),
        ]
        writes.append(InsertSession(session(n, metadata=text)))
        writes.append(SaveAnswer("api", str(n), b"h", text.encode(), n, NOW))
        writes += [InsertMessage(n, one, "") for one in said]
    await store.commit(writes)
    await store.close()
    pages = pages_of(path)
    b_tree_pages = [page for page in pages if page[0] in (2, 5, 10, 13)]
    assert len(b_tree_pages) > 1000
    assert not any(b"~~~~" in page for page in b_tree_pages)
    assert sum(page.count(b"~~~~") for page in pages) > 5 * 1000


async def test_the_log_is_emptied_once_for_many_deletions(path: Path) -> None:
    """With an hour's delay nothing is emptied while the store is open, however much goes; closing does it."""
    store = SqliteStore(path, erase_delay_s=3600)
    await store.start(anchor)
    for key in range(1, 21):
        await store.commit([InsertSession(session(key)), InsertMessage(key, message(NOW, f"<{key}.1>"), "")])
        await store.commit([RemoveSession(key, None)])
    await store.commit([])
    assert marks(path) == set(range(1, 21))
    await store.close()
    assert marks(path) == set()


async def test_closing_right_after_a_removal_erases_first(path: Path, store: SqliteStore) -> None:
    await store.commit([InsertSession(session())])
    await store.commit([InsertMessage(1, message(NOW + n, f"<1.{n}>"), "") for n in range(10_000)])
    await store.commit([RemoveSession(1, None)])
    await store.close()
    assert marks(path) == set()


async def test_the_log_is_emptied_when_a_reader_that_was_in_the_way_has_gone(path: Path) -> None:
    store = SqliteStore(path, erase_delay_s=0.0)
    await store.start(anchor)
    await store.commit([InsertSession(session()), InsertMessage(1, message(NOW, "<1.1>"), "")])
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN; SELECT count(*) FROM messages")
    await store.commit([RemoveSession(1, None)])
    await trio.sleep(0.5)  # longer than it waits for a reader at a time
    assert marks(path) == {1}
    reader.close()
    await eventually(lambda: marks(path) == set())
    await store.close()


async def test_a_long_history_goes_in_pieces_between_the_commits_of_others(path: Path) -> None:
    store = SqliteStore(path)
    await store.start(anchor)
    await store.commit([InsertSession(session(1)), InsertSession(session(2))])
    await store.commit([InsertMessage(1, message(NOW + n), "") for n in range(20_000)])
    watcher = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    await store.commit([RemoveSession(1, None)])
    left = []
    while count := watcher.execute("SELECT count(*) FROM messages WHERE session = 1").get:
        left.append(count)
        await store.commit([UpdateSession(session(2))])
        assert await contents(store, 1) == []
    assert len(set(left)) > 2
    watcher.close()
    await store.close()


REMOVE_AND_DIE = """
import os, signal, sys, trio
from vigil.actors.runtime.clock import Anchor
from vigil.actors.core.records import Message, Session, TimeoutConfig
from vigil.actors.stores.base import InsertMessage, InsertSession, RemoveSession
from vigil.actors.stores.sqlite.store import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    await store.start(lambda: Anchor(1, 1))
    for key in (1, 2):
        session = Session(key, "i", "a", "u", "c", "{}", 0, 0, 0, TimeoutConfig(30, True, 180, 5))
        texts = enumerate([f"<{key}.{n}>" + "x" * 900 for n in range(4_000)])
        messages = [Message("m", n, "u", False, text, "{}", "") for n, text in texts]
        await store.commit([InsertSession(session), *(InsertMessage(key, one, "") for one in messages)])
    await store.commit([RemoveSession(2, None)])
    os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""


async def test_purging_goes_on_after_a_crash(path: Path) -> None:
    with child(REMOVE_AND_DIE, path):
        pass
    assert marks(path) == {1, 2}
    store = SqliteStore(path, erase_delay_s=0.0)
    snapshot = await store.start(anchor)
    assert [one.key for one in snapshot.sessions] == [1]
    assert snapshot.next_key == 3
    assert await contents(store, 2) == []
    await eventually(lambda: marks(path) == {1})
    assert len(await contents(store, 1)) == 4_000
    await store.close()
