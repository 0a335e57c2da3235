"""Nothing is lost by a crash, a stop, or a change of what is allowed while the gateway was away."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from tests.process import GatewayProcess, wait_for
from tests.webhooks.conftest import SECONDS, Push
from tests.webhooks.sink import Answering, Sink

MESSAGES = 200


def test_a_kill_in_the_middle_loses_nothing(make_gateway: Callable[..., GatewayProcess], sink: Sink) -> None:
    gateway = make_gateway().start()
    with httpx.Client(base_url=gateway.url, timeout=SECONDS) as http:
        push = Push(gateway, sink, http, concurrency=5)

        def slow(answering: Answering, number: int) -> None:
            answering.hang(0.01)
            answering.send(200)

        sink.answers[push.path] = slow
        push.make()
        lines = b"\n".join(b'{"body": "%d"}' % number for number in range(MESSAGES))
        assert http.post(f"/v1/topics/{push.name}/t/batch", content=lines).status_code == 200
        for _ in range(2):
            push.got(len(sink.got(push.path)) + 20)
            gateway.kill()
            gateway.start()
        wanted = {b"%d" % number for number in range(MESSAGES)}
        wait_for(lambda: set(sink.bodies(push.path)) == wanted, 2 * SECONDS, "every message")
        wait_for(lambda: push.depth() == 0, SECONDS, "an empty queue")
    ids: dict[bytes, set[str]] = {}
    for received in sink.got(push.path):
        ids.setdefault(received.body, set()).add(received.headers["webhook-id"])
    assert all(len(found) == 1 for found in ids.values()), "an id stays with its message over a crash"
    assert len(set.union(*ids.values())) == MESSAGES


def test_a_stop_gives_back_what_is_under_way(make_gateway: Callable[..., GatewayProcess], sink: Sink) -> None:
    gateway = make_gateway().start()
    with httpx.Client(base_url=gateway.url, timeout=SECONDS) as http:
        push = Push(gateway, sink, http)
        other = Push(gateway, sink, http)
        sink.answers[push.path] = lambda answering, number: (
            answering.hang() if number == 1 else answering.send(200)
        )
        secret = push.make()["secret"]
        other.make()
        other.do("pause", reason="for the night")
        push.publish(b"1")
        push.got()
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 5, "nobody waits for a slow endpoint"
        gateway.start()
        received = push.got(2)[1]
        assert received.headers["x-attempt"] == "1", "a stop is not the message's fault"
        assert received.headers["webhook-id"] == push.got()[0].headers["webhook-id"]
        shown = other.show()
        assert (shown["state"], shown["reason"]) == ("paused", "for the night")
        assert "secret" not in push.make(), "the one it has stays"
    everything = b"".join(path.read_bytes() for path in gateway.data.rglob("*") if path.is_file())
    assert secret.encode() not in everything
    assert secret.removeprefix("whsec_").encode() not in everything
