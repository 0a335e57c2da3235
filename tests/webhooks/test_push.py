"""A real gateway pushes to a real server: what arrives, what counts as delivered, what is tried again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from standardwebhooks.webhooks import Webhook as Receiver
from standardwebhooks.webhooks import WebhookVerificationError

from gateway.webhooks.breaker import FAILURES_MAX
from tests.process import GatewayProcess, free_port, wait_for
from tests.webhooks.conftest import SECONDS, Push
from tests.webhooks.sink import Answering, Received, Sink, first, status

SOON = {"backoff_ms": [20]}


def verify(received: Received, *secrets: str) -> None:
    """Check a request as a receiver does: with the specification's own library."""
    for secret in secrets:
        Receiver(secret).verify(received.body, received.headers)


def test_a_message_arrives_as_it_is_and_signed(push: Push) -> None:
    push.make(url=push.sink.url(push.path + "?a=b%20c"), authorization="Bearer marked")
    push.publish(b'{"x": 1}', content_type="application/json", x_property_Colour="red", x_key="k 1")
    (received,) = push.got()
    headers = received.headers
    assert (received.body, received.path) == (b'{"x": 1}', push.path + "?a=b%20c")
    assert headers["content-type"] == "application/json"
    assert headers["x-property-colour"] == "red"
    assert (headers["x-key"], headers["x-topic"]) == ("k 1", f"{push.name}/t")
    assert (headers["x-webhook"], headers["x-attempt"]) == (push.name, "1")
    assert headers["authorization"] == "Bearer marked"
    assert headers["host"] == f"127.0.0.1:{push.sink.port}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < SECONDS
    verify(received, push.secret)
    with pytest.raises(WebhookVerificationError):
        verify(received._replace(body=b'{"x": 2}'), push.secret)
    push.delivered()
    assert push.depth() == 0


@pytest.mark.parametrize("body", [b"", b"\x00\xff" * 1000, b'"%s"' % (b"x" * 2_000_000)], ids=len)
def test_bodies_of_all_kinds(push: Push, body: bytes) -> None:
    push.make()
    push.publish(body)
    (received,) = push.got()
    assert received.body == body
    if body.startswith(b'"'):  # the library wants JSON
        verify(received, push.secret)


def test_events(push: Push) -> None:
    push.make(format="cloudevents")
    push.publish(b'{"x": 1}', content_type="application/json")
    said = {"ce_specversion": "1.0", "ce_id": "7", "ce_source": "/s", "ce_type": "t.x"}
    push.publish(b'{"x": 2}', content_type="application/json", **said)
    found = {event["type"]: event for event in map(json.loads, (one.body for one in push.got(2)))}
    made, kept = found["gateway.message"], found["t.x"]
    assert (made["type"], made["subject"], made["data"]) == ("gateway.message", f"{push.name}/t", {"x": 1})
    assert (kept["id"], kept["source"], kept["data"]) == ("7", "/s", {"x": 2})
    for received in push.got(2):
        assert received.headers["content-type"] == "application/cloudevents+json"
        assert not any(name.startswith("ce-") for name in received.headers)
        verify(received, push.secret)
    push.make(format="plain")
    push.publish(b"{}", content_type="application/json", **said)
    assert push.got(3)[2].headers["ce-type"] == "t.x", "binary mode"


def test_a_secret_of_ones_own(push: Push) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert "secret" not in push.make(secret=secret), "who gave it has it"
    push.publish(b"{}")
    verify(push.got()[0], secret)


@pytest.mark.parametrize("code", [201, 204, 299])
def test_any_2xx_is_delivered(push: Push, code: int) -> None:
    push.sink.answers[push.path] = status(code)
    push.make()
    push.publish(b"1", b"2")
    push.delivered(2)
    assert len(push.got()) == 2


@pytest.mark.parametrize("code", [301, 302, 307, 308, 400, 401, 404, 418, 429, 500, 502, 503])
def test_everything_else_is_tried_again(push: Push, code: int) -> None:
    elsewhere = f"{push.path}-elsewhere"
    push.sink.answers[push.path] = lambda answering, number: answering.send(
        code if number < 3 else 200, b"no", location=push.sink.url(elsewhere)
    )
    push.make(policy=SOON)
    push.publish(b"1")
    push.delivered()
    assert [one.headers["x-attempt"] for one in push.got()] == ["1", "2", "3"]
    assert not push.sink.got(elsewhere), "redirects are not followed"
    ids = {one.headers["webhook-id"] for one in push.got()}
    assert len(ids) == 1, "the same at each attempt"
    found = push.attempts()
    assert [attempt["status"] for attempt in found] == [code, code, 200]
    assert found[0]["reason"].startswith(f"status {code}")
    assert found[2]["reason"] == ""
    assert (push.show()["failed"], push.depth()) == (2, 0)


@pytest.mark.parametrize("code", [429, 503])
def test_an_endpoint_says_when_to_come_back(push: Push, code: int) -> None:
    push.sink.answers[push.path] = lambda answering, number: (
        answering.send(code, retry_after="1") if number == 1 else answering.send(200)
    )
    push.make(concurrency=1)
    push.publish(b"1", b"2")
    push.delivered(2)
    received = push.got()
    assert received[1].at - received[0].at > 0.9, "nothing was sent meanwhile"
    assert {one.headers["x-attempt"] for one in received} == {"1"}, "it was not the message's fault"
    found = push.show()
    assert (found["postponed"], found["failed"]) == (1, 0)


def test_an_endpoint_that_is_gone_is_left_alone_until_somebody_says_otherwise(push: Push) -> None:
    push.sink.answers[push.path] = first(410)
    push.make()
    push.publish(b"1", b"2")
    wait_for(lambda: push.show()["state"] == "paused", SECONDS, "paused")
    assert "410" in push.show()["reason"]
    push.publish(b"3")
    assert b"3" not in push.sink.bodies(push.path)
    push.do("resume")
    wait_for(lambda: set(push.sink.bodies(push.path)) == {b"1", b"2", b"3"}, SECONDS, "all of them")


def hanging(answering: Answering, number: int) -> None:
    if number == 1:
        answering.hang()
    answering.send(200)


def cutting(answering: Answering, number: int) -> None:
    if number == 1:
        answering.raw(b"HTTP/1.1 2")  # without a byte it could be that the connection was over before
        answering.cut()
    else:
        answering.send(200)


@pytest.mark.parametrize(
    ("answer", "reason"), [(hanging, "no answer within 0.3 seconds"), (cutting, "closed")]
)
def test_no_answer_is_tried_again(push: Push, answer: Callable[[Answering, int], None], reason: str) -> None:
    push.sink.answers[push.path] = answer
    push.make(timeout=0.3, policy=SOON)
    push.publish(b"1")
    push.delivered()
    assert [one.headers["x-attempt"] for one in push.got()] == ["1", "2"]
    assert reason in push.attempts()[0]["reason"]
    assert push.attempts()[0]["status"] == 0


def test_an_endpoint_that_is_not_there_yet(push: Push) -> None:
    port = free_port()
    push.make(url=f"http://127.0.0.1:{port}/late", policy=SOON)
    push.publish(b"1", b"2")
    wait_for(lambda: push.show()["failed"] >= 2, SECONDS, "failures")
    assert "refused" in push.show()["last_error"]["reason"]
    late = Sink(port)
    push.delivered(2)
    assert sorted(late.bodies("/late")) == [b"1", b"2"]
    late.close()


def test_a_huge_answer_costs_nothing(push: Push) -> None:
    def huge(answering: Answering, number: int) -> None:
        answering.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n")
        for _ in range(1000):
            answering.raw(b"x" * 65_536)

    push.sink.answers[push.path] = huge
    before = push.gateway.rss_bytes()
    push.make()
    push.publish(*(b"%d" % number for number in range(10)))
    push.delivered(10)
    assert len(push.got()) == 10
    assert push.gateway.rss_bytes() - before < 30 << 20


def test_a_slow_endpoint_does_not_hold_up_another(push: Push, running: GatewayProcess, sink: Sink) -> None:
    slow = Push(running, sink, push.http, concurrency=2)
    sink.answers[slow.path] = lambda answering, number: answering.hang()
    slow.make()
    slow.publish(*(b"%d" % number for number in range(20)))
    slow.got(2)
    push.make()
    push.publish(*(b"%d" % number for number in range(50)))
    push.delivered(50)
    assert slow.show()["in_flight"] == 2
    assert len(slow.got()) == 2
    assert push.http.delete(f"/v1/webhooks/{slow.name}").status_code == 204


@pytest.mark.parametrize("concurrency", [1, 4])
def test_never_more_requests_at_a_time_than_asked_for(push: Push, concurrency: int) -> None:
    def slow(answering: Answering, number: int) -> None:
        answering.hang(0.02)
        answering.send(200 if number % 5 else 404)

    push.sink.answers[push.path] = slow
    push.make(concurrency=concurrency, policy=SOON)
    push.publish(*(b"%d" % number for number in range(30)))
    push.delivered(30)
    assert push.sink.most[push.path] == concurrency


def test_messages_of_one_key_do_not_overtake_each_other(push: Push) -> None:
    tried: set[bytes] = set()

    def moody(answering: Answering, number: int) -> None:
        body = push.sink.got(push.path)[number - 1].body
        answering.hang(0.002 * (number % 5))
        failing = body[1:] in (b"0", b"3") and body not in tried
        tried.add(body)
        answering.send(404 if failing else 200)

    push.sink.answers[push.path] = moody
    push.make(concurrency=8, policy=SOON)
    for number in range(6):
        for key in ("a", "b", "c", "d"):
            push.publish(f"{key}{number}".encode(), x_key=key)
    push.delivered(24)
    bodies = push.sink.bodies(push.path)
    for key in (b"a", b"b", b"c", b"d"):
        found = [body[1:] for body in bodies if body.startswith(key)]
        assert found == [b"0", b"0", b"1", b"2", b"3", b"3", b"4", b"5"], "what failed is again in its place"
    assert push.sink.most[push.path] > 1, "different keys flow"


def test_no_faster_than_asked_for(push: Push) -> None:
    push.make(rate=50)
    push.publish(*(b"%d" % number for number in range(20)))
    received = push.got(20)
    assert received[-1].at - received[0].at >= 19 / 50 * 0.9


def test_an_endpoint_that_is_down_is_asked_by_one_request_and_found_again(push: Push) -> None:
    down = True
    push.sink.answers[push.path] = lambda answering, number: answering.send(500 if down else 200)
    push.make(concurrency=8, policy={"backoff_ms": [10], "delivery_limit": 1000})
    push.publish(*(b"%d" % number for number in range(40)))
    wait_for(lambda: push.show()["breaker"] == "open", SECONDS, "the breaker to open")
    before = len(push.got())
    assert before <= FAILURES_MAX - 1 + 8, "what was under way when it opened, and no more"
    push.sink.most[push.path] = 0
    push.got(before + 1)
    assert push.sink.most[push.path] == 1
    assert (
        push.http.get("/metrics").text.count(f'gateway_webhook_breaker_open{{webhook="{push.name}"}} 0.0')
        == 0
    )
    down = False
    push.delivered(40)
    assert push.show()["breaker"] == "closed"


def test_a_message_that_fails_by_its_own_fault_does_not_stop_the_others(push: Push) -> None:
    def picky(answering: Answering, number: int) -> None:
        answering.send(422 if push.sink.got(push.path)[number - 1].body == b"bad" else 200)

    push.sink.answers[push.path] = picky
    push.make(concurrency=1, policy={"backoff_ms": [600_000]})
    push.publish(b"bad", *(b"%d" % number for number in range(20)))
    push.delivered(20)
    found = push.show()
    assert (found["breaker"], found["failed"]) == ("closed", 1)
    assert push.sink.bodies(push.path).count(b"bad") == 1


def test_what_fails_too_often_is_a_dead_letter_with_the_answer(push: Push) -> None:
    push.sink.answers[push.path] = status(422, b'{"error": "no such customer"}')
    push.make(policy={"delivery_limit": 3, "backoff_ms": [5]})
    push.publish(b"bad", x_property_colour="red")
    dead = f"/v1/queues/%24dead%2F%24webhook%2F{push.name}"
    wait_for(lambda: push.http.get(dead).json().get("depth") == 1, SECONDS, "a dead letter")
    (letter,) = push.http.get(f"{dead}/browse").json()["messages"]
    assert letter["body"] == "bad"
    told = letter["headers"]
    assert told["dead-letter-reason"] == 'status 422: {"error": "no such customer"}'
    assert (told["dead-letter-cause"], told["dead-letter-attempts"]) == ("delivery_limit", 3)
    assert (told["dead-letter-consumer"], told["dead-letter-protocol"]) == (f"webhook:{push.name}", "webhook")
    assert (told["dead-letter-topic"], told["colour"]) == (f"{push.name}/t", "red")
    assert [one.headers["x-attempt"] for one in push.got(3)] == ["1", "2", "3"]
    assert push.depth() == 0


def test_only_what_a_selector_matches(push: Push) -> None:
    push.make(selector="colour = 'red'", concurrency=1)
    for colour in ("red", "blue", "red"):
        push.publish(colour.encode(), x_property_colour=colour)
    push.publish(b"end", x_property_colour="red")
    assert [one.body for one in push.got(3)] == [b"red", b"red", b"end"]
    push.make(selector="")
    push.publish(b"blue", x_property_colour="blue")
    assert push.got(4)[-1].body == b"blue"


def test_a_queue_that_exists(push: Push) -> None:
    push.http.put("/v1/queues/jobs", json={"bindings": ["work/#"]})
    push.make(queue="jobs")
    push.http.post("/v1/topics/work/1", content=b"1")
    push.http.post("/v1/queues/jobs/messages", content=b"2")
    assert {one.body for one in push.got(2)} == {b"1", b"2"}
    push.delivered(2)
    assert push.depth("jobs") == 0
    push.http.delete("/v1/queues/jobs")
    wait_for(lambda: push.show()["state"] == "refused", SECONDS, "refused")
    assert "does not exist" in push.show()["reason"]


def test_a_group_of_a_stream(push: Push) -> None:
    push.http.put("/v1/queues/story", json={"kind": "stream", "bindings": ["story/#"]})
    push.make(queue="story", group="readers")
    for number in range(5):
        push.http.post("/v1/topics/story/x", content=b"%d" % number)
    assert sorted(one.body for one in push.got(5)) == [b"0", b"1", b"2", b"3", b"4"]
    push.delivered(5)
    groups = push.http.get("/v1/queues/story").json()["groups"]
    assert [(group["name"], group["lag"]) for group in groups] == [("readers", 0)]


def test_a_rotation_has_both_secrets_for_a_while(push: Push) -> None:
    old = push.make()["secret"]
    fresh = push.do("rotate", overlap_seconds=3600)["secret"]
    assert fresh != old
    push.publish(b"{}")
    verify(push.got()[0], old, fresh)
    last = push.do("rotate", overlap_seconds=0)["secret"]
    push.publish(b"{}")
    received = push.got(2)[1]
    verify(received, last)
    for secret in (old, fresh):
        with pytest.raises(WebhookVerificationError):
            verify(received, secret)
    assert push.show()["secrets"] == 1


def test_a_test_is_made_at_once_whatever_the_state(push: Push) -> None:
    push.make()
    push.do("pause", reason="moving")
    assert (push.show()["state"], push.show()["reason"]) == ("paused", "moving")
    found = push.do("test")
    assert (found["status"], found["reason"]) == (200, "")
    (received,) = push.got()
    verify(received, push.secret)
    assert json.loads(received.body)["type"] == "gateway.webhook.test"
    push.sink.answers[push.path] = status(500, b"no disk")
    assert push.do("test")["reason"] == "status 500: no disk"
    assert push.show()["breaker"] == "closed"


def test_what_is_paused_waits(push: Push) -> None:
    push.make()
    push.do("pause")
    push.publish(b"1", b"2")
    assert push.depth() == 2
    assert not push.sink.got(push.path)
    push.do("resume")
    push.delivered(2)


def test_what_is_under_way_when_it_is_paused_counts_no_attempt(push: Push) -> None:
    push.sink.answers[push.path] = hanging
    push.make()
    push.publish(b"1")
    push.got()
    push.do("pause")
    push.do("resume")
    received = push.got(2)
    assert [one.headers["x-attempt"] for one in received] == ["1", "1"]


def test_a_change_holds_for_the_next_message(push: Push) -> None:
    push.make()
    push.publish(b"1")
    push.delivered()
    elsewhere = push.path + "-new"
    push.make(url=push.sink.url(elsewhere), filters=[f"{push.name}/new"])
    push.publish(b"2")
    push.http.post(f"/v1/topics/{push.name}/new", content=b"3")
    push.delivered(2)
    assert push.sink.bodies(elsewhere) == [b"3"]
    verify(push.sink.got(elsewhere)[0], push.secret)


def test_what_is_removed_takes_its_queue_along(push: Push) -> None:
    push.make()
    push.do("pause")
    push.publish(b"1")
    assert push.http.delete(f"/v1/webhooks/{push.name}").status_code == 204
    assert push.http.get(f"/v1/queues/%24webhook%2F{push.name}").status_code == 404
    assert push.http.get(f"/v1/webhooks/{push.name}").status_code == 404
    assert push.http.post(f"/v1/topics/{push.name}/t", content=b"2").json()["subscribers"] is False
    push.make()
    push.publish(b"3")
    assert [one.body for one in push.got()] == [b"3"]


def test_its_queue_cannot_be_published_to(push: Push) -> None:
    push.make()
    answer = push.http.post(f"/v1/topics/%24queue/%24webhook/{push.name}", content=b"forged")
    assert answer.status_code != 200 or answer.json()["subscribers"] is False
    push.publish(b"real")
    assert [one.body for one in push.got()] == [b"real"]


def test_numbers(push: Push) -> None:
    push.sink.answers[push.path] = first(404)
    push.make(policy=SOON)
    push.publish(b"1")
    push.delivered()
    lines = push.http.get("/metrics").text.splitlines()
    found = {line.split("{")[0]: float(line.split()[-1]) for line in lines if f'"{push.name}"' in line}
    assert found == {
        "gateway_webhook_delivered_total": 1,
        "gateway_webhook_failed_total": 1,
        "gateway_webhook_postponed_total": 0,
        "gateway_webhook_in_flight": 0,
        "gateway_webhook_breaker_open": 0,
        "gateway_webhook_running": 1,
    }
