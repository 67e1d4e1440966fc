"""Idempotency keys: what was done with one is done once, for 24 hours (spec section 4)."""

# ruff: noqa: PLR2004  status codes are the vocabulary here

from vigil.scenarios.model.observed import Violation
from vigil.scenarios.model.rules.answers import difference
from vigil.scenarios.model.session import Exchange, Saved
from vigil.scenarios.model.world import Json, epoch_ms

KEPT_MS = 24 * 60 * 60 * 1000


def find_saved(keys: dict[str, Saved], exchange: Exchange) -> Saved | None:
    key = exchange.sent.idempotency_key
    saved = None if key is None else keys.get(key)
    return saved if saved is not None and exchange.sent.at_ms < saved.at_ms + KEPT_MS else None


def remember(keys: dict[str, Saved], exchange: Exchange, answer: Json | None, *, is_sure: bool) -> None:
    key = exchange.sent.idempotency_key
    if key is None or (not is_sure and key in keys and keys[key].is_sure):
        return
    keys[key] = Saved(exchange.sent.body, answer, exchange.sent.at_ms, is_sure=is_sure)


def check_key_refusal(keys: dict[str, Saved], exchange: Exchange) -> None:
    """409 while another with the key is on its way, 422 after one with another body. Raises Violation."""
    saved = find_saved(keys, exchange)
    if exchange.status == 409 and not exchange.has_rival:
        raise Violation("4 key in flight", "409 with nothing on its way", exchange.number)
    if exchange.status == 422 and (saved is None or saved.body == exchange.sent.body):
        raise Violation("4 key reused", "422 for a key that was not used with another body", exchange.number)


def is_same(saved: Saved, exchange: Exchange, answer: Json, created_text: str) -> bool:
    """Whether a 201 is the one that this key stands for. Raises Violation when it had to be and is not."""
    if saved.body != exchange.sent.body:
        if saved.is_sure:
            raise Violation("4 key reused", "another body was accepted under a used key", exchange.number)
        return False
    if saved.answer is not None:
        if answer != saved.answer:
            raise Violation(
                "4 repeat", f"a repeat differs: {difference(answer, saved.answer)}", exchange.number
            )
        return True
    if epoch_ms(created_text) >= exchange.sent.at_ms > saved.at_ms:
        if saved.is_sure:
            raise Violation("4 repeat", "what a key stands for was done again", exchange.number)
        return False
    return True
