"""Credentials and what they allow: spec section 6, without a server."""

import base64
import hashlib
import hmac
import uuid
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigil.server.api.auth import (
    SCOPES,
    Authenticator,
    Forbidden,
    Principal,
    Scope,
    Unauthenticated,
    authorize,
    subprotocol_token,
)

SECRET = bytes(range(32))
KEY = "vigil_a-key~of.letters_and-digits"
READER = Principal("0123456789abcdef", "reader", frozenset({"sessions:read"}))
SESSION = "0b5c3f0e-7d1a-4c55-8a52-6f1f3c6f7a01"
OTHER_SESSION = "0b5c3f0e-7d1a-4c55-8a52-6f1f3c6f7a02"
NO_ERROR = 'Bearer realm="vigil"'
INVALID = 'Bearer realm="vigil", error="invalid_token"'

auth = Authenticator({KEY: READER}.get, SECRET)
TOKEN = auth.mint(SESSION)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_bearer_api_key_is_its_principal_whatever_the_case_of_the_scheme(scheme: str) -> None:
    assert auth.authenticate(f"{scheme} {KEY}") is READER


def test_an_api_key_may_come_in_x_api_key() -> None:
    assert auth.authenticate(None, KEY) is READER


def test_a_session_token_may_come_in_either_header() -> None:
    for principal in (auth.authenticate(f"Bearer {TOKEN}"), auth.authenticate(None, TOKEN)):
        assert principal.session_id == principal.id == SESSION


def test_authorization_decides_when_both_headers_come() -> None:
    assert auth.authenticate(f"Bearer {TOKEN}", KEY).session_id == SESSION
    assert auth.authenticate(f"Bearer {KEY}", "not a key") is READER
    with pytest.raises(Unauthenticated) as refusal:
        auth.authenticate("Bearer not-a-key", KEY)
    assert refusal.value.challenge == INVALID


def test_a_header_may_be_given_as_the_list_of_its_values() -> None:
    assert auth.authenticate([f"Bearer {KEY}"], []) is READER
    assert auth.authenticate([], [KEY]) is READER


@pytest.mark.parametrize("nothing", [None, []])
def test_without_credentials_the_challenge_names_no_error(nothing: list[str] | None) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        auth.authenticate(nothing, nothing)
    assert refusal.value.challenge == NO_ERROR


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong-key-wrong-key",
        f"Bearer{KEY}",
        f"Bearer {KEY} {KEY}",
        f"Bearer {KEY},Bearer {KEY}",
        f"Bearer {KEY}\u00e9",
        f"Basic {KEY}",
        "Basic dXNlcjpwYXNz",
        f"Token {KEY}",
        KEY,
    ],
)
def test_bad_credentials_are_an_invalid_token_whatever_their_scheme(header: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        auth.authenticate(header)
    assert refusal.value.challenge == INVALID


@pytest.mark.parametrize("header", ["", "wrong", f"Bearer {KEY}", f"{KEY}, {KEY}", f"{KEY}\u017f", f" {KEY}"])
def test_a_bad_x_api_key_is_an_invalid_token(header: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        auth.authenticate(None, header)
    assert refusal.value.challenge == INVALID


def test_a_repeated_header_is_refused_even_when_its_values_agree() -> None:
    for headers in (([f"Bearer {KEY}"] * 2, None), (None, [KEY, KEY])):
        with pytest.raises(Unauthenticated) as refusal:
            auth.authenticate(*headers)
        assert refusal.value.challenge == INVALID


def test_a_session_token_is_the_id_and_its_hmac_in_base64url() -> None:
    session_id, signature = TOKEN.split(".")
    digest = hmac.new(SECRET, SESSION.encode(), hashlib.sha256).digest()
    assert session_id == SESSION
    assert signature == base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_a_session_token_needs_no_session() -> None:
    assert auth.authenticate(f"Bearer {auth.mint(OTHER_SESSION)}").session_id == OTHER_SESSION


def test_a_session_token_of_another_secret_is_no_token() -> None:
    with pytest.raises(Unauthenticated):
        Authenticator({KEY: READER}.get, bytes(32)).authenticate(f"Bearer {TOKEN}")


SESSION_PART = TOKEN.index(".")  # so long is the session's id


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("0aA._~-+/"))
def test_a_token_with_any_character_changed_is_no_token(at: int, character: str) -> None:
    changed = TOKEN[:at] + character + TOKEN[at + 1 :]
    if changed == TOKEN or (at < SESSION_PART and TOKEN[at] == character.lower()):
        return  # the id is read in any case
    with pytest.raises(Unauthenticated):
        auth.authenticate(f"Bearer {changed}")


@pytest.mark.parametrize("padding", ["=", "==", "A", "."])
def test_a_token_with_anything_after_it_is_no_token(padding: str) -> None:
    with pytest.raises(Unauthenticated):
        auth.authenticate(f"Bearer {TOKEN}{padding}")


def test_the_last_character_of_a_token_has_one_spelling() -> None:
    """Base64 leaves two bits of it unused: a lax decoder would take four tokens for one."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for character in alphabet.replace(TOKEN[-1], ""):
        with pytest.raises(Unauthenticated):
            auth.authenticate(f"Bearer {TOKEN[:-1]}{character}")


@pytest.mark.parametrize("scope", ["sessions:read", "sessions:write", "sessions:manage"])
def test_a_session_token_reads_writes_and_manages_its_own_session(scope: Scope) -> None:
    authorize(auth.authenticate(f"Bearer {TOKEN}"), scope, SESSION)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("session_id", [OTHER_SESSION, str(uuid.UUID(int=0)), "no-uuid", ""])
def test_a_session_token_does_nothing_to_another_session_or_to_none_that_exists(
    scope: Scope, session_id: str
) -> None:
    with pytest.raises(Forbidden):
        authorize(auth.authenticate(f"Bearer {TOKEN}"), scope, session_id)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_session_token_neither_creates_nor_lists_nor_sees_health(scope: Scope) -> None:
    with pytest.raises(Forbidden):
        authorize(auth.authenticate(f"Bearer {TOKEN}"), scope)


@pytest.mark.parametrize("scope", ["sessions:create", "sessions:health"])
def test_a_session_token_lacks_the_other_scopes_on_its_own_session_too(scope: Scope) -> None:
    with pytest.raises(Forbidden) as refusal:
        authorize(auth.authenticate(f"Bearer {TOKEN}"), scope, SESSION)
    assert f'scope="{scope}"' in refusal.value.challenge


@pytest.mark.parametrize("granted", SCOPES)
@pytest.mark.parametrize("needed", SCOPES)
def test_an_api_key_does_on_every_session_what_its_scopes_say_and_no_more(
    granted: Scope, needed: Scope
) -> None:
    principal = Principal("id", "name", frozenset({granted}))
    for session_id in (None, SESSION):
        if granted == needed:
            authorize(principal, needed, session_id)
            continue
        with pytest.raises(Forbidden) as refusal:
            authorize(principal, needed, session_id)
        assert refusal.value.challenge == (
            f'Bearer realm="vigil", error="insufficient_scope", scope="{needed}"'
        )


@pytest.mark.parametrize(
    ("offered", "token"),
    [
        (["vigil.v1", f"bearer.{TOKEN}"], TOKEN),
        ([f"bearer.{KEY}", "vigil.v1"], KEY),
        (["vigil.v1", "bearer."], ""),
        (["vigil.v1"], None),
        ([f"bearer.{KEY}"], None),
        (["vigil.v2", f"bearer.{KEY}"], None),
        ([], None),
    ],
)
def test_a_browser_offers_its_credential_as_a_subprotocol_beside_vigil_v1(
    offered: Sequence[str], token: str | None
) -> None:
    assert subprotocol_token(offered) == token


def test_two_credentials_among_the_subprotocols_are_bad_credentials() -> None:
    with pytest.raises(Unauthenticated) as refusal:
        subprotocol_token(["vigil.v1", f"bearer.{KEY}", f"bearer.{TOKEN}"])
    assert refusal.value.challenge == INVALID


def test_the_subprotocol_is_read_when_no_header_came() -> None:
    offered = ["vigil.v1", f"bearer.{TOKEN}"]
    assert auth.authenticate(None, None, offered).session_id == SESSION
    assert auth.authenticate(f"Bearer {KEY}", None, offered) is READER
    assert auth.authenticate(None, KEY, offered) is READER
    with pytest.raises(Unauthenticated) as refusal:
        auth.authenticate(None, None, ["vigil.v1", "bearer."])
    assert refusal.value.challenge == INVALID


def test_no_refusal_and_no_principal_shows_the_credential() -> None:
    wrong = "wrong-wrong-wrong-wrong"
    with pytest.raises(Unauthenticated) as refusal:
        auth.authenticate(f"Bearer {wrong}")
    signature = TOKEN.rpartition(".")[2]
    principal = auth.authenticate(f"Bearer {TOKEN}")
    with pytest.raises(Forbidden) as forbidden:
        authorize(principal, "sessions:create")
    shown = f"{refusal.value!r} {vars(refusal.value)} {forbidden.value!r} {principal!r} {auth!r}"
    assert wrong not in shown
    assert signature not in shown
