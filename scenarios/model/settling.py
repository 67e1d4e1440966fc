"""In which order the commands of a session are judged, and what becomes of it where answers are missing.

Commands wait in `open` until they and all before them are answered or lost; then each is judged in every possible
world, and those that fit stay.
"""

# ruff: noqa: PLR2004  status codes are the vocabulary here

from vigil.scenarios.model.judging import contradiction, fitting_worlds
from vigil.scenarios.model.observed import Violation
from vigil.scenarios.model.rules.history import NEVER, Query
from vigil.scenarios.model.rules.keys import check_key_refusal, find_saved, remember
from vigil.scenarios.model.rules.sends import is_repeat, keep
from vigil.scenarios.model.session import WAITING_MAX, Exchange, Session
from vigil.scenarios.model.world import World, after_activity, after_patch, after_renewal

WORLDS_MAX = 64
_LATER_MS = 1000  # an echo takes no longer


def settle(session: Session, now: int) -> None:
    """Judge everything whose turn it is. Raises Violation."""
    waiting = session.open
    while waiting and (waiting[0].fate or _has_begun_to_wait(waiting[0], now)):
        exchange = waiting.pop(0)
        session.worlds = _apply(session, exchange)
        for reader in session.readers:
            if exchange.began < reader.ended:
                reader.versions.append(session.worlds)
    if session.readers:
        _judge_readers(session)


def withdraw(session: Session, exchange: Exchange) -> None:
    """It was refused before it did anything."""
    if exchange in session.open:
        session.open.remove(exchange)
    elif exchange in session.readers:
        session.readers.remove(exchange)
    if exchange.asked is not None:
        session.history.withdraw(exchange.asked)
        exchange.asked = None


def answered_while_waiting(session: Session, exchange: Exchange) -> None:
    """The end of a wait for the reply; the message itself was accepted long before."""
    assert exchange.asked is not None
    if exchange.status == 201:
        keep(session, exchange)
    elif exchange.is_unanswered:
        session.history.accept(exchange.asked, exchange.body["details"]["userMessage"], exchange.ended)
    else:
        fitting, why = fitting_worlds(session, exchange, session.worlds)
        if not fitting:
            raise contradiction(exchange, why)


# --- in which order


def _has_begun_to_wait(exchange: Exchange, now: int) -> bool:
    """Whether a send that waits for its reply has been accepted for sure: it would have been refused by now."""
    if exchange.request is None or exchange.request.get("transport", "websocket") == "websocket":
        return False
    is_plain = exchange.sent.idempotency_key is None
    if exchange.sent.operation != "sendMessage" or not (
        exchange.is_sure and is_plain and now > exchange.sent.at_ms
    ):
        return False
    exchange.fate = "waits"
    return True


def _judge_readers(session: Session) -> None:
    first_open = session.open[0].began if session.open else NEVER
    for reader in list(session.readers):
        if reader.fate and first_open > reader.ended:
            session.readers.remove(reader)
            if reader.fate == "answered":
                _judge_reader(session, reader)


def _judge_reader(session: Session, reader: Exchange) -> None:
    """It saw one of the states between its beginning and its end."""
    why = "it saw nothing"
    for worlds in reversed(reader.versions):
        fitting, why = fitting_worlds(session, reader, worlds)
        if fitting:
            if worlds is session.worlds and len(reader.versions) == 1:
                session.worlds = fitting
            break
    else:
        raise contradiction(reader, why)
    if reader.sent.operation == "getMessages" and reader.status == 200:
        query = Query(reader.sent.query)
        is_prompt = session.is_echoed and reader.is_calm and not session.was_troubled
        answers_by = reader.sent.at_ms - _LATER_MS if is_prompt else 0
        session.history.check_page(reader.body, query, reader.began, reader.ended, reader.number, answers_by)


def _apply(session: Session, exchange: Exchange) -> list[World]:
    """The worlds after a command. Raises Violation when its answer fits none."""
    if exchange.fate == "answered" and exchange.status in (409, 422) and exchange.asked is not None:
        _check_refusal(session, exchange)
    if exchange.sent.operation == "sendMessage" and is_repeat(session, exchange):
        return session.worlds
    if exchange.fate != "answered" or exchange.is_unanswered:
        return _after_silence(session, exchange)
    worlds = session.worlds
    if _has_waited(exchange):
        worlds = [
            *worlds,
            *_after_silence(session, exchange),
        ]  # it ended before or after the message was stored
    fitting, why = fitting_worlds(session, exchange, worlds)
    if not fitting:
        raise contradiction(exchange, why)
    _note(session, exchange)
    return fitting


def _check_refusal(session: Session, exchange: Exchange) -> None:
    """409 and 422 of a send: of its key, or because of an earlier turn. Raises Violation."""
    if exchange.is_unanswered:
        return
    if exchange.status == 422 or exchange.body["code"] == "IDEMPOTENCY_CONFLICT":
        check_key_refusal(session.keys, exchange)
    elif exchange.request.get("whenBusy") != "reject" or not session.history.answers:
        raise Violation("11 whenBusy", "409 for a message that does not mind", exchange.number)


def _has_waited(exchange: Exchange) -> bool:
    """Whether a session that is over was answered to somebody whose message may have been stored before."""
    assert exchange.answer is not None
    is_over = exchange.asked is not None and exchange.status in (404, 410)
    return is_over and exchange.answer.at_ms > exchange.sent.at_ms


def _note(session: Session, exchange: Exchange) -> None:
    """What else an answer tells that fits."""
    if exchange.status == 201:
        keep(session, exchange)
    elif exchange.asked is not None and not _has_waited(exchange):
        session.history.withdraw(exchange.asked)
    elif exchange.sent.operation == "endSession" and exchange.status == 200:
        session.ended = min(session.ended, exchange.ended)


def _after_silence(session: Session, exchange: Exchange) -> list[World]:
    """The worlds after a command that was carried out somewhen, perhaps."""
    is_sure = exchange.is_sure and exchange.until == NEVER and not exchange.has_rival
    is_sure = is_sure and find_saved(session.keys, exchange) is None
    if exchange.asked is not None and session.history.unanswered() > WAITING_MAX:
        is_sure = False
    is_told = exchange.is_unanswered
    low = exchange.sent.at_ms
    high = low if is_sure else min(exchange.until, exchange.answer.at_ms if exchange.answer else NEVER)
    if (is_sure or is_told) and exchange.asked is not None:
        exchange.asked.lost_since = exchange.ended if exchange.ended != NEVER else exchange.began
        if is_told:
            wire = exchange.body["details"]["userMessage"]
            session.history.accept(exchange.asked, wire, exchange.ended)
            remember(session.keys, exchange, None, is_sure=True)
    if exchange.fate == "lost":
        remember(session.keys, exchange, None, is_sure=is_sure)
    after = [_carried_out(exchange, part, low, high) for world in session.worlds for part in world.split()]
    worlds = list(dict.fromkeys(after if is_sure or is_told else [*session.worlds, *after]))
    return worlds[:WORLDS_MAX]


def _carried_out(exchange: Exchange, world: World, low: int, high: int) -> World:
    operation = exchange.sent.operation
    if operation == "endSession":
        return world._replace(gone=True)
    if world.gone or low >= world.ends_hi:
        return world
    high = min(high, world.ends_hi - 1)
    if operation == "renewSession":
        return after_renewal(world, low, high) or world
    if operation == "updateTimeout":
        after = after_patch(world, exchange.request)
        return after if low < after.ends_hi else world
    return after_activity(world, low, high)
