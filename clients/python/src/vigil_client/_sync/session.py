# Made from clients/python/src/vigil_client/_async/session.py by clients/python/generate_sync.py: change that one.
"""One session and what it can do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from vigil_client._sync.caller import Caller
from vigil_client._sync.events import Events
from vigil_client._sync.io import Act, Lock
from vigil_client._sync.keep_alive import KeepAlive
from vigil_client._sync.stream import Stream
from vigil_client.answers import read
from vigil_client.calls import Call, files, given, idempotency, patched, posted, session_path
from vigil_client.errors import SessionGone, SessionNotFound
from vigil_client.models import (
    Attachment,
    Cancelled,
    CreatedSession,
    History,
    Ledger,
    Message,
    SentMessage,
    SessionInfo,
    WhenBusy,
)

T = TypeVar("T")
LONGEST_PAGE = 100
Files = Sequence[Attachment | Mapping[str, Any]]


class Begin(Protocol):
    """Begins another session like the first."""

    def __call__(self) -> CreatedSession: ...


class Session:
    """A session by its id. Made by `create` and `session` of the client."""

    def __init__(self, caller: Caller, session_id: str, token: str | None) -> None:
        self.id = session_id
        self.token = token
        self.created: CreatedSession | None = None  # what create answered, if this client began it
        self.begin_another: Begin | None = None
        self._caller = caller
        self._beginning = Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def get(self) -> SessionInfo:
        """The session as it stands. Looking at it keeps nobody alive."""
        return read(SessionInfo, self._caller.ask(self._call("GET")))

    def send(
        self,
        content: str,
        *,
        wait: bool = False,
        attachments: Files = (),
        metadata: Mapping[str, Any] | None = None,
        when_busy: WhenBusy | None = None,
        idempotency_key: str | None = None,
    ) -> SentMessage:
        """Store a message; it is on disk when this returns. With `wait` its `answer` is the agent's.

        `when_busy` says what is done while an earlier turn waits or runs: "enqueue" this one (the server's default),
        "reject" it (TurnInProgress), or "interrupt" what runs.
        """
        transport = "http" if wait else None
        fields = _fields(content, transport, attachments, metadata, when_busy)
        headers = idempotency(idempotency_key)

        def send() -> SentMessage:
            call = posted(
                self._path("messages"), fields, token=self.token, headers=headers, waits_for_agent=wait
            )
            return read(SentMessage, self._caller.ask(call))

        return self.while_it_lives(send)

    def stream(
        self,
        content: str,
        *,
        attachments: Files = (),
        metadata: Mapping[str, Any] | None = None,
        when_busy: WhenBusy | None = None,
        idempotency_key: str | None = None,
    ) -> Stream:
        """Send a message and iterate over its answer: `Piece`s as they are made, then the whole `Message`.

        A connection that breaks is made again and goes on where it was; the pieces together are the message.
        """
        fields = _fields(content, "sse", attachments, metadata, when_busy)
        headers = {**idempotency(idempotency_key), "Accept": "text/event-stream"}

        def call() -> Call:
            path = self._path("messages")
            return posted(path, fields, token=self.token, headers=headers, waits_for_agent=True, streams=True)

        return Stream(self._caller, call, self.while_it_lives)

    def history(self, *, limit: int = 50, before: int | None = None, after: int | None = None) -> History:
        """One page, newest first; `before` and `after` are cursors. `messages()` goes through all of them."""
        query = given(limit=limit, before=before, after=after)
        return read(History, self._caller.ask(self._call("GET", "messages", query=query)))

    def messages(self, *, oldest_first: bool = False) -> Iterator[Message]:
        """Every message once, page by page, newest first unless said otherwise."""
        before, after = None, 0 if oldest_first else None
        while True:
            page = self.history(limit=LONGEST_PAGE, before=before, after=after)
            for message in reversed(page.messages) if oldest_first else page.messages:
                yield message
            if not page.has_more:
                return
            before, after = (None, page.cursors.after) if oldest_first else (page.cursors.before, None)

    def renew(self) -> SessionInfo:
        """Start the timeout anew. SessionRenewalFailed when it is at its longest duration."""
        return self._change("renew")

    def retime(
        self,
        *,
        timeout_minutes: int | None = None,
        auto_renew: bool | None = None,
        max_duration_minutes: int | None = None,
        warning_threshold_minutes: int | None = None,
    ) -> SessionInfo:
        """Change how long it lives; what is left out stays as it is."""
        config = given(
            timeout_minutes=timeout_minutes,
            auto_renew=auto_renew,
            max_duration_minutes=max_duration_minutes,
            warning_threshold_minutes=warning_threshold_minutes,
        )
        call = patched(self._path("timeout"), config, token=self.token)
        return read(SessionInfo, self._caller.ask(call))

    def heartbeat(self) -> SessionInfo:
        """Say that the user is still there. It renews the session if that has `auto_renew`."""

        def beat() -> SessionInfo:
            return self._change("heartbeat")

        return self.while_it_lives(beat)

    def end(self) -> None:
        """End it; its messages are gone with it. Of an expired session the server forgets what it remembered."""
        try:
            self._caller.ask(self._call("DELETE"))
        except SessionNotFound as error:
            if not error.is_repeat:  # else an earlier try has ended it, and its answer was lost
                raise

    def cancel(self, message_id: str) -> Cancelled:
        """Stop the agent's turn on a message. What it has said so far is kept."""
        call = Call("POST", self._path("messages", message_id, "cancel"), self.token)
        return read(Cancelled, self._caller.ask(call))

    def ledger(self) -> Ledger:
        """What moved its deadline and why it ended, oldest first. An expired session has one too."""
        return read(Ledger, self._caller.ask(self._call("GET", "ledger")))

    def events(self, *, last_event_id: int | None = None, patience_s: float = 300.0) -> Events:
        """Iterate over what happens from now on, or after `last_event_id` (0: from the beginning), until it is over.

        A connection that breaks is made again and goes on after the last event; a `Resync` says that some are
        missing. It gives up when it has been without one for `patience_s`. Use it with `with` to listen from the
        first line of the block on, and to stop early.
        """
        return Events(self._caller, self._events_call, last_event_id, patience_s)

    def keep_alive(
        self,
        *,
        every_s: float | None = None,
        on_warning: Callable[[SessionInfo], None] | None = None,
        on_lost: Callable[[Exception], None] | None = None,
    ) -> KeepAlive:
        """Send heartbeats while a `with` block runs; by default each quarter of the timeout, at most 5 minutes apart.

        `on_warning` is called once when the session comes near its end, and again only after it was renewed;
        `on_lost` when it is gone, or may no longer be opened. Both from beside the block: from another task or thread.
        """
        return KeepAlive(self.heartbeat, lambda: self._caller.time_scale, every_s, on_warning, on_lost)

    def while_it_lives(self, act: Act[T]) -> T:
        """Do it; with `recreate`, when the session turns out to be gone, do it in another one."""
        at_first = self.id
        try:
            return act()
        except SessionGone:
            if self.begin_another is None:
                raise
        self._move_from(at_first)
        return act()

    def _move_from(self, session_id: str) -> None:
        """Of several that found it gone at once, one begins another."""
        with self._beginning:
            if self.id == session_id and self.begin_another is not None:
                self.created = self.begin_another()
                self.id, self.token = self.created.session_id, self.created.session_token

    def _change(self, what: str) -> SessionInfo:
        return read(SessionInfo, self._caller.ask(self._call("POST", what)))

    def _events_call(self, last_event_id: int, headers: Mapping[str, str]) -> Call:
        query = given(last_event_id=last_event_id)
        path, upgraded = self._path("events"), frozenset({101})
        return Call(
            "GET", path, self.token, query=query, headers=headers, streams=True, good_statuses=upgraded
        )

    def _call(self, method: str, *path: str, **rest: Any) -> Call:
        return Call(method, self._path(*path), self.token, **rest)

    def _path(self, *rest: str) -> str:
        return session_path(self.id, *rest)


def _fields(
    content: str,
    transport: str | None,
    attachments: Files,
    metadata: Mapping[str, Any] | None,
    when_busy: WhenBusy | None,
) -> dict[str, Any]:
    return given(
        content=content,
        transport=transport,
        attachments=files(attachments),
        metadata=metadata,
        when_busy=when_busy,
    )
