"""Agent turns: one at a time for each session, in the order in which messages were accepted.

A turn is a task beside the actor, never in its way: it asks the actor to commit what became of it. A message's
turn goes waiting -> started -> answered or failed; a restart runs a started one once more, as retried, and fails
a retried one (spec section 4). One that need not wait is started from the first, in the commit of its message.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import structlog
import trio

from vigil.actors.agents.base import ANSWER_CHARACTERS_MAX, AgentEntry, Reply, Turn
from vigil.actors.core.errors import (
    AgentFailed,
    AgentTimedOut,
    Overloaded,
    RecordDamaged,
    StoreUnavailable,
    VigilError,
)
from vigil.actors.core.lifecycle import Answer, BeginTurn, Command, FailTurn
from vigil.actors.core.records import Message, Session, TurnState
from vigil.actors.hub.hub import Chunk, Hub
from vigil.actors.runtime.actor import RETRY_S, SessionActor
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.stores.base import Store
from vigil.actors.turns.times import TurnTimes

log = structlog.get_logger()

WAITING_MAX = 256  # turns of one session, beside the one that runs
HELD_MAX = 16  # of a session's turns have their message at hand; those behind them read it when they begin
TURN_ENDS: frozenset[TurnState] = frozenset({"answered", "failed"})
_AFTER_RESTART: dict[TurnState, TurnState] = {"waiting": "started", "started": "retried", "retried": "failed"}


class _Owed(NamedTuple):
    """A message that waits for its answer, and the state its turn takes when it begins: "" for it has begun.

    `message` is None for one that waits far behind: many of them, with all that people attach, are not kept twice.
    """

    id: str
    created_at: int
    begins_as: TurnState
    message: Message | None


class _Speech:
    """What an agent says in a turn. All that it says before anybody else runs is handed out as one chunk: a burst
    of small pieces, as they come out of one read of a socket, is no reason to cut those who listen."""

    __slots__ = ("_hand_out", "_pieces", "_soon")

    def __init__(self, hand_out: Callable[[str], None]) -> None:
        self._hand_out = hand_out
        self._pieces: list[str] = []
        self._soon = trio.lowlevel.current_trio_token().run_sync_soon

    def say(self, piece: str) -> None:
        if piece and not self._pieces:
            self._soon(self.flush)
        if piece:
            self._pieces.append(piece)

    def flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._hand_out("".join(pieces))


class _Queue:
    __slots__ = ("claimed", "owed", "scope", "working")

    def __init__(self) -> None:
        self.owed: deque[_Owed] = deque()
        self.claimed = 0  # sends that are not committed yet
        self.working = False
        self.scope = trio.CancelScope()  # of the task that works it off, a new one each time it starts


class Claim(NamedTuple):
    """Room for a turn, whose message is stored with `state`; `release` it when the send's fate is known."""

    state: TurnState
    release: Callable[[], None]


class Turns:
    """The turns of all sessions. A session has a queue and a task only while it has turns."""

    def __init__(
        self,
        agents: Mapping[str, AgentEntry],
        store: Store,
        clock: ScaledClock,
        hub: Hub,
        new_id: Callable[[], str],
        nursery: trio.Nursery,
    ) -> None:
        self._agents = agents
        self._store = store
        self._clock = clock
        self._hub = hub
        self._new_id = new_id
        self._nursery = nursery
        self._queues: dict[str, _Queue] = {}
        self.times = TurnTimes()

    def use_agents(self, agents: Mapping[str, AgentEntry]) -> None:
        """Those who answer the turns that begin from now on."""
        self._agents = agents

    def __len__(self) -> int:
        return sum(len(queue.owed) for queue in self._queues.values())

    def owes(self, session_id: str, created_at: int) -> bool:
        """Whether the turn of the message at `created_at` is running or waits."""
        queue = self._queues.get(session_id)
        return queue is not None and any(owed.created_at == created_at for owed in queue.owed)

    def wants(self, agent_id: str) -> bool:
        """Whether a message to this agent starts a turn: one that is unknown by now has its turn fail."""
        entry = self._agents.get(agent_id)
        return entry is None or entry.agent is not None

    def claim(self, session_id: str) -> "Claim":
        """Keep room for one more turn while a send is under way. Raises Overloaded when too many wait."""
        queue = self._queues.setdefault(session_id, _Queue())
        if len(queue.owed) + queue.claimed > WAITING_MAX:  # the first of them does not wait, it runs
            raise Overloaded("Too many messages wait for this session's agent")
        state: TurnState = "waiting" if queue.owed or queue.claimed else "started"
        queue.claimed += 1
        return Claim(state, partial(self._release, session_id, queue))

    def _release(self, session_id: str, queue: _Queue) -> None:
        queue.claimed -= 1
        self._drop_if_idle(session_id, queue)

    def submit(self, actor: SessionActor, message: Message, state: TurnState) -> None:
        """Queue the turn of a message that was just committed; `state` is the committed one."""
        self._submit(actor, message, "started" if state == "waiting" else "")

    def resubmit(self, actor: SessionActor, message: Message, state: TurnState) -> None:
        """Queue the turn of a message that was committed before a restart."""
        self._submit(actor, message, _AFTER_RESTART[state])

    def _submit(self, actor: SessionActor, message: Message, begins_as: TurnState) -> None:
        queue = self._queues.setdefault(actor.state.id, _Queue())
        held = message if len(queue.owed) < HELD_MAX else None
        queue.owed.append(_Owed(message.id, message.created_at, begins_as, held))
        if not queue.working:
            queue.working = True
            queue.scope = trio.CancelScope()
            self._nursery.start_soon(self._work, actor, queue, queue.scope)

    def settle(self, session_id: str, created_at: int) -> None:
        """The end of the turn of the message at `created_at` is committed and published: it is owed no more."""
        queue = self._queues.get(session_id)
        if queue is not None and queue.owed and queue.owed[0].created_at == created_at:
            queue.owed.popleft()

    def cancel(self, session_id: str) -> None:
        """The session is over: stop its running turn, forget the waiting ones."""
        queue = self._queues.pop(session_id, None)
        if queue is not None:
            queue.scope.cancel()

    async def _work(self, actor: SessionActor, queue: _Queue, scope: trio.CancelScope) -> None:
        with scope:
            while queue.owed:
                await self._take_turn(actor, queue.owed[0])
            queue.working = False
            self._drop_if_idle(actor.state.id, queue)

    def _drop_if_idle(self, session_id: str, queue: _Queue) -> None:
        is_idle = not queue.owed and not queue.claimed and not queue.working
        if is_idle and self._queues.get(session_id) is queue:
            del self._queues[session_id]

    async def _take_turn(self, actor: SessionActor, owed: _Owed) -> None:
        try:
            reply = await self._begin(actor, owed)
        except AgentFailed as failure:
            await _commit(actor, FailTurn(owed.created_at, owed.id, failure.code, str(failure)))
        else:
            content, metadata, finish_reason = reply
            answer = Answer(self._new_id(), content, metadata, owed.created_at, finish_reason)
            await _commit(actor, answer)

    async def _begin(self, actor: SessionActor, owed: _Owed) -> Reply:
        if owed.begins_as == "failed":
            raise AgentFailed("The agent was interrupted twice while it answered")
        if owed.begins_as:
            await _commit(actor, BeginTurn(owed.created_at, owed.begins_as))
        await trio.lowlevel.checkpoint_if_cancelled()  # the session may be over
        message = owed.message or await self._stored(actor.session.key, owed.created_at)
        return await self._ask_agent(actor, message)

    async def _stored(self, key: int, created_at: int) -> Message:
        """The message at this instant, however long the store takes to come back."""
        while True:
            try:
                page = await self._store.history(key, created_at + 1, created_at - 1, 1)
                await trio.lowlevel.checkpoint_if_cancelled()  # its session may have gone, and it with it
                return page.messages[0]
            except StoreUnavailable:
                await trio.sleep(RETRY_S)
            except Exception:
                log.exception("a message that waited for its turn cannot be read", session_key=key)
                raise AgentFailed("The message could not be read any more") from None

    async def _ask_agent(self, actor: SessionActor, message: Message) -> Reply:
        session = actor.session
        entry = self._agents.get(session.agent_id)
        if entry is None or entry.agent is None:
            raise AgentFailed("The agent is no longer in the catalogue")
        look_back = partial(self._history, session, message)
        speech = _Speech(partial(self._say, session.id, message.id))
        turn = Turn(session, message, look_back, speech.say)
        try:
            with self.times.noting(entry.agent, self._clock.current_s), trio.fail_after(entry.turn_timeout_s):
                return _checked(await entry.agent.reply(turn))
        except trio.TooSlowError:
            raise AgentTimedOut(f"The agent did not answer within {entry.turn_timeout_s:g} s") from None
        except AgentFailed:
            raise
        except RecordDamaged as damage:
            actor.condemn(damage)
            raise AgentFailed("The session's history cannot be read") from None
        except Exception:
            log.exception("an agent crashed", agent_id=entry.id, session_id=session.id)
            raise AgentFailed("The agent crashed") from None
        finally:
            speech.flush()

    async def _history(self, session: Session, question: Message, limit: int) -> Sequence[Message]:
        """What was said so far: answers that came after the question too, but not the questions that wait."""
        queue = self._queues.get(session.id)  # None when the session is over
        wanted = limit + (len(queue.owed) - 1 if queue else 0)
        while True:
            page = await self._store.history(session.key, None, None, wanted)
            said = [one for one in page.messages if one.is_agent or one.created_at < question.created_at]
            if len(said) >= limit or not page.has_more:
                return said[:limit]
            wanted = limit + len(page.messages) - len(said)  # more were asked meanwhile

    def _say(self, session_id: str, message_id: str, piece: str) -> None:
        self._hub.say(Chunk(session_id, self._clock.now(), message_id, piece))


def _checked(reply: Reply) -> Reply:
    if not reply.content:
        raise AgentFailed("The agent gave an empty answer")
    if len(reply.content) > ANSWER_CHARACTERS_MAX:
        raise AgentFailed(f"The agent's answer is longer than {ANSWER_CHARACTERS_MAX} characters")
    return reply


async def _commit(actor: SessionActor, command: Command) -> None:
    """Have the actor commit it, however long the store takes to come back; the session's end ends the wait."""
    while True:
        await trio.lowlevel.checkpoint_if_cancelled()  # once asked, it waits whoever cancels it
        try:
            await actor.ask(command, always=True)
        except (StoreUnavailable, Overloaded):
            await trio.sleep(RETRY_S)
        except VigilError:
            await trio.sleep_forever()  # the session is over: whoever ended it cancels this turn
        else:
            return
