"""Sends calls and tries again what is worth it. Knows no operation of the API."""

import httpx

from vigil_client._async.io import sleep
from vigil_client.answers import no_answer, refusal, time_scale
from vigil_client.calls import Call
from vigil_client.errors import VigilError
from vigil_client.retrying import Attempts, Retrying


class AsyncCaller:
    """A pool of connections to one server, and what is known of how to use it."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        api_key: str | None,
        retrying: Retrying,
        timeout_s: float,
        answer_timeout_s: float,
    ) -> None:
        self.time_scale = 1.0  # of the server, as its last answer told
        self._http = http
        self._api_key = api_key
        self._retrying = retrying
        self._quick = httpx.Timeout(timeout_s)
        self._patient = httpx.Timeout(timeout_s, read=answer_timeout_s)

    async def aclose(self) -> None:
        await self._http.aclose()

    def attempts(self) -> Attempts:
        return Attempts(self._retrying)

    async def ask(self, call: Call) -> httpx.Response:
        """A good answer. Raises the last try's error when there is none to be had."""
        attempts = self.attempts()
        while True:
            try:
                return await self.once(call)
            except VigilError as error:
                pause_s = attempts.pause_after(error)
            await sleep(pause_s)

    async def once(self, call: Call) -> httpx.Response:
        """A good answer, tried once. One that streams is still to be read, and to be closed."""
        try:
            response = await self._http.send(self._request(call), stream=call.streams)
            if not _is_good(response, call):
                await response.aread()
        except httpx.RequestError as error:
            raise no_answer(error, call.name) from error
        self.time_scale = time_scale(response)
        if not _is_good(response, call):
            raise refusal(response)
        return response

    def _request(self, call: Call) -> httpx.Request:
        credentials = call.token or self._api_key
        headers = {**call.headers, **({"Authorization": f"Bearer {credentials}"} if credentials else {})}
        return self._http.build_request(
            call.method,
            call.path,
            params=call.query,
            content=call.body,
            headers=headers,
            timeout=self._patient if call.waits_for_agent else self._quick,
        )


def _is_good(response: httpx.Response, call: Call) -> bool:
    return response.is_success or response.status_code in call.good_statuses
