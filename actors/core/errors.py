"""What can go wrong with sessions, as one tree. It knows no statuses: what a client is answered is a table of
the server's (`server.api.errors`).

VigilError
  SessionNotFound      no such session, or no longer
  SessionExpired       it ended by itself; carries its tombstone
  SessionBroken        quarantined, or its record cannot be read
  AgentNotFound        the agent is not in the catalogue
  ChangeRefused        a retiming that would end the session at once
  RenewalRefused       nothing left to extend
  RateLimited          a window is full; carries the decision
  KeyInFlight          the first request with this idempotency key is not committed yet
  KeyReused            the idempotency key came with another body
  MessageNotFound      the session has no such message
  TurnInProgress       an earlier message waits for its answer, and the sender minds
  AgentFailed          the agent did not answer
    AgentTimedOut      in time
    AgentCancelled     because somebody stopped it
  Overloaded           a bounded queue or the session cap is full
  StoreUnavailable     nothing can be committed right now
  RecordDamaged        what is stored of a session cannot be read or changed: it is out of service
  StoreError           the store cannot be opened at all; the text says why and what to do
    DatabaseGone       its file is empty or missing, and should not be
"""

from typing import ClassVar

from vigil.actors.core.quotas import Refused
from vigil.actors.core.records import Message, Tombstone


class VigilError(Exception):
    """The root. Everything below it is expected; anything else that is raised is a bug."""

    example: ClassVar[str] = ""  # of a file that is wrong: how one that is right could look


class SessionNotFound(VigilError):
    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session {session_id} was not found")
        self.session_id = session_id


class SessionExpired(VigilError):
    def __init__(self, tombstone: Tombstone) -> None:
        super().__init__(f"Session {tombstone.id} has expired")
        self.tombstone = tombstone


class SessionBroken(VigilError):
    def __init__(self, session_id: str, why: str) -> None:
        super().__init__(f"Session {session_id} is out of service: {why}")
        self.session_id = session_id


class AgentNotFound(VigilError):
    def __init__(self, agent_id: str) -> None:
        super().__init__(f"Agent {agent_id} is not in the catalogue")
        self.agent_id = agent_id


class ChangeRefused(VigilError):
    def __init__(self) -> None:
        super().__init__("With this change the session would already be expired")


class RenewalRefused(VigilError):
    def __init__(self, session_id: str, reason: str) -> None:
        super().__init__(f"Session {session_id} already reaches its maximum duration")
        self.session_id = session_id
        self.reason = reason


class RateLimited(VigilError):
    def __init__(self, refused: Refused) -> None:
        super().__init__(f"The {refused.scope} limit of {refused.limit} requests is used up")
        self.refused = refused


class KeyInFlight(VigilError):
    def __init__(self) -> None:
        super().__init__("The first request with this Idempotency-Key has not finished")


class KeyReused(VigilError):
    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with another body")


class MessageNotFound(VigilError):
    def __init__(self, message_id: str) -> None:
        super().__init__(f"Message {message_id} was not found in this session")
        self.message_id = message_id


class TurnInProgress(VigilError):
    """Carries the message whose turn runs, or is the next to run."""

    def __init__(self, message_id: str) -> None:
        super().__init__("The agent has not answered an earlier message yet")
        self.message_id = message_id


class Overloaded(VigilError):
    def __init__(self, what: str, retry_after_s: int = 1) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s


class StoreUnavailable(VigilError):
    retry_after_s = 1

    def __init__(self, why: str) -> None:
        super().__init__("The store cannot commit right now")
        self.why = why


class RecordDamaged(VigilError):
    """The text says what is damaged, and nothing of its content."""


class AgentFailed(VigilError):
    """Whoever waits for the answer learns which `question` stays unanswered."""

    code = "AGENT_FAILED"
    question: Message | None = None


class AgentTimedOut(AgentFailed):
    code = "AGENT_TIMEOUT"


class AgentCancelled(AgentFailed):
    code = "AGENT_CANCELLED"


class StoreError(VigilError):
    pass


class DatabaseGone(StoreError):
    pass
