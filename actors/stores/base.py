"""The store's protocol: whole effects in, whole records out. Nothing here may assume that a commit is quick.

A commit is all or nothing and durable when it returns. Effects of several callers may share one commit.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from vigil.actors.core.records import Anchor, Message, Session, Tombstone, TurnState


class InsertSession(NamedTuple):
    session: Session


class UpdateSession(NamedTuple):
    """Everything of a session that can change: its times, config, counters; not its owner or metadata."""

    session: Session


class InsertMessage(NamedTuple):
    session_key: int
    message: Message
    turn: TurnState


class UpdateTurn(NamedTuple):
    session_key: int
    created_at: int
    turn: TurnState


class SaveAnswer(NamedTuple):
    """What an idempotency key stands for: the request's hash and the answer. It goes with its session."""

    scope: str  # whose key it is: a session's id, or an API key's id
    key: str
    body_sha256: bytes
    answer: bytes
    session_key: int
    saved_at: int


class RemoveSession(NamedTuple):
    """The session, its messages and its saved answers; `tombstone` takes its place when it expired."""

    session_key: int
    tombstone: Tombstone | None


class ForgetTombstones(NamedTuple):
    ids: tuple[str, ...]


class SaveWindow(NamedTuple):
    """One rate-limit window: the instants of its admitted requests, oldest first."""

    scope: str  # session, user or agent
    subject: str
    admitted_at: tuple[int, ...]


class ProbeDiskSpace(NamedTuple):
    """Leaves nothing behind, but its commit fails when the disk has no room for a long message."""


Write = (
    InsertSession
    | UpdateSession
    | InsertMessage
    | UpdateTurn
    | SaveAnswer
    | RemoveSession
    | ForgetTombstones
    | SaveWindow
    | ProbeDiskSpace
)


OWED: frozenset[TurnState] = frozenset(("waiting", "started", "retried"))
KEPT: frozenset[TurnState] = OWED | {"failed", "cancelled"}  # the last word on an answered one is its answer


class PendingTurn(NamedTuple):
    """A message that an agent still owes an answer to: its state is one of OWED."""

    session_key: int
    message: Message
    turn: TurnState


class BrokenRecord(NamedTuple):
    """A session whose record cannot be read. `session_key` is enough to remove it."""

    session_key: int
    id: str
    why: str


class Snapshot(NamedTuple):
    """All that a starting server needs. Windows are handed out once: a crash later finds none."""

    sessions: Sequence[Session]
    pending_turns: Sequence[PendingTurn]
    tombstones: Sequence[Tombstone]  # oldest expiry first
    broken: Sequence[BrokenRecord]
    windows: Sequence[SaveWindow]
    next_key: int


class SavedAnswer(NamedTuple):
    body_sha256: bytes
    answer: bytes
    saved_at: int


class Page(NamedTuple):
    """Messages newest first, and whether the page's direction has more (spec section 4)."""

    messages: Sequence[Message]
    has_more: bool


class CommitStats(NamedTuple):
    """Commits so far: how many, how many writes they held, and how long they took in all and at most."""

    commits: int
    writes: int
    seconds: float
    buckets: tuple[int, ...]  # how many took at most each of COMMIT_BUCKETS_S, then the rest
    waiting: int = 0  # callers whose writes are not committed yet


Done = Callable[[Exception | None], None]
"""Called with the result of a commit: None once it is durable, else the reason why it is not."""

COMMIT_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Store(Protocol):
    """Constructing a store opens it: StoreError says in one line why that failed and what to do.

    All methods that touch the disk raise StoreUnavailable when it fails, and RecordDamaged when what is asked for is
    damaged.
    """

    @property
    def anchor(self) -> Anchor | None:
        """Where session time stood at the last commit; None in a new store."""

    async def start(self, anchor: Callable[[], Anchor]) -> Snapshot:
        """Give everything that is stored, and from now on commit `anchor()` with each commit. Raises StoreError."""

    def submit(self, writes: Sequence[Write], done: Done) -> None:
        """Have `writes` committed. `done` is called once, perhaps before this returns, and must not raise.

        It gets None once they are durable; StoreUnavailable or, when only these writes meet damage, RecordDamaged, and
        then nothing of them happened; Overloaded when too many callers wait already. No writes commit the anchor alone.
        """

    async def commit(self, writes: Sequence[Write]) -> None:
        """`submit`, waited for: raises what `done` would get. Cannot be cancelled."""

    async def session(self, session_key: int) -> Session | None:
        """One record, read anew; None when it is not there or cannot be read."""

    async def pending_turns(self, session_key: int) -> Sequence[PendingTurn]:
        """One session's owed answers, oldest first."""

    async def history(self, session_key: int, before: int | None, after: int | None, limit: int) -> Page:
        """The messages strictly between `after` and `before`.

        With `after` alone the oldest `limit` of them, else the newest.
        """

    async def reply_to(self, session_key: int, created_at: int) -> Message | None:
        """The agent's answer to the message at `created_at`, if there is one."""

    async def turn(self, session_key: int, message_id: str) -> TurnState | None:
        """What became of the agent's turn on a message, "" when none was wanted; None when there is no such message.

        The cost grows with the messages of the session.
        """

    async def saved_answer(self, scope: str, key: str) -> SavedAnswer | None: ...

    def statistics(self) -> CommitStats: ...

    async def close(self) -> None:
        """Finish what is queued, then close the files."""
