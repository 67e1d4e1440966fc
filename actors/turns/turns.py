"""Agent turns: one at a time for each session, in the order in which messages were accepted.

A turn is a task beside the actor, never in its way: it asks the actor to commit its outcome. A message's turn goes
waiting -> started -> answered, failed or cancelled; a restart runs a started one once more, as retried, and fails a
retried one (spec section 4). One that need not wait is started from the first, in the commit of its message.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import structlog
import trio

from vigil.actors.agents.base import ANSWER_CHARACTERS_MAX, AgentEntry, Reply, Turn
from vigil.actors.callbacks import Callback, await_callback
from vigil.actors.core.commands import Answer, BeginTurn, CancelTurn, Command, FailTurn, Tick, Transition
from vigil.actors.core.errors import (
    AgentFailed,
    AgentTimedOut,
    MessageNotFound,
    Overloaded,
    RecordDamaged,
    StoreUnavailable,
    VigilError,
)
from vigil.actors.core.records import Message, Session, State, TurnState
from vigil.actors.hub.hub import Chunk, Hub
from vigil.actors.stores.base import OWED, Store
from vigil.actors.turns.owed import Owed, Queue, Speech
from vigil.actors.turns.times import TurnTimes

log = structlog.get_logger()

RETRY_S = 1.0  # until the store is asked again after it has failed
WAITING_MAX = 256  # turns of one session, beside the one that runs
HELD_MAX = 16  # of a session's turns have their message at hand; those behind them read it when they begin
TURN_ENDS: frozenset[TurnState] = frozenset({"answered", "failed", "cancelled"})
_AFTER_RESTART: dict[TurnState, TurnState] = {"waiting": "started", "started": "retried", "retried": "failed"}


class Committer(Protocol):
    """The session's actor, as turns need it: it commits what became of a turn."""

    @property
    def state(self) -> State: ...

    @property
    def session(self) -> Session:
        """The session, while it lives."""

    def tell(self, command: Command, on_result: Callback[Transition], *, always: bool) -> None:
        """`ask` for a callback."""

    async def ask(self, command: Command, *, always: bool) -> object:
        """Commit the effects of one command. Raises VigilError. Cannot be cancelled."""

    def take_out_of_service(self, damage: RecordDamaged) -> None:
        """Take the session out of service: what is stored of it cannot be read."""


Cancel = tuple[CancelTurn, Callback[Transition]]
"""A cancel, and who hears of it: what an actor is told."""


class Claim(NamedTuple):
    """Room for a turn, whose message is stored with `state`; `release` it when the send's fate is known."""

    state: TurnState
    release: Callable[[], None]


class Cancelled(NamedTuple):
    """The last word on a turn, "" when none was wanted; and what the cancel did, if it did anything."""

    state: TurnState
    done: Transition | None


class Turns:
    """The turns of all sessions. A session has a queue and a task only while it has turns."""

    def __init__(
        self,
        agents: Mapping[str, AgentEntry],
        store: Store,
        now: Callable[[], int],
        hub: Hub,
        new_id: Callable[[], str],
        nursery: trio.Nursery,
    ) -> None:
        self._agents = agents
        self._store = store
        self._now = now
        self._hub = hub
        self._new_id = new_id
        self._nursery = nursery
        self._queues: dict[str, Queue] = {}
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

    def claim(self, session_id: str, *, interrupts: bool = False) -> "Claim":
        """Keep room for one more turn while a send is under way. Raises Overloaded when too many wait.

        One that `interrupts` waits for nobody.
        """
        queue = self._queues.setdefault(session_id, Queue())
        waiting = 0 if interrupts else len(queue.owed) + queue.claimed
        if waiting > WAITING_MAX:  # the first of them does not wait, it runs
            raise Overloaded("Too many messages wait for this session's agent")
        state: TurnState = "waiting" if waiting else "started"
        queue.claimed += 1
        return Claim(state, partial(self._release, session_id, queue))

    def _release(self, session_id: str, queue: Queue) -> None:
        queue.claimed -= 1
        self._drop_if_idle(session_id, queue)

    def submit(self, actor: Committer, message: Message, state: TurnState) -> None:
        """Queue the turn of a message that was just committed; `state` is the committed one."""
        self._submit(actor, message, "started" if state == "waiting" else "")

    def resubmit(self, actor: Committer, message: Message, state: TurnState) -> None:
        """Queue the turn of a message that was committed before a restart."""
        self._submit(actor, message, _AFTER_RESTART[state])

    def _submit(self, actor: Committer, message: Message, begins_as: TurnState) -> None:
        queue = self._queues.setdefault(actor.state.id, Queue())
        held = message if len(queue.owed) < HELD_MAX else None
        queue.owed.append(Owed(message.id, message.created_at, begins_as, held))
        if not queue.working:
            queue.working = True
            queue.scope = trio.CancelScope()
            self._nursery.start_soon(self._work, actor, queue, queue.scope)

    def on_end_committed(self, session_id: str, created_at: int) -> None:
        """The end of the turn of the message at `created_at` is committed and published: it is owed no more."""
        queue = self._queues.get(session_id)
        if queue is None:
            return
        for owed in queue.owed:
            if owed.created_at == created_at:
                queue.owed.remove(owed)
                owed.over()
                return

    # --- stopping one (spec section 11)

    async def cancel_turn(self, actor: Committer, message_id: str) -> "Cancelled":
        """Stop the turn on a message.

        Raises MessageNotFound, what keeps the store from committing it, and the session's end.
        """
        while (owed := self._find(actor.state.id, message_id)) is not None:
            if not owed.end:
                done = await await_callback(partial(self._tell_to_cancel, actor, owed))
                return Cancelled("cancelled", done)
            await actor.ask(Tick(), always=True)  # behind the end that is being committed
        turn = await self._store.turn(actor.session.key, message_id)
        if turn is None:
            raise MessageNotFound(message_id)
        if turn in OWED:
            raise Overloaded("The session is being restored")
        return Cancelled(turn, None)

    async def until_quiet(self, actor: Committer) -> None:
        """Until no message and no end of a turn of this session is being committed: what is owed is then known."""
        while (queue := self._queues.get(actor.state.id)) is not None and queue.is_changing():
            await actor.ask(Tick(), always=True)

    def first_owed(self, session_id: str) -> str | None:
        """The message whose turn runs or is the next to run."""
        queue = self._queues.get(session_id)
        return queue.owed[0].id if queue is not None and queue.owed else None

    def interruption(self, actor: Committer) -> list[Cancel]:
        """Cancels all that is owed, when the actor is asked it. Only for a session that is quiet."""
        queue = self._queues.get(actor.state.id)
        owed = queue.owed if queue is not None else ()
        return [self._cancellation(actor, one, _ignore) for one in owed]

    def _find(self, session_id: str, message_id: str) -> Owed | None:
        queue = self._queues.get(session_id)
        return next((owed for owed in queue.owed if owed.id == message_id), None) if queue else None

    def _tell_to_cancel(self, actor: Committer, owed: Owed, on_result: Callback[Transition]) -> None:
        actor.tell(*self._cancellation(actor, owed, on_result), always=True)

    def _cancellation(self, actor: Committer, owed: Owed, on_result: Callback[Transition]) -> Cancel:
        """Stops the turn and what it says. Its end has to be asked of the actor at once."""
        owed.end = "cancelled"
        if owed.end_committed is None:
            owed.end_committed = trio.Event()
        owed.scope.cancel()
        said = owed.speech.cut() if owed.speech is not None else ""
        command = CancelTurn(owed.created_at, owed.id, self._new_id(), said)
        return command, partial(self._cancelled, actor, owed, on_result)

    def _cancelled(
        self, actor: Committer, owed: Owed, on_result: Callback[Transition], outcome: Transition | Exception
    ) -> None:
        """A turn that was stopped stays stopped: what could not be committed is tried again, whoever asks."""
        if isinstance(outcome, StoreUnavailable | Overloaded):
            owed.end = ""
            self._nursery.start_soon(self._cancel_later, actor, owed)
        on_result(outcome)

    async def _cancel_later(self, actor: Committer, owed: Owed) -> None:
        await trio.sleep(RETRY_S)
        if not owed.end and self._find(actor.state.id, owed.id) is owed:
            self._tell_to_cancel(actor, owed, _ignore)

    # --- the end of all

    def cancel(self, session_id: str) -> None:
        """The session is over: stop its running turn, forget the waiting ones."""
        queue = self._queues.pop(session_id, None)
        if queue is not None:
            queue.scope.cancel()

    async def _work(self, actor: Committer, queue: Queue, scope: trio.CancelScope) -> None:
        with scope:
            while queue.owed:
                owed = queue.owed[0]
                with owed.scope:
                    await self._take_turn(actor, owed)
                if owed.end_committed is not None:
                    await owed.end_committed.wait()
            queue.working = False
            self._drop_if_idle(actor.state.id, queue)

    def _drop_if_idle(self, session_id: str, queue: Queue) -> None:
        is_idle = not queue.owed and not queue.claimed and not queue.working
        if is_idle and self._queues.get(session_id) is queue:
            del self._queues[session_id]

    async def _take_turn(self, actor: Committer, owed: Owed) -> None:
        try:
            reply = await self._begin(actor, owed)
        except AgentFailed as failure:
            command = FailTurn(owed.created_at, owed.id, failure.code, str(failure))
            await _commit(actor, command, owed, "failed")
        else:
            content, metadata, finish_reason = reply
            answer = Answer(self._new_id(), content, metadata, owed.created_at, finish_reason)
            await _commit(actor, answer, owed, "answered")

    async def _begin(self, actor: Committer, owed: Owed) -> Reply:
        if owed.begins_as == "failed":
            raise AgentFailed("The agent was interrupted twice while it answered")
        if owed.begins_as:
            await _commit(actor, BeginTurn(owed.created_at, owed.begins_as), owed)
        await trio.lowlevel.checkpoint_if_cancelled()  # the session may be over
        message = owed.message or await self._stored(actor.session.key, owed.created_at)
        return await self._ask_agent(actor, owed, message)

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

    async def _ask_agent(self, actor: Committer, owed: Owed, message: Message) -> Reply:
        session = actor.session
        entry = self._agents.get(session.agent_id)
        if entry is None or entry.agent is None:
            raise AgentFailed("The agent is no longer in the catalogue")
        look_back = partial(self._history, session, message)
        speech = owed.speech = Speech(partial(self._say, session.id, message.id))
        turn = Turn(session, message, look_back, speech.say)
        try:
            with self.times.noting(entry.agent, self._now), trio.fail_after(entry.turn_timeout_s):
                return _checked(await entry.agent.reply(turn))
        except trio.TooSlowError:
            raise AgentTimedOut(f"The agent did not answer within {entry.turn_timeout_s:g} s") from None
        except AgentFailed:
            raise
        except RecordDamaged as damage:
            actor.take_out_of_service(damage)
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
        self._hub.say(Chunk(session_id, self._now(), message_id, piece))


def _ignore(_outcome: Transition | Exception) -> None:
    """Whoever sent what interrupts it learns enough from that."""


def _checked(reply: Reply) -> Reply:
    if not reply.content:
        raise AgentFailed("The agent gave an empty answer")
    if len(reply.content) > ANSWER_CHARACTERS_MAX:
        raise AgentFailed(f"The agent's answer is longer than {ANSWER_CHARACTERS_MAX} characters")
    return reply


async def _commit(actor: Committer, command: Command, owed: Owed, end: TurnState = "") -> None:
    """Have the actor commit it, however long the store takes to come back; the session's end ends the wait."""
    while True:
        await trio.lowlevel.checkpoint_if_cancelled()  # once asked, it waits whoever cancels it
        owed.end = end
        try:
            await actor.ask(command, always=True)
        except (StoreUnavailable, Overloaded):
            owed.end = ""
            await trio.sleep(RETRY_S)
        except VigilError:
            await trio.sleep_forever()  # the session is over: whoever ended it cancels this turn
        else:
            return
