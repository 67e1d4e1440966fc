"""What one answer may say in one world, and the world after it (spec section 3). Pure."""

# ruff: noqa: PLR2004  status codes are the vocabulary here

from collections.abc import Callable

from vigil.scenarios.model.observed import Violation, Why
from vigil.scenarios.model.rules.answers import difference
from vigil.scenarios.model.session import Exchange, Session
from vigil.scenarios.model.world import World, after_activity, after_patch, after_renewal, epoch_ms, iso


def fitting_worlds(session: Session, exchange: Exchange, worlds: list[World]) -> tuple[list[World], str]:
    """The worlds after this answer where it fits, and why it does not elsewhere."""
    found, why = [], ""
    for world in worlds:
        for part in world.split():
            after = judge(session, exchange, part)
            if isinstance(after, str):
                why = after
            else:
                found.append(after)
    return (found if len(found) == 1 else list(dict.fromkeys(found))), why


def judge(session: Session, exchange: Exchange, world: World) -> World | str:
    """The world after this answer, or why the answer does not fit."""
    assert exchange.answer is not None  # only what was answered is judged
    low, high = exchange.sent.at_ms, min(exchange.answer.at_ms, exchange.until)
    status = exchange.status
    if status == 404:
        is_over = world.gone or high >= world.ends_lo + session.tombstone_ms
        right = 410 if high >= world.ends_hi else _SUCCESS.get(exchange.sent.operation, 200)
        return world if is_over else Why(f"404, and it lives until {iso(world.ends_hi)}", {"status": right})
    if status == 410:
        return _expired(exchange, world, high)
    if exchange.sent.operation == "endSession":
        return _ended(session, exchange, world, low)
    if world.gone or low >= world.ends_hi:
        when = "its end" if world.gone else iso(world.ends_hi)
        return Why(f"{status} after {when}", {"status": 404 if world.gone else 410})
    judged = _JUDGES.get(exchange.sent.operation)
    return (
        world
        if judged is None or status == 409
        else judged(session, exchange, world, low, min(high, world.ends_hi - 1))
    )


def contradiction(exchange: Exchange, why: str) -> Violation:
    """An answer fits no world."""
    rules = {404: "3 not found", 410: "3 expired", 422: "3 renewal refused", 400: "3 change refused"}
    rule = rules.get(exchange.status, f"3 {exchange.sent.operation}")
    return Violation(rule, why, exchange.number)


def _expired(exchange: Exchange, world: World, high: int) -> World | str:
    if world.gone:
        return Why("410 after its end", {"status": 404})
    details = exchange.body["details"]
    ends = epoch_ms(details["expiresAt"])
    narrowed = world.with_end(ends)
    if narrowed is None or high < ends:
        told = f"410 at {iso(high)} with expiresAt {details['expiresAt']}, not {iso(world.ends_lo)}"
        is_early = high < world.ends_lo
        status = _SUCCESS.get(exchange.sent.operation, 200) if is_early else 410
        return Why(told, {"status": status} if is_early else {"body.details.expiresAt": iso(world.ends_lo)})
    active = narrowed.with_activity(epoch_ms(details["lastActivity"]))
    if active is None:
        at = iso(world.active_lo)
        told = f"410 with lastActivity {details['lastActivity']}, not {at}"
        return Why(told, {"body.details.lastActivity": at})
    expected = {
        "sessionId": exchange.sent.session,
        "expiresAt": iso(ends),
        "reason": "max_duration" if ends == world.cap else "inactivity",
        "lastActivity": iso(active.active_lo),
        "renewalCount": world.renewals,
    }
    return active if details == expected else difference(details, expected, "body.details")


def _ended(session: Session, exchange: Exchange, world: World, low: int) -> World | str:
    was_over = world.gone and session.ended < exchange.began
    if was_over or low >= world.ends_hi + session.tombstone_ms:
        return Why("ended twice", {"status": 404})
    expected = {"success": True, "message": f"Session {session.id} deleted successfully"}
    return world._replace(gone=True) if exchange.body == expected else difference(exchange.body, expected)


def _told(session: Session, exchange: Exchange, world: World, *_taken_up: int) -> World | str:
    """A full session object."""
    assert exchange.answer is not None
    body, after = exchange.body, world
    if not world.is_exact:
        narrowed = world.with_end(epoch_ms(body["expiresAt"]))
        after = (narrowed or world).with_activity(epoch_ms(body["lastActivity"])) or world
    ends, left = after.ends_lo, body["timeRemaining"]
    now = ends - left if left > 0 else max(exchange.answer.at_ms, ends)
    if not exchange.sent.at_ms <= now <= max(exchange.answer.at_ms, ends if left == 0 else 0):
        told = f"timeRemaining {left} is of {iso(now)} with expiresAt {iso(ends)}"
        return Why(told, {"body.expiresAt": iso(ends), "body.timeRemaining": ends - exchange.sent.at_ms})
    expected = session.description(after, now)
    return after if body == expected else difference(body, expected)


def _heartbeat(session: Session, exchange: Exchange, world: World, low: int, high: int) -> World | str:
    if low != high:
        at = epoch_ms(exchange.body["lastActivity"])
        if not low <= at <= high:
            return f"lastActivity {exchange.body['lastActivity']} is not between {iso(low)} and {iso(high)}"
        low = high = at
    return _told(session, exchange, after_activity(world, low, high), low, high)


def _renewal(session: Session, exchange: Exchange, world: World, low: int, high: int) -> World | str:
    after = after_renewal(world, low, high)
    if exchange.status == 422:
        details = {"sessionId": session.id, "reason": "max_duration"}
        is_right = after is None and exchange.body["details"] == details
        told = f"422 {exchange.body['details']} with expiresAt {iso(world.ends_lo)}"
        return world if is_right else Why(told, {"status": 422 if after is None else 200})
    if after is None:
        return Why("renewed at the cap", {"status": 422})
    return _told(session, exchange, after, low, high)


def _patch(session: Session, exchange: Exchange, world: World, low: int, high: int) -> World | str:
    after = after_patch(world, exchange.request)
    if exchange.status == 400:
        told = f"refused, though it would expire at {iso(after.ends_lo)}"
        return world if high >= after.ends_lo else Why(told, {"status": 200})
    if low >= after.ends_hi:
        return Why(f"accepted, though it would have expired at {iso(after.ends_hi)}", {"status": 400})
    return _told(session, exchange, after, low, high)


def _send(session: Session, exchange: Exchange, world: World, low: int, high: int) -> World | str:
    if exchange.status == 422:
        return world  # of its key
    body, told = exchange.body, exchange.body["sessionStatus"]
    at, ends = epoch_ms(body["createdAt"]), epoch_ms(told["expiresAt"])
    history = session.history
    if at < low or (at > high and not (history.at(at - 1) or history.unanswered() or history.asked)):
        return f"createdAt {body['createdAt']} of a message sent at {iso(low)}"
    high = max(low, min(high, at))
    was_renewed = world.config[1] and world.ends_lo < world.cap
    active = after_activity(world, low, high)
    after = active.with_end(ends)
    if after is None:
        why = f"expiresAt {told['expiresAt']} after a message at {iso(low)}"
        return Why(why, {"body.sessionStatus.expiresAt": iso(active.ends_lo)})
    if was_renewed and ends < after.cap:
        after = after._replace(active_lo=after.renewed_lo, active_hi=after.renewed_hi)
    nears = {after.is_near(at), after.is_near(after.active_lo), after.is_near(after.active_hi)}
    expected = {
        "expiresAt": iso(ends),
        "renewalCount": after.renewals,
        "wasRenewed": was_renewed,
        "isNearExpiration": told["isNearExpiration"]
        if told["isNearExpiration"] in nears
        else not told["isNearExpiration"],
    }
    return after if told == expected else difference(told, expected, "body.sessionStatus")


_SUCCESS = {"sendMessage": 201, "listenToEvents": 101}
_JUDGES: dict[str, Callable[[Session, Exchange, World, int, int], World | str]] = {
    "getSession": _told,
    "heartbeat": _heartbeat,
    "renewSession": _renewal,
    "updateTimeout": _patch,
    "sendMessage": _send,
}
