"""From an HTTP answer to a value or an error. Nothing here sends or waits."""

from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from vigil_client.errors import ApiError, BadAnswer, NoAnswer, TimedOut, error_of
from vigil_client.models import Model

M = TypeVar("M", bound=Model)


def read(model: type[M], response: httpx.Response) -> M:
    """The answer as a value. Raises BadAnswer for what is none."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        wrong = (
            f"{_asked(response)} answered what is no {model.__name__}: is {response.url.host} a Vigil server?"
        )
        raise BadAnswer(wrong, request_id=request_id(response)) from error


def refusal(response: httpx.Response) -> ApiError:
    """The error of an answer that has been read and is no success."""
    return error_of(
        _json(response),
        status=response.status_code,
        request_id=request_id(response),
        retry_after_s=_retry_after_s(response),
    )


def no_answer(error: Exception, what: str) -> NoAnswer:
    """What a broken connection or a time-out is for the caller."""
    kind = TimedOut if isinstance(error, (httpx.TimeoutException, TimeoutError)) else NoAnswer
    return kind(f"{what}: {error or type(error).__name__}")


def request_id(response: httpx.Response) -> str | None:
    told: str | None = response.headers.get("X-Request-Id")
    return told


def time_scale(response: httpx.Response) -> float:
    """How fast the server's time runs: what it tells in seconds of its time is so much shorter here."""
    return _number(response.headers.get("Vigil-Time-Scale")) or 1.0


def _retry_after_s(response: httpx.Response) -> float | None:
    seconds = _number(response.headers.get("Retry-After"))
    return None if seconds is None else seconds / time_scale(response)


def _number(text: str | None) -> float | None:
    try:
        return max(0.0, float(text or ""))
    except ValueError:  # none, or a date as proxies may send it
        return None


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _asked(response: httpx.Response) -> str:
    return f"{response.request.method} {response.request.url.path}"
