"""Whom a step of a script is about, as whom it comes, and what goes over the wire."""

from tests.scenarios.play.plays import only_failure
from tests.scenarios.playing import played

# --- sessions, names, credentials


def test_a_step_without_a_session_is_about_the_one_created_last() -> None:
    steps = """
    - create: {userId: ana}
      as: first
    - create: {userId: ben}
      as: second
    - get:
      expect: {body: {userId: ben}}
    - get: first
      expect: {body: {userId: ana, sessionId: "${first.sessionId}"}}
    """
    play = played(steps)
    assert play.verdict == "held", play.failures
    assert [(seen.name, seen.user_id) for seen in play.sessions] == [("first", "ana"), ("second", "ben")]


def test_a_refused_create_is_not_the_one_created_last() -> None:
    assert played("- create: {userId: ana}\n- create: {userId: ''}\n  expect: 400\n- get:").verdict == "held"


def test_a_step_before_any_session_fails_and_says_so() -> None:
    assert only_failure(played("- get:"))[2] == "there is no session yet"


def test_what_was_saved_can_be_used_and_what_is_not_there_cannot_be_saved() -> None:
    steps = """
    - create:
    - send: Hello
      as: hello
      save: {status: sessionStatus, text: content}
    - send: "${text} again, ${hello.authorId}, ${status.renewalCount} times"
      expect: {body: {content: "Hello again, user-456, 1 times"}}
    - history: {limit: 1, before: "${hello.createdAt}"}
      expect: 400
    """
    assert played(steps).verdict == "held"
    assert (
        only_failure(played("- create:\n  save: {x: nothing.here}"))[2]
        == "there is no nothing.here to save as x"
    )


def test_the_key_the_own_token_or_nothing_lets_one_in() -> None:
    steps = """
    - create:
    - get: {}
      auth: token
    - list:
      auth: token
      expect: 403
    - get: {}
      auth: none
      expect: {status: 401, headers: {WWW-Authenticate: {regex: "^Bearer"}}}
    """
    assert played(steps).verdict == "held"


def test_raw_changes_what_goes_over_the_wire_and_nothing_else() -> None:
    steps = """
    - create:
      as: talk
    - send: Hello
      raw: {body: '{"content": "a", "content": "b"}'}
      expect: 400
    - send: Hello
      raw: {json: {content: Hello, colour: red}}
      expect: {status: 400, body: {"details.errors[0].path": colour}}
    - send: Hello
      raw: {headers: {Content-Type: text/plain}}
      expect: 415
    - send: Hello
      raw: {headers: {Authorization: null}}
      expect: 401
    - send: Hello
      raw: {headers: {Authorization: null, X-API-KEY: "${key}"}}
    - send: Hello
      raw: {body: "[", repeat: 40}
      expect: 400
    - get:
      raw: {path: "/api/messaging/sessions/${talk.sessionId}/", method: GET}
      expect: 404
    - get:
      raw: {method: PUT}
      expect: {status: 405, headers: {Allow: {regex: DELETE}}}
    - history:
      raw: {query: "limit=0&limit=1"}
      expect: 400
    """
    play = played(steps)
    assert play.verdict == "held", play.failures


def test_bad_values_are_sent_as_they_are() -> None:
    steps = """
    - create: {timeoutConfig: {timeoutMinutes: 4}}
      expect: {status: 400, body: {"details.errors[*].path": [timeoutConfig.timeoutMinutes]}}
    - create:
    - retime: {timeoutMinutes: "60"}
      expect: 400
    - history: {limit: many}
      expect: 400
    """
    assert played(steps).verdict == "held"


def test_a_repeated_key_gives_the_same_message() -> None:
    steps = """
    - create:
    - send: {content: once, idempotencyKey: one}
      as: first
    - send: {content: once, idempotencyKey: one}
      expect: {body: {id: "${first.id}"}}
    - send: {content: twice, idempotencyKey: one}
      expect: {status: 422, body: {code: IDEMPOTENCY_KEY_REUSED}}
    """
    assert played(steps).verdict == "held"


def test_an_sse_answer_reads_as_its_events() -> None:
    steps = """
    - create:
    - send: {content: Hi, transport: sse}
      expect:
        body:
          "events[*].event": [userMessage, chunk, agentResponse]
          "events[0].data.content": Hi
          "events[-1].data.isAgent": true
    """
    play = played(steps)
    assert play.verdict == "held", play.failures
