"""Queries of requests, and how many problems are listed and how."""

import json

import pytest
from pydantic import BaseModel

from tests.server.input.problems import (
    FILE,
    OWNERS,
    attach,
    query_problems,
)
from vigil.server.input.schemas import (
    CreateSession,
    EventsQuery,
    Invalid,
    ListSessionsQuery,
    MessagesQuery,
    validate_body,
    validate_query,
)

# -- Queries


def test_a_query_has_its_defaults() -> None:
    listing = validate_query(ListSessionsQuery, [])
    assert (listing.agent_id, listing.user_id, listing.status) == (None, None, "active")
    assert (listing.limit, listing.offset) == (50, 0)
    messages = validate_query(MessagesQuery, [])
    assert (messages.limit, messages.before, messages.after) == (50, None, None)
    assert validate_query(EventsQuery, []).last_event_id is None


NUMBERS: list[tuple[type[BaseModel], str, int, int]] = [
    (ListSessionsQuery, "limit", 1, 1_000),
    (ListSessionsQuery, "offset", 0, 10_000),
    (MessagesQuery, "limit", 1, 100),
    (MessagesQuery, "before", 0, 2**63 - 1),
    (MessagesQuery, "after", 0, 2**63 - 1),
    (EventsQuery, "lastEventId", 0, 2**63 - 1),
]


@pytest.mark.parametrize(("model", "name", "least", "most"), NUMBERS)
def test_a_querys_number_is_ascii_digits_in_its_range(
    model: type[BaseModel], name: str, least: int, most: int
) -> None:
    for good in (str(least), str(most), f"00{most}"):
        query = validate_query(model, [(name, good)])
        assert query.model_dump(by_alias=True)[name] == int(good)
    for bad in (str(most + 1), "9" * 5_000, *([str(least - 1)] if least else [])):
        assert "must be at" in query_problems(model, (name, bad))[name]
    for bad in (
        "",
        " 5",
        "5 ",
        "+5",
        "-5",
        "5.0",
        "5e0",
        "0x5",
        "1_0",
        "\u0661",
        "\u096b",
        "²",
        "five",
        "null",
        "5\n",
    ):
        assert "digits" in query_problems(model, (name, bad))[name]


def test_a_status_is_one_of_three() -> None:
    for good in ("active", "expired", "all"):
        assert validate_query(ListSessionsQuery, [("status", good)]).status == good
    for bad in ("", "Active", "ended"):
        assert query_problems(ListSessionsQuery, ("status", bad)) == {
            "status": "must be 'active', 'expired' or 'all'"
        }


def test_repeated_and_unknown_names_are_named() -> None:
    refused = query_problems(
        ListSessionsQuery, ("limit", "5"), ("limit", "5"), ("order", "asc"), ("agent_id", "x")
    )
    assert refused == {
        "limit": "is given more than once",
        "order": "is not known here",
        "agent_id": "is not known here",
    }
    assert query_problems(ListSessionsQuery, ("limit", "0"), ("", "x")) == {
        "limit": "must be at least 1",
        '""': "is not known here",
    }


# -- How problems are told


def test_the_message_says_the_first_problem_and_that_there_are_others() -> None:
    with pytest.raises(Invalid, match=r"^userId is required$"):
        validate_body(CreateSession, {"agentId": "x"})
    with pytest.raises(Invalid, match=r"^agentId is required; details\.errors has the others$"):
        validate_body(CreateSession, {})
    with pytest.raises(Invalid, match=r"^the request must be an object$"):
        validate_body(CreateSession, [])


def test_what_the_client_sent_is_not_repeated_at_length() -> None:
    body = {
        "agentId": "x" * 50_000,
        "k" * 50_000: 1,
        "metadata": {"m" * 50_000: None},
        "timeoutConfig": {"timeoutMinutes": 10**3000},
    }
    with pytest.raises(Invalid) as refused:
        validate_body(CreateSession, body)
    assert len(refused.value.errors) == 5
    assert len(json.dumps(refused.value.errors)) < 1_000


@pytest.mark.parametrize(
    "body",
    [
        {str(n): 1 for n in range(20_000)},
        {**OWNERS, "metadata": {"nulls": [None] * 50_000}},
        {**OWNERS, "timeoutConfig": {str(n): 1 for n in range(20_000)}},
    ],
    ids=["fields", "nulls", "config"],
)
def test_of_very_many_problems_the_first_hundred_are_listed(body: object) -> None:
    with pytest.raises(Invalid) as refused:
        validate_body(CreateSession, body)
    assert len(refused.value.errors) == 101
    assert refused.value.errors[-1] == {"path": "", "message": "has more problems than these 100"}


def test_ten_attachments_with_very_many_unknown_fields_are_refused_with_the_first_hundred() -> None:
    file = FILE | {str(n): 1 for n in range(3_000)}
    assert len(attach(*[file] * 10)) == 101
