"""A profile: which request is limited, who is the subject, what the limit is. Read from YAML; it asks nobody."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from vigil.loadtests.oracle.answers import Limit
from vigil.loadtests.runner.options import LoadError
from vigil.scenarios.language.durations import Duration

SUBJECT = "{subject}"


class RequestTemplate(BaseModel):
    """`{subject}` stands somewhere in its URL, headers or body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "GET"
    url: Annotated[str, Field(pattern=r"^https?://")]
    headers: dict[str, str] = {}
    body: str | dict[str, Any] | list[Any] | None = None


def _limit(value: object) -> object:
    return Limit.parse(value) if isinstance(value, str) else value


class Profile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    request: RequestTemplate
    subjects: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
    limit: Annotated[Limit, BeforeValidator(_limit)]
    window: Duration | None = None  # in place of the limit's second, minute or hour
    refused: Annotated[tuple[Annotated[int, Field(ge=400, le=599)], ...], Field(min_length=1)] = (429,)
    retry_after: str = "Retry-After"
    run_time: Duration | None = None
    at_once: Annotated[int, Field(ge=1, le=1000)] = 20
    slack: Duration = 1

    @property
    def window_s(self) -> float:
        return self.limit.window_s if self.window is None else self.window / 1000

    @property
    def run_s(self) -> float:
        """Usually long enough to fill each window twice and see it empty again."""
        return 2.5 * self.window_s if self.run_time is None else self.run_time / 1000

    @property
    def limit_text(self) -> str:
        return f"{self.limit.requests} in {self.window_s:g} s"


def load(path: Path) -> Profile:
    """Raises LoadError: one line for each fault."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        profile = Profile.model_validate(content)
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise LoadError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        lines = (f"{path}: {'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in faults)
        raise LoadError("\n".join(lines)) from None
    if SUBJECT not in profile.request.model_dump_json():
        raise LoadError(f"{path}: request: {SUBJECT} stands nowhere, so nobody can be told from another")
    return profile
