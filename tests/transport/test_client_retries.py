"""What is tried again and what never is, how often, and after which pause."""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
import urllib3

from kvstore.errors import (
    AuthorizationError,
    ConflictError,
    InvalidRequestError,
    KeyNotFoundError,
    StoreError,
    TransportError,
    UnavailableError,
)
from kvstore.transport.exchange import Exchange, Request
from kvstore.transport.policy import Policy
from kvstore.transport.sender import Sender
from tests.cases import each
from tests.transport.clients import EVERYTHING, HASTY, announced, client, whole
from tests.transport.wire_server import BOUND, Step, Wire, WireServer, answer, refused_port

#: To ask for, to change unconditionally, to change under a condition, and to change once.
REPEATABLE: dict[str, Callable[[Any], object]] = {
    "GET": lambda store: store.get_data("k").read(),
    "HEAD": lambda store: store.exists("k"),
    "PUT": lambda store: store.set_data("k", b"d"),
    "DELETE": lambda store: store.delete("k"),
    "GET if": lambda store: store.get_data("k"),
}
CONDITIONAL: dict[str, Callable[[Any], object]] = {
    "PUT if": lambda store: store.set_data("k", b"d", if_match="r"),
    "PUT new": lambda store: store.set("k", b"d", if_none_match="*"),
    "PUT metadata if": lambda store: store.set_metadata("k", {"n": 1}, if_match="r"),
    "DELETE if": lambda store: store.delete("k", if_match="r"),
}
ONCE_ONLY: dict[str, Callable[[Any], object]] = {
    "POST": lambda store: store.update_metadata("k", {"n": 1}),
    "POST auth": lambda store: store.update_permissions("k", {"read": {"x"}}),
    "POST if": lambda store: store.update_metadata("k", {"n": 1}, if_match="r"),
}


def lost(end: Callable[[Wire], object]) -> Step:
    def step(wire: Wire) -> None:
        wire.body()
        end(wire)

    return step


def cut(wire: Wire) -> None:
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    wire.close()


LOST: dict[str, Step] = {
    "reset": lost(Wire.reset),
    "closed": lost(Wire.close),
    "cut": lost(cut),
}
DOUBTFUL: dict[str, Step] = {**LOST, **{str(code): answer(code) for code in (500, 502, 504)}}
NOT_DONE = {str(code): answer(code) for code in (429, 503)}
GOOD = answer(200, b"", ETag='"r"')


WAYS = pytest.mark.parametrize("credentials", [lambda: None, whole], ids=["lean", "whole"])


@pytest.mark.parametrize("ask", [*REPEATABLE.values(), *CONDITIONAL.values()])
@WAYS
def test_what_is_the_same_twice_is_tried_again(ask, credentials):
    faults = [*DOUBTFUL.values(), *NOT_DONE.values(), answer(408), answer(425)]
    steps = [step for fault in faults for step in (fault, fault, fault, GOOD)]
    with WireServer(steps, service=announced(*EVERYTHING)) as server:
        with client(server, policy=HASTY, credentials=credentials()) as store:
            for _ in faults:
                ask(store)
    assert len({(str(seen), seen.body) for seen in server.seen}) == 1


@pytest.mark.parametrize("ask", ONCE_ONLY.values(), ids=ONCE_ONLY)
@WAYS
def test_what_is_not_the_same_twice_is_sent_once(ask, credentials):
    with WireServer([*DOUBTFUL.values()], service=announced(*EVERYTHING)) as server:
        with client(server, policy=HASTY, credentials=credentials()) as store:
            for number in range(len(DOUBTFUL)):
                with pytest.raises(TransportError) as caught:
                    ask(store)
                assert caught.value.attempts == 1
                assert len(server.seen) == number + 1


@each("ask", [*CONDITIONAL.values(), *ONCE_ONLY.values()])
def test_what_the_server_did_not_do_may_be_sent_again_whatever_it_is(ask):
    steps = [step for fault in NOT_DONE.values() for step in (fault, fault, GOOD)]
    with WireServer(steps, service=announced(*EVERYTHING)) as server:
        with client(server, policy=HASTY) as store:
            for _ in NOT_DONE:
                ask(store)
        assert len(server.seen) == len(steps)


@each("ask", [*CONDITIONAL.values(), *ONCE_ONLY.values()])
def test_what_was_not_sent_may_be_sent_again_whatever_it_is(ask):
    class Unreachable(requests.adapters.HTTPAdapter):
        left = 0

        def send(self, *args: Any, **options: Any) -> Any:
            if self.left:
                self.left -= 1
                cause = urllib3.exceptions.NewConnectionError(None, "refused")  # type: ignore[arg-type]
                raise requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "", cause))  # type: ignore[arg-type]
            return super().send(*args, **options)

    adapter = Unreachable()
    with (
        requests.Session() as session,
        WireServer([GOOD], service=announced(*EVERYTHING)) as server,
    ):
        session.mount("http://", adapter)
        with client(server, policy=HASTY, credentials=(None, session)) as store:
            store.info()
            adapter.left = 3
            ask(store)


@each("ask", [*REPEATABLE.values(), *CONDITIONAL.values(), *ONCE_ONLY.values()])
def test_a_refusal_is_final(ask):
    statuses = [400, 401, 403, 405, 409, 410, 412, 413, 501, 505, 507]
    with WireServer(
        [answer(status) for status in statuses], service=announced(*EVERYTHING)
    ) as server:
        with client(server, policy=HASTY) as store:
            for status in statuses:
                with pytest.raises(StoreError) as caught:
                    ask(store)
                assert caught.value.status == status


def test_a_server_that_is_not_there_is_tried_as_often_as_the_policy_says():
    pauses: list[float] = []
    url = f"http://127.0.0.1:{refused_port()}/keys/k/data"
    for attempts in (1, 2, 5):
        policy = Policy(attempts=attempts)
        sender = Sender(None, url, policy)
        for method in ("GET", "POST", "PUT"):
            pauses.clear()
            with pytest.raises(TransportError) as caught:
                Exchange(sender, policy, sleep=pauses.append)(Request(method, url))
            assert caught.value.attempts == attempts
            assert len(pauses) == attempts - 1
            assert "refused" in str(caught.value)
        sender.close()


def test_a_server_that_comes_up_is_reached():
    steps: list[Step] = [lost(Wire.reset), answer(503), answer(200, b"up")]
    with WireServer(steps) as server, client(server, policy=HASTY) as store:
        assert store.get_data("k").read() == b"up"


def test_attempts_are_counted_over_faults_of_different_kinds():
    steps: list[Step] = [answer(503), lost(Wire.reset)]
    with WireServer(steps) as server, client(server, policy=HASTY) as store:
        with pytest.raises(TransportError) as caught:
            store.update_metadata("k", {})
    assert caught.value.attempts == 2
    with WireServer([answer(503), lost(Wire.close), answer(500), answer(502)]) as server:
        with client(server, policy=HASTY) as store, pytest.raises(TransportError) as caught:
            store.get_data("k")
    assert (caught.value.attempts, caught.value.status) == (4, 502)


# -- pauses --------------------------------------------------------------------------------


def pauses_of(steps: list[Step], policy: Policy, **request: Any) -> tuple[list[float], Any]:
    """The pauses made for these answers, and what came of it."""
    pauses: list[float] = []
    with WireServer(steps) as server:
        url = f"{server.url}/keys/k/data"
        sender = Sender(None, url, policy)
        try:
            exchange = Exchange(sender, policy, sleep=pauses.append)
            outcome: Any = exchange(Request("GET", url, **request))
        except StoreError as error:
            outcome = error
        finally:
            sender.close()
    return pauses, outcome


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_obeyed_up_to_a_limit(status):
    policy = Policy(retry_after_limit=60)
    told = [answer(status, Retry_After=7), answer(status, Retry_After=" 60 "), GOOD]
    pauses, outcome = pauses_of(told, policy)
    assert pauses == [7, 60]
    assert outcome.status == 200
    pauses, outcome = pauses_of([answer(status, Retry_After=61)], policy)
    assert pauses == []
    assert isinstance(outcome, UnavailableError)
    assert (outcome.retry_after, outcome.attempts) == (61, 1)


def test_retry_after_as_a_date():
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    past = email.utils.formatdate(time.time() - 30, usegmt=True)
    told: list[Step] = [answer(503, Retry_After=soon), answer(503, Retry_After=past), GOOD]
    pauses, _ = pauses_of(told, Policy())
    assert 0 < pauses[0] <= 30
    assert pauses[1] == 0
    late = email.utils.formatdate(time.time() + 3600, usegmt=True)
    pauses, outcome = pauses_of([answer(503, Retry_After=late)], Policy())
    assert pauses == []
    assert outcome.retry_after > 3000


@each(
    "value",
    ["", "soon", "-1", "1.5", "9" * 5000, "Fri, 31 Dec 99999 23:59:59 GMT", "Fri, 99 Dec", "nan"],
)
def test_a_retry_after_that_says_nothing_is_ignored(value):
    policy = Policy(backoff=0.5)
    pauses, outcome = pauses_of([answer(503, Retry_After=value), GOOD], policy)
    assert outcome.status == 200
    assert 0 <= pauses[0] <= 0.5


def test_a_pause_ends_the_call_where_it_would_outlast_its_time():
    policy = Policy(call_timeout=20)
    pauses, outcome = pauses_of([answer(503, Retry_After=21)], policy)
    assert pauses == []
    assert outcome.retry_after == 21
    pauses, _ = pauses_of([answer(503, Retry_After=21), GOOD], policy, streaming=True)
    assert pauses == [21], "data may take as long as it flows"


def test_pauses_double_at_random_up_to_a_limit(monkeypatch):
    ceilings: list[float] = []

    def highest(low: float, high: float) -> float:
        assert low == 0
        ceilings.append(high)
        return high

    monkeypatch.setattr("random.uniform", highest)
    policy = Policy(attempts=7, backoff=0.2, backoff_limit=2)
    pauses, outcome = pauses_of([answer(500)] * 7, policy)
    assert pauses == ceilings == pytest.approx([0.2, 0.4, 0.8, 1.6, 2, 2])
    assert outcome.attempts == 7


# -- what is in doubt ----------------------------------------------------------------------


@each("fault", DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_key_that_is_gone_after_a_lost_answer_was_deleted(fault):
    with WireServer([fault, answer(404, b"gone"), GOOD]) as server:
        with client(server, policy=HASTY) as store:
            store.delete("k")
            store.delete("k")
        assert len(server.seen) == 3


@pytest.mark.parametrize("fault", NOT_DONE.values(), ids=NOT_DONE)
def test_a_key_that_is_not_there_was_not_deleted_by_a_try_that_did_nothing(fault):
    with WireServer([fault, answer(404)]) as server, client(server, policy=HASTY) as store:
        with pytest.raises(KeyNotFoundError):
            store.delete("k")


def test_only_a_delete_may_find_its_work_done():
    with (
        WireServer([lost(Wire.reset), answer(404)]) as server,
        client(server, policy=HASTY) as store,
    ):
        with pytest.raises(KeyNotFoundError):
            store.get_data("k")


def test_an_idle_connection_that_the_server_closed_is_opened_anew():
    closed = threading.Event()

    def serve_and_close(wire: Wire) -> None:
        wire.send(answer(200, b"first"))
        wire.close()
        closed.set()

    # Not even what may be sent only once fails: the end is seen before anything is sent.
    with WireServer([serve_and_close, answer(204)]) as server, client(server) as store:
        assert store.get_data("k").read() == b"first"
        assert closed.wait(BOUND)
        store.update_metadata("k", {})
    assert [seen.connection for seen in server.seen] == [0, 1]


def test_a_connection_that_ends_with_the_next_request_is_a_lost_answer():
    def reset_on_the_next(wire: Wire) -> None:
        wire.body()
        wire.reset()

    steps: list[Step] = [answer(200, b"1"), reset_on_the_next, answer(200, b"2")]
    with WireServer(steps) as server, client(server, policy=HASTY) as store:
        assert store.get_data("k").read() == b"1"
        assert store.get_data("k").read() == b"2"
    assert [seen.connection for seen in server.seen] == [0, 0, 1]


# -- what would only fail again ------------------------------------------------------------


@each(
    "page",
    [
        answer(200, b"x", Content_Length="abc"),
        answer(200, b"x", Content_Length="1, 2"),
        answer(200, b"x", Content_Length=None),
        answer(200, b"x", Content_Encoding="gzip"),
        b"HTTP/1.1 200 OK\r\noops\r\nContent-Length: 1\r\n\r\nx",
        answer(200, Content_Length=None, Transfer_Encoding="chunked") + b"zz\r\n",
        answer(301, Location="/"),
        answer(206, b"x"),
    ],
)
def test_nonsense_is_not_asked_for_again(page):
    with WireServer([page, GOOD]) as server, client(server, policy=HASTY) as store:
        with pytest.raises(TransportError) as caught:
            store.get_metadata("k")
        assert caught.value.attempts == 1
        store.exists("k")


def test_a_bundle_of_certificates_that_is_missing_is_told_at_once():
    with requests.Session() as session:
        session.verify = "/nowhere/bundle.pem"
        sender = Sender(session, "https://127.0.0.1:1", Policy())
        with pytest.raises(TransportError) as caught:
            Exchange(sender, Policy(), sleep=pytest.fail)(Request("GET", "https://127.0.0.1:1/"))
        sender.close()
    assert "/nowhere/bundle.pem" in str(caught.value)


@pytest.mark.parametrize("value", ["line\nbreak", "snow ☃"])
def test_a_header_that_cannot_be_sent_is_a_wrong_request(value):
    for hooks in ([], [lambda response, **told: None]):
        with requests.Session() as session, WireServer() as server:
            session.headers["X-Mine"] = value
            session.hooks["response"].extend(hooks)
            with client(server, policy=HASTY, credentials=(None, session)) as store:
                with pytest.raises(InvalidRequestError):
                    store.exists("k")


@pytest.mark.parametrize("hook", ["raises", "reads"])
def test_hooks_that_raise_or_read_change_no_error(hook):
    def look(response: requests.Response, **told: object) -> None:
        if hook == "raises":
            response.raise_for_status()
        else:
            assert response.text is not None

    steps = [answer(404), answer(503), answer(200, b"data"), answer(403, b"x"), answer(412)]
    with requests.Session() as session, WireServer(steps) as server:
        session.hooks["response"].append(look)
        with client(server, policy=HASTY, credentials=(None, session)) as store:
            assert not store.exists("k")
            assert store.get_data("k").read() == b"data"
            with pytest.raises(AuthorizationError):
                store.get_metadata("k")
            with pytest.raises(ConflictError):
                store.set_data("k", b"d")
