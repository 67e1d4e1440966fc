"""Turns made by hand, and catalogues written in a line, for the tests of agents."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vigil.actors.agents import catalogue
from vigil.actors.agents.base import Agent, AgentEntry, Turn
from vigil.actors.core.records import Message, Session, TimeoutConfig

AT_MS = 1_795_338_000_123  # 2026-11-22T09:00:00.123Z
WALL_MS = 1_795_338_999_999
SESSION = Session(
    key=1,
    id="8f14e45f-ceea-467f-a0e6-b1a2c3d4e5f6",
    agent_id="helper",
    user_id="user-456",
    channel_id="c",
    metadata="{}",
    created_at=AT_MS - 60_000,
    last_activity=AT_MS,
    renewed_at=AT_MS,
    config=TimeoutConfig(30, True, 180, 5),
)


def message(content: str, number: int = 0, *, is_agent: bool = False, **fields: Any) -> Message:
    """The message so many milliseconds after AT_MS; what a number says is its id too."""
    author = SESSION.agent_id if is_agent else SESSION.user_id
    made = Message(
        f"00000000-0000-4000-8000-{number % 10**12:012d}",
        AT_MS + number,
        author,
        is_agent,
        content,
        "{}",
        "",
    )
    return made._replace(**fields)


class Talk:
    """A turn, what was said in it, and how much history was asked for."""

    def __init__(
        self, newest: Message | str, earlier: Iterable[Message] = (), session: Session = SESSION
    ) -> None:
        self.said: list[str] = []
        self.history_limits: list[int] = []
        self._earlier = sorted(earlier, key=lambda one: -one.created_at)
        self.turn = Turn(
            session,
            newest if isinstance(newest, Message) else message(newest),
            self._history,
            self.said.append,
        )

    async def _history(self, limit: int) -> Sequence[Message]:
        self.history_limits.append(limit)
        return self._earlier[:limit]


def loaded(tmp_path: Path, environ: Mapping[str, str] | None = None, **fields: Any) -> AgentEntry:
    """One agent, as the catalogue makes it from these fields."""
    file = tmp_path / "agents.yaml"
    file.write_text(json.dumps({"agents": [{"id": "helper", **fields}]}, ensure_ascii=False))
    return catalogue.load(file, environ or {}, wall=lambda: WALL_MS)["helper"]


def agent_of(entry: AgentEntry) -> Agent:
    assert entry.agent is not None
    return entry.agent
