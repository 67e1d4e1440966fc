"""Who is asking and what they may do (spec section 6). Knows no HTTP framework, no files and no sessions.

A credential is an API key, with the scopes that it was given, or a session token, good for its own session
alone.
No error, repr or attribute here holds a credential.

AuthError
  Unauthenticated   no credentials, or bad ones (401)
  Forbidden         good ones that are not enough (403)
"""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from vigil.actors.core.errors import VigilError

Scope = Literal["sessions:create", "sessions:read", "sessions:write", "sessions:manage", "sessions:health"]

SCOPES: tuple[Scope, ...] = (
    "sessions:create",
    "sessions:read",
    "sessions:write",
    "sessions:manage",
    "sessions:health",
)
SUBPROTOCOL = "vigil.v1"

_TOKEN_SCOPES: frozenset[Scope] = frozenset({"sessions:read", "sessions:write", "sessions:manage"})
_TOKENS_MAX = 4096  # so many that were good are remembered
_BEARER_SUBPROTOCOL = "bearer."
_CHALLENGE = 'Bearer realm="vigil"'
# RFC 6750 section 2.1, b64token; RFC 9110 section 11.1: the scheme's case does not count.
_CREDENTIAL = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.ASCII | re.IGNORECASE)

Header = str | Sequence[str] | None
"""A header's value; all of its values, when it came more than once; None or nothing when it did not come."""


class Principal(NamedTuple):
    """Who was let in. `id` is stable for one API key, and is the session's id for a session token."""

    id: str
    name: str
    scopes: frozenset[Scope]
    session_id: str | None = None  # of a session token: the only session that it opens
    credential: str = (
        ""  # of an API key: tells the one that `keys rotate` made from the one before, ids being one
    )


class AuthError(VigilError):
    """The root. `challenge` is the WWW-Authenticate header (RFC 6750 section 3)."""

    def __init__(self, message: str, challenge: str) -> None:
        super().__init__(message)
        self.challenge = challenge


class Unauthenticated(AuthError):
    pass


class Forbidden(AuthError):
    def __init__(self, message: str, scope: Scope) -> None:
        super().__init__(message, f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"')


class Authenticator:
    """Tells who presents a credential. `find_key` knows the API keys, `secret` signs the session tokens."""

    def __init__(self, find_key: Callable[[str], Principal | None], secret: bytes) -> None:
        self._find_key = find_key
        self.use_secrets(secret)

    def use_secrets(self, secret: bytes, *before: bytes) -> None:
        """From now on `secret` signs; what those `before` have signed is good too."""
        self._signing, *self._retired = [hmac.new(one, digestmod="sha256") for one in (secret, *before)]
        self._good_token = lru_cache(_TOKENS_MAX)(
            self._check_token
        )  # a good one is, while the secrets are these

    def authenticate(
        self, authorization: Header, x_api_key: Header = None, subprotocols: Sequence[str] = ()
    ) -> Principal:
        """Who sent these headers. The first of the three that came decides. Raises Unauthenticated.

        `subprotocols` are those that a WebSocket client offers.
        """
        credential = _presented(authorization, x_api_key, subprotocols)
        return self._find_key(credential) or self._good_token(credential)

    def mint(self, session_id: str) -> str:
        """The session's token: always the same one."""
        return f"{session_id}.{_signature(self._signing, session_id)}"

    def _check_token(self, credential: str) -> Principal:
        named, _, signature = credential.rpartition(".")
        session_id = named.lower()  # some platforms print ids in upper case; the server writes them in lower
        for keyed in (self._signing, *self._retired):
            if hmac.compare_digest(signature, _signature(keyed, session_id)):
                return Principal(session_id, "session token", _TOKEN_SCOPES, session_id)
        raise _bad_credentials()


def _signature(keyed: hmac.HMAC, session_id: str) -> str:
    mac = keyed.copy()  # half the time of keying anew, on each request
    mac.update(session_id.encode())
    return urlsafe_b64encode(mac.digest()).rstrip(b"=").decode()


def authorize(principal: Principal, scope: Scope, session_id: str | None = None) -> None:
    """Let `principal` do what needs `scope` on this session, or on none in particular (create, list, health).

    Raises Forbidden. It never asks whether the session exists, so that its answer tells nothing about that.
    """
    if scope not in principal.scopes:
        raise Forbidden(f"This needs the scope {scope}", scope)
    if principal.session_id is not None and principal.session_id != session_id:
        raise Forbidden("A session token is good for its own session only: use an API key", scope)


def subprotocol_token(offered: Sequence[str]) -> str | None:
    """The credential among the subprotocols `vigil.v1, bearer.<token>`: browsers cannot set headers.

    Raises Unauthenticated when there are several.
    """
    if SUBPROTOCOL not in offered:
        return None
    tokens = [name for name in offered if name.startswith(_BEARER_SUBPROTOCOL)]
    token = _single(tokens)
    return None if token is None else token.removeprefix(_BEARER_SUBPROTOCOL)


def _presented(authorization: Header, x_api_key: Header, subprotocols: Sequence[str]) -> str:
    """The one credential that decides, in good syntax."""
    header = _single(authorization)
    if header is not None:
        match = _BEARER.fullmatch(header)
        if match is None:
            raise _bad_credentials()
        return match[1]
    credential = _single(x_api_key)
    if credential is None:
        credential = subprotocol_token(subprotocols)
    if credential is None:
        raise Unauthenticated(
            "Credentials are needed: send 'Authorization: Bearer KEY' with an API key or a session token",
            _CHALLENGE,
        )
    if _CREDENTIAL.fullmatch(credential) is None:
        raise _bad_credentials()
    return credential


def _single(header: Header) -> str | None:
    if header is None or isinstance(header, str):
        return header
    if len(header) > 1:
        raise _bad_credentials()
    return header[0] if header else None


def _bad_credentials() -> Unauthenticated:
    return Unauthenticated(
        "These credentials are not valid: the API key or session token is wrong or revoked",
        f'{_CHALLENGE}, error="invalid_token"',
    )
