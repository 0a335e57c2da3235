"""OpenMessaging's HTTP binding at a real gateway: produce, pull, settle, batches, transactions, push."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.process import GatewayProcess, wait_for
from tests.webhooks.sink import Sink

SECONDS = 15.0
_names = itertools.count(1)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    running = GatewayProcess(
        tmp_path_factory.mktemp("data"),
        (
            "webhooks.allow_private=true",
            "transactions.check_interval_seconds=0.2",
            "limits.body_bytes_max=100000",
        ),
    )
    running.start()
    yield running
    running.stop()
    assert not running.bugs()


class Oms:
    """A client of the binding, with a topic and a group of its own."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.http = httpx.Client(
            base_url=gateway.url + "/oms/v1", headers={"x-oms-version": "1.0.0"}, timeout=SECONDS
        )
        self.rest = httpx.Client(base_url=gateway.url, timeout=SECONDS)
        self.topic = f"t{next(_names)}/x"
        self.source = {"x-oms-source": self.topic, "x-oms-consumerId": "g"}
        self.share = f"$share/g/{self.topic}"

    def produce(self, body: bytes = b"hello", /, **fields: str) -> httpx.Response:
        """POST a message."""
        told = {f"x-oms-h-{name}": value for name, value in {"destination": self.topic, **fields}.items()}
        return self.http.post("/messages", content=body, headers=told)

    def pull(self, **headers: str) -> httpx.Response:
        """GET one message; the first makes the group."""
        return self.http.get("/messages", headers={**self.source, **_named(headers)})

    def post(self, path: str, /, body: Any = None, **headers: str) -> httpx.Response:
        """POST to a path of the binding."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return self.http.post(path, content=content, headers=_named(headers))

    def depth(self) -> tuple[int, int]:
        """Return (how many wait, how many are in hands)."""
        shown = self.rest.get(f"/v1/queues/{self.share.replace('/', '%2F')}").json()
        return shown["depth"], shown["unsettled"]


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {f"x-oms-{name}": value for name, value in headers.items()}


class Running:
    """A gateway of one test's own."""

    def __init__(self, data: Path, sets: tuple[str, ...]) -> None:
        self._gateway = GatewayProcess(data, sets)

    def __enter__(self) -> Oms:
        self._oms = Oms(self._gateway.start())
        return self._oms

    def __exit__(self, *_: object) -> None:
        self._oms.http.close()
        self._oms.rest.close()
        self._gateway.stop()
        assert not self._gateway.bugs()


@pytest.fixture
def oms(gateway: GatewayProcess) -> Iterator[Oms]:
    made = Oms(gateway)
    assert made.pull().status_code == 204
    yield made
    made.http.close()
    made.rest.close()


def refused(answer: httpx.Response, status: int, code: int) -> str:
    """Check a refusal; return its detail."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    detail: str = answer.json()["detail"]
    return detail


# -- produce and pull ---------------------------------------------------------------------------------


def test_a_message_comes_as_it_was_sent(oms: Oms) -> None:
    told = {
        "x-oms-h-destination": oms.topic,
        "x-oms-h-messageId": "m 1",
        "x-oms-h-bornTimestamp": "1700000000000",
        "x-oms-h-messageKey": "k%C3%A4",
        "x-oms-h-correlationId": "c",
        "x-oms-h-traceId": "00-1-2-01",
        "x-oms-h-priority": "7",
        "x-oms-h-tag": "t",
        "x-oms-h-searchKeys": "a,b%2Cc",
        "x-oms-p-colour": "red",
        "x-oms-p-size": "json:5",
        "content-type": "text/plain",
    }
    sent = oms.http.post("/messages", content=b"\x00\xff", headers=told)
    assert sent.status_code == 200, sent.text
    assert sent.json() == {
        "messageId": "m 1",
        "destination": oms.topic,
        "duplicate": False,
        "subscribers": True,
    }
    assert sent.headers["x-oms-h-messageId"] == "m 1"
    assert int(sent.headers["x-oms-h-storeTimestamp"]) > 1_700_000_000_000
    found = oms.pull(waitMills="10000")
    assert (found.status_code, found.content) == (200, b"\x00\xff")
    assert {name: found.headers.get(name) for name in told} == told
    assert found.headers["x-oms-version"] == "1.0.0"
    assert found.headers["x-oms-h-bornHost"] == "127.0.0.1"
    assert found.headers["x-oms-h-deliveryCount"] == "1"
    assert "x-oms-receipt" not in found.headers
    assert oms.pull().status_code == 204, "at most once: it is done with"
    assert oms.depth() == (0, 0)


def test_what_others_publish_is_pulled_and_what_is_produced_is_theirs(oms: Oms) -> None:
    oms.rest.post(f"/v1/topics/{oms.topic}?tag=x", content=b"rest", headers={"X-Property-Colour": "json:[1]"})
    found = oms.pull(waitMills="10000")
    assert found.content == b"rest"
    assert found.headers["x-oms-h-tag"] == "x"
    assert found.headers["x-oms-p-colour"] == "json:[1]"
    oms.produce(b"oms", messageId="m1", messageKey="k1")
    path = f"/v1/queues/{oms.share.replace('/', '%2F')}/receive?wait=10"
    (delivery,) = oms.rest.post(path).json()["deliveries"]
    said = delivery["properties"]
    assert (delivery["body"], said["message_id"], said["key"]) == ("oms", "m1", "k1")
    assert oms.post(f"/receipts/{delivery['id']}/ack").status_code == 204, "a lease is a lease"


def test_a_pull_waits_for_what_comes(oms: Oms) -> None:
    found: list[httpx.Response] = []
    puller = threading.Thread(target=lambda: found.append(oms.pull(waitMills="15000")))
    puller.start()
    path = f"/v1/queues/{oms.share.replace('/', '%2F')}"
    wait_for(lambda: oms.rest.get(path).json()["consumers"] == 1)
    oms.produce(b"late")
    puller.join(SECONDS)
    assert found[0].content == b"late"


def test_who_leaves_while_it_waits_takes_nothing(oms: Oms) -> None:
    path = f"/v1/queues/{oms.share.replace('/', '%2F')}"
    with pytest.raises(httpx.ReadTimeout):
        oms.http.get("/messages", headers={**oms.source, "x-oms-waitMills": "15000"}, timeout=0.3)
    wait_for(lambda: oms.rest.get(path).json()["consumers"] == 0)
    oms.produce(b"kept")
    assert oms.pull(waitMills="10000").content == b"kept"


def test_a_poll_is_ended_by_a_request(oms: Oms) -> None:
    found: list[httpx.Response] = []
    mine = f"p{next(_names)}"
    puller = threading.Thread(target=lambda: found.append(oms.pull(waitMills="15000", pollId=mine)))
    puller.start()
    wait_for(lambda: oms.http.delete(f"/polls/{mine}").status_code == 204)
    puller.join(SECONDS)
    assert found[0].status_code == 204
    refused(oms.http.delete(f"/polls/{mine}"), 404, 1418)


def test_a_queue_is_pulled_too(oms: Oms) -> None:
    name = f"q{next(_names)}"
    oms.rest.put(f"/v1/queues/{name}", json={})
    assert oms.produce(b"one", destination=f"$queue/{name}").status_code == 200
    oms.source = {"x-oms-source": f"$queue/{name}"}
    found = oms.pull(ack="true")
    assert (found.content, found.headers["x-oms-h-offset"]) == (b"one", "0")
    stream = f"s{next(_names)}"
    oms.rest.put(f"/v1/queues/{stream}", json={"kind": "stream"})
    oms.source = {"x-oms-source": f"$queue/{stream}", "x-oms-consumerId": "g2"}
    oms.pull()
    oms.produce(b"two", destination=f"$queue/{stream}")
    assert oms.pull(waitMills="10000").content == b"two"


def test_a_namespace_is_a_first_level(oms: Oms) -> None:
    queue = f"n{next(_names)}"
    oms.source = {"x-oms-source": f"shop://{queue}"}
    assert oms.pull().status_code == 204
    assert oms.produce(b"x", destination=f"shop://{queue}").json()["destination"] == f"shop/{queue}"
    assert oms.pull(waitMills="10000").content == b"x"


def test_a_selector_chooses(oms: Oms) -> None:
    other = {"x-oms-source": oms.topic, "x-oms-consumerId": "red", "x-oms-selector": "colour = 'red'"}
    assert oms.http.get("/messages", headers=other).status_code == 204
    for colour in ("blue", "red"):
        headers = {"x-oms-h-destination": oms.topic, "x-oms-p-colour": colour}
        oms.http.post("/messages", content=colour.encode(), headers=headers)
    waiting = {**other, "x-oms-waitMills": "10000"}
    assert oms.http.get("/messages", headers=waiting).content == b"red"
    assert oms.http.get("/messages", headers=other).status_code == 204
    wrong = oms.http.get("/messages", headers={**other, "x-oms-selector": "colour ="})
    refused(wrong, 422, 1418)


# -- settle -------------------------------------------------------------------------------------------


def test_what_is_acknowledged_is_done_with_and_no_receipt_works_twice(oms: Oms) -> None:
    oms.produce()
    receipt = oms.pull(ack="true", waitMills="10000").headers["x-oms-receipt"]
    assert oms.depth() == (0, 1)
    assert oms.post(f"/receipts/{receipt}/ack").status_code == 204
    assert oms.depth() == (0, 0)
    assert "settled already" in refused(oms.post(f"/receipts/{receipt}/ack"), 404, 1418)


def test_what_is_not_acknowledged_comes_again(oms: Oms) -> None:
    oms.produce()
    first = oms.pull(ack="true", waitMills="10000", leaseMills="1")
    again = oms.pull(ack="true", waitMills="10000")
    assert (first.headers["x-oms-h-deliveryCount"], again.headers["x-oms-h-deliveryCount"]) == ("1", "2")
    assert first.headers["x-oms-h-messageId"] == again.headers["x-oms-h-messageId"]
    refused(oms.post(f"/receipts/{first.headers['x-oms-receipt']}/ack"), 404, 1418)


def test_give_back_and_give_up(oms: Oms) -> None:
    oms.produce()
    found = oms.pull(ack="true", waitMills="10000")
    for outcome, count in (("retry", "1"), ("requeue", "2")):
        path = f"/receipts/{found.headers['x-oms-receipt']}/nack"
        assert oms.post(path, outcome=outcome, delayMills="1").status_code == 204
        found = oms.pull(ack="true", waitMills="10000")
        assert found.headers["x-oms-h-deliveryCount"] == count
    receipt = found.headers["x-oms-receipt"]
    assert "one of requeue" in refused(oms.post(f"/receipts/{receipt}/nack", outcome="never"), 422, 1418)
    assert oms.post(f"/receipts/{receipt}/nack", outcome="reject").status_code == 204
    wait_for(lambda: oms.depth() == (0, 0))


def test_a_lease_is_extended(oms: Oms) -> None:
    oms.produce()
    receipt = oms.pull(ack="true", waitMills="10000", leaseMills="30000").headers["x-oms-receipt"]
    assert oms.post(f"/receipts/{receipt}/extend", leaseMills="1").status_code == 204
    assert oms.pull(ack="true", waitMills="10000").headers["x-oms-h-deliveryCount"] == "2"
    refused(oms.post(f"/receipts/{receipt}/extend"), 404, 1418)


def test_many_are_pulled_and_acknowledged_together(oms: Oms) -> None:
    for number in range(5):
        oms.produce(b"%d" % number)
    answer = oms.pull(ack="true", waitMills="10000", max="3")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [base64.b64decode(line["data"]) for line in lines] == [b"0", b"1", b"2"]
    assert [line["header"]["destination"] for line in lines] == [oms.topic] * 3
    receipts = [line["receipt"] for line in lines]
    done = oms.post("/receipts/ack", {"receipts": [*receipts, "unknown"]})
    assert done.json() == {"acknowledged": 3, "unknown": ["unknown"]}
    rest = oms.pull(max="10", waitMills="10000").text.splitlines()
    assert ["receipt" in json.loads(line) for line in rest] == [False, False]
    for body in (b"[", b"[]", b'{"receipts": [1]}', b'{"receipts": [], "x": 1}'):
        refused(oms.post("/receipts/ack", body), 422, 1418)


def test_many_leases_are_extended_together(oms: Oms) -> None:
    oms.produce()
    receipt = oms.pull(ack="true", waitMills="10000").headers["x-oms-receipt"]
    answer = oms.post("/receipts/extend", {"receipts": [receipt, "unknown"]}, leaseMills="1")
    assert answer.json() == {"extended": 1, "unknown": ["unknown"]}
    assert oms.pull(ack="true", waitMills="10000").headers["x-oms-h-deliveryCount"] == "2"


# -- groups and streams -------------------------------------------------------------------------------


def test_a_group_keeps_messages_before_it_pulls(oms: Oms) -> None:
    other = {**oms.source, "x-oms-consumerId": "h"}
    assert oms.http.put("/groups", headers=other).status_code == 204
    assert oms.http.put("/groups", headers=other).status_code == 204, "it is there"
    oms.produce(b"kept")
    assert oms.http.get("/messages", headers=other).content == b"kept"
    red = {**other, "x-oms-selector": "colour = 'red'"}
    refused(oms.http.get("/messages", headers=red), 409, 1418)
    assert oms.http.put("/groups", headers=red).status_code == 204, "nobody is there for the other"
    oms.produce(b"not red")
    assert oms.http.get("/messages", headers=red).status_code == 204
    shown = oms.rest.get(f"/v1/queues/{oms.share.replace('/', '%2F').replace('g%', 'h%')}").json()
    assert shown["policy"]["delivery_limit"] == 17


def test_a_group_for_a_while_goes(oms: Oms) -> None:
    mine = {**oms.source, "x-oms-consumerId": "mine"}
    assert oms.http.put("/groups", headers={**mine, "x-oms-expiresMills": "60000"}).status_code == 204
    path = f"/v1/queues/{oms.share.replace('/', '%2F').replace('g%', 'mine%')}"
    assert oms.rest.get(path).json()["policy"]["expires_ms"] == 60_000
    assert oms.http.delete("/groups", headers=mine).status_code == 204
    assert oms.rest.get(path).status_code == 404
    refused(oms.http.delete("/groups", headers=mine), 404, 1404)
    refused(oms.http.put("/groups", headers={**mine, "x-oms-expiresMills": "1"}), 422, 1418)
    refused(oms.http.put("/groups", headers={"x-oms-source": "a/#/b"}), 400, 1400)


def test_a_queue_is_read_by_position(oms: Oms) -> None:
    here = {"x-oms-source": oms.topic}
    empty = oms.http.get("/stream", headers=here)
    assert (empty.status_code, empty.headers["x-oms-endPosition"]) == (204, "0")
    for number in range(4):
        oms.produce(b"%d" % number)
    found = oms.http.get("/stream", headers={**here, "x-oms-position": "1", "x-oms-max": "2"})
    lines = [json.loads(each) for each in found.text.splitlines()]
    assert [base64.b64decode(each["data"]) for each in lines] == [b"1", b"2"]
    assert [each["extensionHeader"]["offset"] for each in lines] == [1, 2]
    assert "receipt" not in lines[0]
    told = [found.headers[f"x-oms-{name}Position"] for name in ("first", "next", "end")]
    assert told == ["0", "3", "4"]
    assert oms.depth() == (4, 0), "it takes nothing from anybody"
    later = oms.http.get("/stream", headers={**here, "x-oms-position": "latest"})
    assert (later.status_code, later.headers["x-oms-nextPosition"]) == (204, "4")
    past = oms.http.get("/stream", headers={**here, "x-oms-position": "2020-01-01T00:00:00Z"})
    assert len(past.text.splitlines()) == 4
    refused(oms.http.get("/stream", headers={**here, "x-oms-position": "soon"}), 422, 1418)
    refused(oms.http.get("/stream", headers={"x-oms-source": "$queue/none"}), 404, 1404)
    refused(oms.http.get("/stream", headers={"x-oms-source": "a/+"}), 400, 1400)
    name = f"q{next(_names)}"
    oms.rest.put(f"/v1/queues/{name}", json={})
    refused(oms.http.get("/stream", headers={"x-oms-source": f"$queue/{name}"}), 409, 1418)


def test_a_reader_waits_for_what_comes(oms: Oms) -> None:
    here = {"x-oms-source": oms.topic, "x-oms-waitMills": "15000"}
    oms.http.get("/stream", headers={"x-oms-source": oms.topic})
    found: list[httpx.Response] = []
    reader = threading.Thread(target=lambda: found.append(oms.http.get("/stream", headers=here)))
    reader.start()
    path = f"/v1/queues/{oms.topic.replace('/', '%2F')}"
    wait_for(lambda: oms.rest.get(path).json()["consumers"] == 1)
    oms.produce(b"late")
    reader.join(SECONDS)
    assert base64.b64decode(json.loads(found[0].text)["data"]) == b"late"
    assert oms.rest.get(path).json()["groups"] == [], "it leaves nothing behind"


# -- batches ------------------------------------------------------------------------------------------


def line(destination: str, data: bytes = b"x", **header: Any) -> dict[str, Any]:
    return {
        "version": "1.0.0",
        "header": {"destination": destination, **header},
        "properties": {"n": 1},
        "data": base64.b64encode(data).decode(),
    }


def lines(*found: Any) -> bytes:
    return b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in found)


def test_a_batch_is_published_line_by_line(oms: Oms) -> None:
    body = lines(line(oms.topic, b"1"), b"{", line(oms.topic, b"2", messageId="m2"), line("a/+"), b"")
    answer = oms.post("/messages/batch", body)
    assert answer.status_code == 200, answer.text
    first, broken, second, wild = answer.json()["results"]
    assert answer.json()["accepted"] == 2
    assert (first["destination"], second["messageId"]) == (oms.topic, "m2")
    assert (broken["status"], broken["code"], wild["status"], wild["code"]) == (422, 1418, 400, 1400)
    found = [json.loads(each) for each in oms.pull(max="10", waitMills="10000").text.splitlines()]
    assert [(base64.b64decode(each["data"]), each["properties"]) for each in found] == [
        (b"1", {"n": 1}),
        (b"2", {"n": 1}),
    ]


def test_a_batch_is_all_or_nothing_if_asked(oms: Oms) -> None:
    body = lines(line(oms.topic, b"1"), line("a/+"))
    refused(oms.post("/messages/batch", body, atomic="true"), 400, 1400)
    assert oms.depth() == (0, 0)
    body = lines(line(oms.topic, b"1"), {"data": "Mg=="})
    answer = oms.http.post(
        "/messages/batch",
        content=body,
        headers={"x-oms-atomic": "true", "x-oms-h-destination": oms.topic},
    )
    assert answer.json()["accepted"] == 2, "what a line does not say the headers say"
    assert oms.depth() == (2, 0)


def test_of_a_batch_of_which_nothing_is_accepted_the_first_fault_is_told(oms: Oms) -> None:
    refused(oms.post("/messages/batch", lines(line("a/+"), b"{")), 400, 1400)
    refused(oms.post("/messages/batch", b""), 422, 1418)
    refused(oms.post("/messages/batch", b"{}\n" * 10_001), 413, 1413)
    refused(oms.post("/messages/batch", lines(line(oms.topic)), atomic="perhaps"), 422, 1418)


# -- what a message asks for --------------------------------------------------------------------------


def test_exactly_once_is_known_by_its_id(oms: Oms) -> None:
    first = oms.produce(messageId="once", qos="2")
    second = oms.produce(messageId="once", qos="2")
    assert (first.json()["duplicate"], second.json()["duplicate"]) == (False, True)
    assert oms.depth() == (1, 0)
    assert oms.pull(waitMills="10000").headers["x-oms-h-qos"] == "2"


def test_a_delayed_message_waits_and_can_be_recalled(oms: Oms) -> None:
    schedule = oms.produce(delayTime="3600000").json()["schedule"]
    assert oms.pull().status_code == 204
    assert oms.rest.delete(f"/v1/schedules/{schedule}").status_code == 204
    assert oms.rest.delete(f"/v1/schedules/{schedule}").status_code == 404
    oms.produce(b"soon", delayTime="50")
    assert oms.pull(waitMills="15000").content == b"soon"


def test_what_has_expired_is_not_delivered(oms: Oms) -> None:
    oms.produce(b"old", bornTimestamp="1000", expireTime="2000")
    oms.produce(b"new")
    assert oms.pull(waitMills="10000").content == b"new"


# -- transactions -------------------------------------------------------------------------------------


def prepare(oms: Oms, body: bytes = b"half", **headers: str) -> str:
    told = {"x-oms-h-destination": oms.topic, "x-oms-producerId": oms.topic, **_named(headers)}
    answer = oms.http.post("/transactions", content=body, headers=told)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-oms-h-transactionId"] == answer.json()["transactionId"]
    found: str = answer.json()["transactionId"]
    return found


def test_a_transaction_is_seen_when_it_is_committed(oms: Oms) -> None:
    id = prepare(oms, b"1")
    assert oms.produce(b"2", transactionId=id).json()["transactionId"] == id
    assert oms.depth() == (0, 0)
    assert oms.post(f"/transactions/{id}/commit").json() == {"transactionId": id, "state": "committed"}
    assert oms.post(f"/transactions/{id}/commit").status_code == 200, "the same answer twice is fine"
    found = oms.pull(waitMills="10000")
    assert (found.content, found.headers["x-oms-h-transactionId"]) == (b"1", id)
    assert oms.pull(waitMills="10000").content == b"2"
    refused(oms.post(f"/transactions/{id}/rollback"), 409, 1418)
    refused(oms.produce(b"3", transactionId=id), 409, 1418)


def test_a_transaction_is_rolled_back(oms: Oms) -> None:
    id = prepare(oms)
    assert oms.post(f"/transactions/{id}/rollback").json()["state"] == "rolled-back"
    assert oms.depth() == (0, 0)
    refused(oms.post("/transactions/nobodys/commit"), 404, 1418)
    refused(oms.post("/transactions", b"x"), 422, 1418)
    told = {"x-oms-h-destination": oms.topic, "x-oms-h-transactionId": "mine"}
    refused(oms.http.post("/transactions", headers=told), 422, 1418)


def test_what_cannot_be_published_leaves_no_transaction_open(oms: Oms) -> None:
    before = oms.rest.get("/v1/transactions?state=open").json()["transactions"]
    headers = {"x-oms-h-destination": "$sys/x"}
    refused(oms.http.post("/transactions", headers=headers), 403, 1403)
    assert oms.rest.get("/v1/transactions?state=open").json()["transactions"] == before


def test_a_producer_is_asked_about_what_it_leaves_open(oms: Oms) -> None:
    mine = {"x-oms-producerId": oms.topic, "x-oms-waitMills": "0"}
    assert oms.http.get("/transactions/checks", headers=mine).status_code == 204
    id = prepare(oms, checkAfterMills="50")
    waiting = {**mine, "x-oms-waitMills": "15000"}
    asked = oms.http.get("/transactions/checks", headers=waiting)
    assert (asked.content, asked.headers["x-oms-h-transactionId"]) == (b"half", id)
    assert asked.headers["x-oms-h-destination"] == oms.topic
    assert oms.http.get("/transactions/checks", headers=waiting).headers["x-oms-h-transactionId"] == id
    oms.post(f"/transactions/{id}/commit")
    assert oms.pull(waitMills="10000").content == b"half"
    other = prepare(oms, checkAfterMills="1")
    wait_for(lambda: oms.rest.get(f"/v1/transactions/{other}").json()["checks"])
    stranger = {"x-oms-producerId": "somebody else"}
    assert oms.http.get("/transactions/checks", headers=stranger).status_code == 204
    found = oms.http.get("/transactions/checks", headers=waiting).headers
    assert found["x-oms-h-transactionId"] == other, "it waits for who asks later, too"
    oms.post(f"/transactions/{other}/rollback")
    assert oms.http.get("/transactions/checks", headers=mine).status_code == 204


def test_a_producer_is_asked_after_a_restart(tmp_path: Path) -> None:
    sets = ("transactions.check_first_seconds=0.2",)
    with Running(tmp_path, sets) as oms:
        assert oms.pull().status_code == 204
        id = prepare(oms, producerId="clerk")
        oms.gateway.kill()
        oms.gateway.start()
        clerk = {"x-oms-producerId": "clerk", "x-oms-waitMills": "15000"}
        asked = oms.http.get("/transactions/checks", headers=clerk)
        assert (asked.content, asked.headers["x-oms-h-transactionId"]) == (b"half", id)
        assert oms.post(f"/transactions/{id}/commit").json()["state"] == "committed"
        assert oms.pull(waitMills="10000").content == b"half"


# -- whole messages -----------------------------------------------------------------------------------

STRUCTURED = "application/openmessaging+json"


def test_a_message_in_one_piece(oms: Oms) -> None:
    body = json.dumps(line(oms.topic, b"\x00whole", messageId="m1"))
    answer = oms.http.post("/messages", content=body, headers={"content-type": STRUCTURED})
    assert answer.json()["messageId"] == "m1"
    found = oms.http.get("/messages", headers={**oms.source, "accept": STRUCTURED, "x-oms-ack": "true"})
    assert found.headers["content-type"] == STRUCTURED
    told = found.json()
    assert (base64.b64decode(told["data"]), told["properties"]) == (b"\x00whole", {"n": 1})
    assert told["header"]["messageId"] == "m1"
    assert oms.post(f"/receipts/{told['receipt']}/ack").status_code == 204
    refused(oms.http.post("/messages", content=b"{", headers={"content-type": STRUCTURED}), 422, 1418)


# -- push ---------------------------------------------------------------------------------------------


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    yield made
    made.close()


def test_messages_are_pushed_to_a_url_until_it_is_empty(oms: Oms, sink: Sink) -> None:
    made = oms.pull(callbackURL=sink.url("/in"))
    assert made.status_code == 201, made.text
    assert made.json()["queue"] == oms.share
    told = {"x-oms-h-destination": oms.topic, "x-oms-p-Colour": "red", "content-type": "text/plain"}
    oms.http.post("/messages", content=b"pushed", headers=told)
    wait_for(lambda: sink.got("/in"))
    (got,) = sink.got("/in")
    assert got.body == b"pushed"
    assert got.headers["x-oms-version"] == "1.0.0"
    assert got.headers["x-oms-h-destination"] == oms.topic
    assert got.headers["x-oms-h-deliverycount"] == "1"
    assert (got.headers["x-oms-p-colour"], got.headers["content-type"]) == ("red", "text/plain")
    assert "webhook-signature" in got.headers
    assert oms.pull(callbackURL=sink.url("/in")).status_code == 200, "the same again"
    assert oms.pull(callbackURL="").status_code == 204
    oms.produce(b"kept")
    assert oms.pull(waitMills="10000").content == b"kept"
    refused(oms.pull(callbackURL=""), 404, 1404)
    refused(oms.pull(callbackURL="nowhere"), 422, 1418)


# -- refusals -----------------------------------------------------------------------------------------


def test_refusals_have_openmessagings_codes(oms: Oms) -> None:
    refused(httpx.post(oms.gateway.url + "/oms/v1/messages"), 422, 1418)
    old = {"x-oms-version": "0.3.1"}
    refused(httpx.post(oms.gateway.url + "/oms/v1/messages", headers=old), 400, 1101)
    refused(oms.produce(destination="a/+"), 400, 1400)
    refused(oms.produce(destination="$sys/x"), 403, 1403)
    refused(oms.produce(destination="$queue/none"), 404, 1404)
    refused(oms.produce(destination="$queue/$dead/x"), 404, 1404)
    refused(oms.produce(b"x" * 100_001), 413, 1413)
    assert "soon" in refused(oms.produce(delayTime="soon"), 422, 1418)
    refused(oms.http.get("/messages"), 422, 1418)
    refused(oms.http.get("/messages", headers={**oms.source, "x-oms-consumerId": "a/b"}), 422, 1418)
    refused(oms.http.get("/messages", headers={"x-oms-source": "$queue/none"}), 404, 1404)
    refused(oms.http.get("/messages", headers={"x-oms-source": "a/#/b"}), 400, 1400)
    refused(oms.pull(waitMills="60001"), 422, 1418)
    refused(oms.pull(max="0"), 422, 1418)
    refused(oms.pull(ack="perhaps"), 422, 1418)
    refused(oms.http.delete("/messages"), 405, 1400)
    refused(oms.http.get("/none"), 404, 1404)


def test_a_full_queue_says_when_to_try_again(oms: Oms) -> None:
    name = f"q{next(_names)}"
    policy = {"max_length": 1, "overflow": "reject"}
    assert oms.rest.put(f"/v1/queues/{name}", json={"policy": policy}).status_code == 201
    assert oms.produce(destination=f"$queue/{name}").status_code == 200
    full = oms.produce(destination=f"$queue/{name}")
    refused(full, 429, 1502)
    assert full.headers["retry-after"] == "1"


def test_a_login_that_is_refused_is_the_doors(oms: Oms) -> None:
    answer = oms.http.get("/messages", headers={**oms.source, "authorization": "Digest x"})
    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers


def test_a_queue_that_goes_with_its_last_consumer_is_not_pulled(oms: Oms) -> None:
    name = f"q{next(_names)}"
    oms.rest.put(f"/v1/queues/{name}", json={"auto_delete": True})
    oms.source = {"x-oms-source": f"$queue/{name}"}
    refused(oms.pull(), 409, 1418)


def test_who_waits_is_told_that_the_queue_is_gone(oms: Oms) -> None:
    name = f"q{next(_names)}"
    oms.rest.put(f"/v1/queues/{name}", json={})
    oms.source = {"x-oms-source": f"$queue/{name}"}
    found: list[httpx.Response] = []
    puller = threading.Thread(target=lambda: found.append(oms.pull(waitMills="15000")))
    puller.start()
    wait_for(lambda: oms.rest.get(f"/v1/queues/{name}").json()["consumers"] == 1)
    oms.rest.delete(f"/v1/queues/{name}")
    puller.join(SECONDS)
    refused(found[0], 404, 1404)
