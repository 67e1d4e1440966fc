"""An answer as it is made, whole even when the connection breaks in the middle."""

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, Self, TypeVar

import httpx
from pydantic import ValidationError

from vigil_client._async.caller import AsyncCaller
from vigil_client._async.io import Act, abandon, sleep
from vigil_client.answers import no_answer, request_id
from vigil_client.calls import Call
from vigil_client.errors import BadAnswer, NoAnswer, VigilError, error_of
from vigil_client.models import Message, Model, Piece, SentMessage
from vigil_client.sse import Decoder, ServerSent

T = TypeVar("T")
M = TypeVar("M", bound=Model)


class WhileItLives(Protocol):
    """Does something in a session, or in another one when that has gone."""

    async def __call__(self, act: Act[T]) -> T: ...


class AsyncStream:
    """Iterate: `Piece`s, then the `Message`. `sent` is the stored message of the user, `answer` the agent's.

    An agent that answers nobody gives neither. Read to its end it closes itself; to stop early use `with`.
    What the agent says after that is in the history all the same.
    """

    def __init__(self, caller: AsyncCaller, call: Callable[[], Call], while_it_lives: WhileItLives) -> None:
        self.sent: SentMessage | None = None
        self.answer: Message | None = None
        self._caller = caller
        self._call = call
        self._while_it_lives = while_it_lives
        self._attempts = caller.attempts()
        self._ready: deque[Piece | Message] = deque()
        self._error: VigilError | None = None
        self._is_over = False
        self._said = ""
        self._is_again = False
        self._decoder = Decoder()
        self._response: httpx.Response | None = None
        self._data: AsyncIterator[bytes]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece | Message:
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            await self._bring()
        return self._ready.popleft()

    async def aclose(self) -> None:
        self._is_over = True
        self._ready.clear()
        await self._hang_up()

    async def text(self) -> AsyncIterator[str]:
        """The text alone, in pieces."""
        async for part in self:
            if isinstance(part, Piece):
                yield part.text

    async def message(self) -> Message:
        """The whole answer, when it is there. BadAnswer from an agent that answers nobody."""
        async for _ in self:
            pass
        if self.answer is None:
            raise BadAnswer("The agent did not answer: its kind is one that never does")
        return self.answer

    async def _bring(self) -> None:
        """Some more of it; after a failure that may pass, by another connection."""
        try:
            await self._read_on()
        except VigilError as error:
            await self._hang_up()
            try:
                pause_s = self._attempts.pause_after(error)
            except VigilError:
                self._is_over = True
                raise
            await sleep(pause_s)

    async def _read_on(self) -> None:
        if self._error is not None:
            raise self._error
        if self._response is None:
            await self._connect()
        try:
            data = await anext(self._data, None)
        except httpx.RequestError as error:
            raise no_answer(error, "The stream broke off") from error
        if data is None:
            await self._end()
        else:
            for event in self._decoder.feed(data):
                await self._take(event)

    async def _connect(self) -> None:
        """The same request again, with the same key, asks for the same answer."""

        async def open_it() -> httpx.Response:
            return await self._caller.once(self._call())

        self._is_again, self._error, self._decoder = self.sent is not None, None, Decoder()
        self._response = await (open_it() if self._is_again else self._while_it_lives(open_it))
        self._data = self._response.aiter_bytes()

    async def _take(self, event: ServerSent) -> None:
        """What a second connection hears of the pieces begins somewhere: the message at its end has them all."""
        if event.event == "userMessage":
            self.sent = self._read(SentMessage, event)
        elif event.event == "chunk" and not self._is_again:
            self._say(self._read(Piece, event))
        elif event.event == "agentResponse":
            self._answered(self._read(Message, event))
            await self._hang_up()
        elif event.event == "error":
            self._error = error_of(_json(event), request_id=self._request_id())

    def _say(self, piece: Piece) -> None:
        self._said += piece.text
        self._ready.append(piece)

    def _answered(self, message: Message) -> None:
        missing = message.content.removeprefix(self._said)
        if self._said != message.content and message.content.startswith(self._said) and self.sent is not None:
            self._say(Piece(text=missing, message_id=self.sent.id))
        self.answer = message
        self._ready.append(message)
        self._is_over = True

    async def _end(self) -> None:
        if self.sent is None or self._said:
            raise NoAnswer("The stream ended in the middle of an answer")
        self._is_over = True
        await self._hang_up()

    async def _hang_up(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            await abandon(self._data)
            await response.aclose()

    def _read(self, model: type[M], event: ServerSent) -> M:
        try:
            return model.model_validate_json(event.data)
        except ValidationError as error:
            wrong = f"The stream has a {event.event} that is no {model.__name__}"
            raise BadAnswer(wrong, request_id=self._request_id()) from error

    def _request_id(self) -> str | None:
        return None if self._response is None else request_id(self._response)


def _json(event: ServerSent) -> Any:
    try:
        return json.loads(event.data)
    except ValueError:
        return None
