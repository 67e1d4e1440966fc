"""The client of Vigil, a Sessions API server. `Vigil` for threads, `AsyncVigil` for asyncio and Trio; else alike.

with Vigil("http://127.0.0.1:3000", api_key="...") as vigil:
    session = vigil.create(agent_id="agent-123", user_id="user-456")
    for piece in session.stream("Hello!").text():
        print(piece, end="")
"""

from vigil_client._async.client import AsyncVigil
from vigil_client._async.events import AsyncEvents
from vigil_client._async.keep_alive import AsyncKeepAlive
from vigil_client._async.session import AsyncSession
from vigil_client._async.stream import AsyncStream
from vigil_client._sync.client import Vigil
from vigil_client._sync.events import Events
from vigil_client._sync.keep_alive import KeepAlive
from vigil_client._sync.session import Session
from vigil_client._sync.stream import Stream
from vigil_client.models import (
    Attachment,
    Cancelled,
    CreatedSession,
    Health,
    History,
    Ledger,
    LedgerEntry,
    ListedSession,
    Message,
    Piece,
    SentMessage,
    SessionInfo,
    SessionList,
    SessionStatus,
    TimeoutConfig,
)
from vigil_client.version import VERSION

__version__ = VERSION

__all__ = [
    "AsyncEvents",
    "AsyncKeepAlive",
    "AsyncSession",
    "AsyncStream",
    "AsyncVigil",
    "Attachment",
    "Cancelled",
    "CreatedSession",
    "Events",
    "Health",
    "History",
    "KeepAlive",
    "Ledger",
    "LedgerEntry",
    "ListedSession",
    "Message",
    "Piece",
    "SentMessage",
    "Session",
    "SessionInfo",
    "SessionList",
    "SessionStatus",
    "Stream",
    "TimeoutConfig",
    "Vigil",
]
