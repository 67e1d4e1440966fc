"""The HTTP server behind an agent: one pooled client, bounded answers, retries of what is safe.

It knows statuses, sizes and patience, not what is asked or answered. Redirects are not followed, cookies are not
kept, compression is not asked for, so that a size on the wire is a size in memory. What a client is told names
no URL and repeats nothing that the server said; the log has more, but no key.
"""

import re
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from random import Random
from typing import Any, TypeVar

import httpx
import jiter
import structlog
import trio

from vigil.actors.agents.config import RemoteConfig
from vigil.actors.agents.event_stream import BOM
from vigil.actors.core.errors import AgentFailed, AgentTimedOut

log = structlog.get_logger()

ANSWER_BYTES_MAX = 2 * 1024 * 1024  # the longest answer, each character escaped, and metadata
PAUSES_S = (0.25, 1.0)  # at most, before the second try and the third
PIECE_BYTES = 4096  # of a body that is read in one turn of the loop
LINGER_S = 0.2  # for the end of a body whose content is whole, so that the connection can be used again
CONNECTIONS_MAX = 100
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
_BUSY = frozenset(
    {429, 502, 503, 504, 529}
)  # the last is nobody's standard and some providers' word for overloaded
_KEEPS_QUIET = frozenset({401, 403})  # servers repeat the key, or part of it, in what they say with these
_EXCERPT_BYTES_MAX = 4096
_EXCERPT_MAX = 200
_NUMBER = re.compile(r"[0-9]{1,99}(\.[0-9]{0,99})?")

T = TypeVar("T")


class _Passing(AgentFailed):
    """A failure after which the same request may be sent again."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Remote:
    """One URL to post to. `resend_after` are the failures of a connection after which sending again is safe."""

    def __init__(
        self,
        config: RemoteConfig,
        url: str,
        *,
        secret: str | None,
        headers: Mapping[str, str] | None = None,
        resend_after: tuple[type[httpx.TransportError], ...] = NOT_SENT,
    ) -> None:
        self._agent_id = config.id
        self._url = url
        self._secret = secret
        self._resend_after = resend_after
        self._timeout_s = config.turn_timeout_s
        self._client = httpx.AsyncClient(
            headers={"User-Agent": "vigil", "Accept-Encoding": "identity", **(headers or {})},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            verify=_authorities(config.trust_env),
            trust_env=config.trust_env,
            timeout=httpx.Timeout(config.turn_timeout_s, connect=config.connect_timeout_s),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        )

    async def ask(
        self,
        body: bytes,
        headers: Callable[[], Mapping[str, str]],
        read: Callable[[httpx.Response], Awaitable[T]],
        message_id: str,
    ) -> T:
        """Post `body`, and again after a passing failure; give what `read` makes of a good answer.

        `headers` is asked at each try. How long a pause is follows from `message_id`, so that many sessions do
        not come back at once. Raises AgentFailed, AgentTimedOut; a failure in `read` is not tried again unless
        `resend_after` says so.
        """
        give_up_at = trio.current_time() + self._timeout_s
        draw = Random(message_id)  # noqa: S311  spreads retries, hides nothing
        for pause_s in PAUSES_S:
            try:
                return await self._try(body, headers(), read)
            except _Passing as failure:
                wait_s = failure.retry_after_s
                if wait_s is None:
                    wait_s = pause_s * draw.uniform(0.5, 1.0)
                if trio.current_time() + wait_s >= give_up_at:
                    raise
            await trio.sleep(wait_s)
        return await self._try(body, headers(), read)

    def failed(self, what: str, **details: object) -> AgentFailed:
        """Log what is wrong with an answer, and return the text for the client."""
        log.warning("an agent's server failed", agent_id=self._agent_id, what=what, **details)
        return AgentFailed(f"The agent's server {what}")

    def excerpt(self, text: str) -> str:
        """The beginning of what a server said, for the log: in one line, without the key."""
        if self._secret:
            text = text.replace(self._secret, "***")
        return re.sub(r"\s+", " ", text)[:_EXCERPT_MAX]

    async def close(self) -> None:
        """Let go of all connections; turns that still use them fail."""
        await self._client.aclose()

    async def _try(
        self, body: bytes, headers: Mapping[str, str], read: Callable[[httpx.Response], Awaitable[T]]
    ) -> T:
        request = self._client.build_request(
            "POST", self._url, content=body, headers={"Content-Type": "application/json", **headers}
        )
        try:
            async with aclosing(await self._client.send(request, stream=True)) as response:
                if response.is_success:
                    self._check_is_plain(response.headers)
                    return await read(response)
                raise await self._refusal(response)
        except httpx.TransportError as error:
            raise self._broken(error) from None

    def _check_is_plain(self, headers: httpx.Headers) -> None:
        encoding = headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise self.failed(
                "compressed its answer, which was not asked for", encoding=self.excerpt(encoding)
            )

    async def _refusal(self, response: httpx.Response) -> AgentFailed:
        status = response.status_code
        said = None if status in _KEEPS_QUIET else self.excerpt(await self._beginning(response))
        failure = self.failed(f"answered {status}", said=said)
        return _Passing(str(failure), _retry_after_s(response.headers)) if status in _BUSY else failure

    async def _beginning(self, response: httpx.Response) -> str:
        body = bytearray()

        def take(chunk: bytes) -> bool:
            body.extend(chunk)
            return len(body) >= _EXCERPT_BYTES_MAX

        with suppress(httpx.TransportError), trio.move_on_after(LINGER_S):
            await read_chunks(response, take)
        return body.decode(errors="replace")

    def _broken(self, error: httpx.TransportError) -> AgentFailed:
        if isinstance(error, NOT_SENT):
            what = "cannot be reached"
        elif isinstance(error, httpx.TimeoutException):
            return AgentTimedOut(f"The agent did not answer within {self._timeout_s:g} s")
        else:
            what = "broke off the connection"
        failure = self.failed(what, error=repr(error))
        return _Passing(str(failure)) if isinstance(error, self._resend_after) else failure


async def read_chunks(response: httpx.Response, take: Callable[[bytes], bool]) -> None:
    """Hand the body to `take` in pieces as it comes, until that says True: nothing more is needed.

    Raises what `take` raises. The loop is left by cancelling it, never from inside: Trio wants generators run to
    their end, and httpx has five of them around each body. Others have their turn between two pieces: what takes
    64 KiB of empty events whole stops everybody for as long.
    """
    failure: Exception | None = None
    enough = False
    with trio.CancelScope() as rest:
        async for chunk in response.aiter_raw():
            for piece in () if enough else _pieces(chunk):
                try:
                    enough = take(piece)
                except Exception as error:
                    failure, enough = error, True
                    rest.cancel()
                if enough:
                    rest.deadline = trio.current_time() + LINGER_S
                    break
                await trio.lowlevel.cancel_shielded_checkpoint()
    if failure is not None:
        raise failure


def _pieces(chunk: bytes) -> Iterator[bytes]:
    return (chunk[start : start + PIECE_BYTES] for start in range(0, len(chunk), PIECE_BYTES))


async def read_object(remote: Remote, response: httpx.Response) -> dict[str, Any]:
    """The JSON object that the whole body is, whatever its content type says.

    Raises AgentFailed for anything else, and for 2 MiB or more."""
    body = bytearray()

    def take(chunk: bytes) -> bool:
        body.extend(chunk)
        if len(body) >= ANSWER_BYTES_MAX:
            raise remote.failed("gave an answer that is too long", bytes_max=ANSWER_BYTES_MAX)
        return False

    await read_chunks(response, take)
    return json_object(remote, bytes(body))


def json_object(remote: Remote, text: bytes) -> dict[str, Any]:
    """Parse strictly: no duplicate keys, NaN, lone surrogates. Raises AgentFailed."""
    try:
        value = jiter.from_json(text.removeprefix(BOM), allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise remote.failed("gave an answer that is not JSON", error=str(error)[:_EXCERPT_MAX]) from None
    if not isinstance(value, dict):
        raise remote.failed("gave an answer that is not a JSON object")
    return value


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """The wait that a server asks for: in milliseconds, as some providers say it, in seconds, or up to a date.

    How far a date lies ahead is measured by the server's own clock, in the Date header.
    """
    if milliseconds := _NUMBER.fullmatch(headers.get("Retry-After-Ms", "").strip()):
        return float(milliseconds[0]) / 1000
    text = headers.get("Retry-After", "").strip()
    if seconds := _NUMBER.fullmatch(text):
        return float(seconds[0])
    try:
        ahead = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("Date", ""))
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, ahead.total_seconds())


@lru_cache(maxsize=2)
def _authorities(trust_env: bool) -> ssl.SSLContext:
    """Reading the certificates takes a while: once for all agents."""
    return httpx.create_ssl_context(trust_env=trust_env)
