"""Messages as the answer to a send tells of them, and repeats of one (spec section 4)."""

# ruff: noqa: PLR2004  status codes are the vocabulary here

from vigil.scenarios.model.observed import Violation
from vigil.scenarios.model.rules.answers import difference
from vigil.scenarios.model.rules.keys import find_saved, is_same, remember
from vigil.scenarios.model.session import Exchange, Session
from vigil.scenarios.model.world import Json, epoch_ms


def keep(session: Session, exchange: Exchange) -> None:
    """A message was accepted: it is what was sent, and it is there from now on."""
    assert exchange.asked is not None
    wire = _message(session, exchange.body)
    expected = exchange.asked.fields
    if not expected.items() <= wire.items() or ("attachments" in wire) != ("attachments" in expected):
        raise Violation("4 message", difference(wire, expected), exchange.number)
    session.history.accept(exchange.asked, wire, exchange.ended)
    remember(session.keys, exchange, without_reply(exchange.body), is_sure=True)
    _learn_reply(session, exchange)


def _message(session: Session, body: Json) -> Json:
    """What a 201 says of a message, as histories show it."""
    names = ("id", "content", "authorId", "createdAt", "metadata", "attachments")
    wire = {name: body[name] for name in names if name in body} | {"isAgent": False}
    if wire.get("authorId") != session.user:
        raise Violation("4 author", f"authorId {wire.get('authorId')} in a session of {session.user}")
    return wire


def _learn_reply(session: Session, exchange: Exchange) -> None:
    """The reply that came with the answer is the agent's message."""
    reply = exchange.body.get("agentResponse")
    if reply is None:
        return
    wire = {name: value for name, value in reply.items() if name != "text"}
    if reply.get("text") != reply["content"] or epoch_ms(reply["createdAt"]) <= epoch_ms(
        exchange.body["createdAt"]
    ):
        raise Violation(
            "4 agentResponse", f"a reply to {exchange.body['createdAt']}: {reply}", exchange.number
        )
    session.history.learn(wire, exchange.ended, exchange.number)


def without_reply(body: Json) -> Json:
    return {name: value for name, value in body.items() if name not in ("agentResponse", "error")}


def is_repeat(session: Session, exchange: Exchange) -> bool:
    """Whether this send only repeats what its key stands for, and then says the same."""
    saved = find_saved(session.keys, exchange)
    if saved is None or exchange.asked is None:
        return False
    if exchange.fate == "lost" and saved.is_sure:
        session.history.withdraw(exchange.asked)
        return True
    if exchange.status != 201 and not exchange.is_unanswered:
        return False
    if exchange.status != 201:
        wire = exchange.body["details"]["userMessage"]
        is_older = saved.is_sure or epoch_ms(wire["createdAt"]) < exchange.sent.at_ms
        if wire["id"] not in session.history.by_id and not is_older:
            return False
    elif not is_same(saved, exchange, without_reply(exchange.body), exchange.body["createdAt"]):
        return False
    else:
        wire = _message(session, exchange.body)
    session.history.withdraw(exchange.asked)
    session.history.learn(wire, exchange.ended, exchange.number)
    if exchange.status == 201:
        saved.is_sure, saved.answer = True, without_reply(exchange.body)
        _learn_reply(session, exchange)
    return True
