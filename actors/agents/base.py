"""The protocol between a session's turns and whoever answers."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import FinishReason, Message, Session, TimeoutPatch

ANSWER_CHARACTERS_MAX = 100_000


class Turn(NamedTuple):
    """What an agent is asked: a session's newest message, and the means to look back."""

    session: Session
    message: Message
    history: Callable[[int], Awaitable[Sequence[Message]]]  # the last so many before this one, newest first
    say: Callable[[str], None]  # hand out a piece of the answer as it is made


class Reply(NamedTuple):
    """The whole answer, of which what was said is the beginning. `metadata` is a compact JSON object."""

    content: str
    metadata: str = "{}"
    finish_reason: FinishReason = "stop"


class Agent(Protocol):
    async def reply(self, turn: Turn) -> Reply:
        """Answer, saying pieces on the way or not. May be cancelled at any time.

        Raises AgentFailed, whose text is shown to clients; anything else that is raised is a crash. An empty
        answer, or one of more than ANSWER_CHARACTERS_MAX, counts as a failure.
        """


class AgentEntry(NamedTuple):
    """One agent of the catalogue. An agent that never answers has no `agent`."""

    id: str
    name: str
    agent: Agent | None
    timeouts: TimeoutPatch = TimeoutPatch()
    session_limit: Limit | None = None
    agent_limit: Limit | None = None
    turn_timeout_s: float = 60.0
