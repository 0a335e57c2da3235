"""What no good client of RocketMQ's does: status codes in answers, and a line of the log that names it."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from gateway.auth.hashes import hash_password
from gateway.rocketmq.numbers import Code, MessageType
from gateway.rocketmq.schema import CLASSES
from tests.process import RocketGateway, wait_for
from tests.rocketmq_raw import RawRocket, RefusedRaw, duration, subscription

pytestmark = pytest.mark.interop
PASSWORD, SECRET = "correct horse", "a secret of ann's, shared"
BODY_MAX = 1000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    """One where topics and groups are there only if somebody made them."""
    sets = (
        "openmessaging.auto_create=false",
        'openmessaging.topics=["known","other/#"]',
        f"openmessaging.body_bytes_max={BODY_MAX}",
    )
    process = RocketGateway(tmp_path_factory.mktemp("faults") / "data", sets)
    process.start()
    declare(process, "known", "workers")
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


def declare(gateway: RocketGateway, topic: str, group: str, **policy: object) -> None:
    wanted = {"bindings": [topic], "policy": {"backoff_ms": [0], **policy}}
    answer = httpx.put(f"{gateway.url}/v1/queues/%24share%2F{group}%2F{topic}", json=wanted)
    assert answer.status_code < 300, answer.text


@pytest.fixture
def raw(gateway: RocketGateway, request: pytest.FixtureRequest) -> Iterator[RawRocket]:
    with RawRocket(gateway.endpoints, f"bad-{request.node.name}"[:60]) as client:
        yield client


def named_in_log(gateway: RocketGateway, client: RawRocket, code: Code) -> str:
    """Return the line of the log that names a client and what it was told."""
    name = client.metadata["x-mq-client-id"]

    def lines() -> list[str]:
        return [line for line in gateway.errors if name in line and code.name in line]

    found: str = wait_for(lines, what=f"a line with {name} and {code.name}")[0]
    return found


# -- names --------------------------------------------------------------------------------------------


def test_unknown_topics(gateway: RocketGateway, raw: RawRocket) -> None:
    assert raw.code("QueryRoute", topic={"name": "unknown"}) == Code.TOPIC_NOT_FOUND
    assert raw.send("unknown", b"x").status.code == Code.TOPIC_NOT_FOUND
    with pytest.raises(RefusedRaw) as caught:
        raw.receive("workers", "unknown")
    assert caught.value.code == Code.TOPIC_NOT_FOUND
    assert "unknown" in named_in_log(gateway, raw, Code.TOPIC_NOT_FOUND)


def test_unknown_groups(gateway: RocketGateway, raw: RawRocket) -> None:
    with pytest.raises(RefusedRaw) as caught:
        raw.receive("strangers", "known")
    assert caught.value.code == Code.CONSUMER_GROUP_NOT_FOUND
    named_in_log(gateway, raw, Code.CONSUMER_GROUP_NOT_FOUND)
    assert raw.receive("workers", "known") == []


@pytest.mark.parametrize("topic", ["a/b", "%2f", "%zz", "", "x" * 200, "a.b"])
def test_names_that_are_none(raw: RawRocket, topic: str) -> None:
    assert raw.send(topic, b"x").status.code == Code.ILLEGAL_TOPIC


@pytest.mark.parametrize("group", ["", "a/b", "%2F", "g" * 300])
def test_groups_that_are_none(raw: RawRocket, group: str) -> None:
    with pytest.raises(RefusedRaw) as caught:
        raw.receive(group, "known")
    assert caught.value.code == Code.ILLEGAL_CONSUMER_GROUP


@pytest.mark.parametrize("kind", ["%DLQ%", "%RETRY%"])
def test_nobody_sends_to_what_is_a_groups(raw: RawRocket, kind: str) -> None:
    assert raw.send(f"{kind}workers", b"x").status.code in (Code.ILLEGAL_TOPIC, Code.FORBIDDEN)
    assert raw.receive("workers", f"{kind}workers") == []


# -- messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"body": bytes(BODY_MAX + 1)}, Code.MESSAGE_BODY_TOO_LARGE),
        ({"body": b""}, Code.MESSAGE_BODY_EMPTY),
        ({"system": {"message_id": ""}}, Code.ILLEGAL_MESSAGE_ID),
        ({"system": {"tag": "a|b"}}, Code.ILLEGAL_MESSAGE_TAG),
        ({"system": {"tag": "\x01"}}, Code.ILLEGAL_MESSAGE_TAG),
        ({"system": {"keys": ["\x01"]}}, Code.ILLEGAL_MESSAGE_KEY),
        ({"system": {"message_group": "g" * 100, "message_type": 2}}, Code.ILLEGAL_MESSAGE_GROUP),
        ({"user_properties": {"TAGS": "x"}}, Code.ILLEGAL_MESSAGE_PROPERTY_KEY),
        ({"user_properties": {f"{n}": "x" for n in range(129)}}, Code.MESSAGE_PROPERTIES_TOO_LARGE),
        ({"user_properties": {"large": "x" * 17_000}}, Code.MESSAGE_PROPERTIES_TOO_LARGE),
        ({"system": {"body_digest": {"type": 1, "checksum": "00000000"}}}, Code.MESSAGE_CORRUPTED),
        ({"system": {"message_type": 1, "message_group": "g"}}, Code.MESSAGE_PROPERTY_CONFLICT_WITH_TYPE),
        ({"system": {"message_type": 5, "lite_topic": "l"}}, Code.UNSUPPORTED),
    ],
    ids=lambda value: value.name if isinstance(value, Code) else "",
)
def test_messages_that_are_refused(
    gateway: RocketGateway, raw: RawRocket, message: dict[str, Any], code: Code
) -> None:
    system = {"message_id": "1", "message_type": MessageType.NORMAL, "body_encoding": 1}
    system |= message.pop("system", {})
    one = {"topic": {"name": "known"}, "body": b"x", "system_properties": system, **message}
    answer = raw.call("SendMessage", messages=[one])
    assert answer.status.code == code, answer
    named_in_log(gateway, raw, code)
    assert raw.receive("workers", "known") == [], "and nothing of it is stored"


def test_a_gzip_that_is_a_bomb(raw: RawRocket) -> None:
    answer = raw.send("known", gzip.compress(bytes(100 << 20)), body_encoding=2)
    assert answer.status.code == Code.MESSAGE_BODY_TOO_LARGE
    assert raw.send("known", b"no gzip", body_encoding=2).status.code != Code.OK


# -- receipt handles ----------------------------------------------------------------------------------


def test_handles_that_are_none(gateway: RocketGateway, raw: RawRocket) -> None:
    for handle in ("", "x", "\x00", "x" * 10_000):
        answer = raw.ack("workers", "known", handle)
        assert [entry.status.code for entry in answer.entries] == [Code.INVALID_RECEIPT_HANDLE]
    named_in_log(gateway, raw, Code.INVALID_RECEIPT_HANDLE)


def test_a_handle_that_was_used(raw: RawRocket) -> None:
    raw.send("known", b"once")
    (message,) = raw.receive("workers", "known")
    assert raw.ack("workers", "known", message).status.code == Code.OK
    again = raw.ack("workers", "known", message)
    assert [entry.status.code for entry in again.entries] == [Code.INVALID_RECEIPT_HANDLE]
    handle = message.system_properties.receipt_handle
    fields = {"group": {"name": "workers"}, "topic": {"name": "known"}, "receipt_handle": handle}
    late = raw.call("ChangeInvisibleDuration", **fields, invisible_duration=duration(10))
    assert late.status.code == Code.INVALID_RECEIPT_HANDLE
    assert raw.code("ForwardMessageToDeadLetterQueue", **fields) == Code.INVALID_RECEIPT_HANDLE


def test_a_handle_that_has_expired(raw: RawRocket) -> None:
    raw.send("known", b"late")
    (first,) = raw.receive("workers", "known")
    fields = {"group": {"name": "workers"}, "topic": {"name": "known"}}
    handle = first.system_properties.receipt_handle
    shorter = raw.call(
        "ChangeInvisibleDuration", **fields, receipt_handle=handle, invisible_duration=duration(0.05)
    )
    assert shorter.status.code == Code.OK
    (second,) = wait_for(lambda: raw.receive("workers", "known", wait=1), what="the next attempt")
    assert second.system_properties.delivery_attempt == 2
    answer = raw.ack("workers", "known", shorter.receipt_handle, second)
    assert answer.status.code == Code.MULTIPLE_RESULTS
    assert [entry.status.code for entry in answer.entries] == [Code.INVALID_RECEIPT_HANDLE, Code.OK]


def test_a_handle_of_another_group(gateway: RocketGateway, raw: RawRocket) -> None:
    declare(gateway, "known", "others")
    raw.send("known", b"theirs")
    (message,) = raw.receive("others", "known")
    (mine,) = raw.receive("workers", "known")
    answer = raw.ack("workers", "known", message)
    assert [entry.status.code for entry in answer.entries] == [Code.INVALID_RECEIPT_HANDLE]
    assert raw.ack("others", "known", message).status.code == Code.OK
    assert raw.ack("workers", "known", mine).status.code == Code.OK


# -- clients that vanish ------------------------------------------------------------------------------


def test_a_client_that_vanishes_in_a_long_poll_takes_nothing_with_it(gateway: RocketGateway) -> None:
    client = RawRocket(gateway.endpoints, "vanishes")
    poll = client.begin_receive("workers", "known", wait=10)
    waiting = threading.Thread(target=lambda: _swallow(poll), daemon=True)
    waiting.start()
    wait_for(lambda: consumers(gateway) == 1, what="the long poll")
    client.close()
    waiting.join(10)
    with RawRocket(gateway.endpoints, "stays") as other:
        other.send("known", b"for whoever is there")
        (message,) = wait_for(lambda: other.receive("workers", "known", wait=1), what="the message")
        assert message.system_properties.delivery_attempt == 1
        assert other.ack("workers", "known", message).status.code == Code.OK


def _swallow(stream: Any) -> None:
    try:
        list(stream)
    except grpc.RpcError:
        pass


def consumers(gateway: RocketGateway) -> int:
    """Return how many are waiting."""
    return int(httpx.get(f"{gateway.url}/v1/queues/%24share%2Fworkers%2Fknown").json()["consumers"])


def test_what_a_client_held_that_says_goodbye_comes_to_others(gateway: RocketGateway) -> None:
    with RawRocket(gateway.endpoints, "leaves") as leaving, RawRocket(gateway.endpoints, "stays") as other:
        leaving.send("known", b"held")
        (message,) = leaving.receive("workers", "known", auto_renew=True)
        assert message.body == b"held"
        leaving.call("NotifyClientTermination", group={"name": "workers"})
        (message,) = wait_for(lambda: other.receive("workers", "known", wait=1), what="the message")
        assert (message.body, message.system_properties.delivery_attempt) == (b"held", 2)
        assert other.ack("workers", "known", message).status.code == Code.OK


def test_bytes_that_are_no_http2(gateway: RocketGateway, raw: RawRocket) -> None:
    with socket.create_connection(("127.0.0.1", gateway.rocketmq_port), 10) as other:
        other.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + bytes(1000))
        other.settimeout(10)
        while other.recv(4096):
            pass
    assert raw.code("Heartbeat", client_type=1) == Code.OK


def test_a_request_that_is_no_protobuf(gateway: RocketGateway, raw: RawRocket) -> None:
    method = raw.channel.unary_unary("/apache.rocketmq.v2.MessagingService/SendMessage")
    answer = method(b"\xff\xff\xff\xff", timeout=10, metadata=list(raw.metadata.items()))
    assert CLASSES["SendMessageResponse"].FromString(answer).status.code == Code.BAD_REQUEST
    named_in_log(gateway, raw, Code.BAD_REQUEST)
    with pytest.raises(grpc.RpcError) as caught:
        raw.channel.unary_unary("/apache.rocketmq.v2.MessagingService/Unknown")(b"", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert raw.code("Heartbeat", client_type=1) == Code.OK


def test_a_client_without_an_id(gateway: RocketGateway) -> None:
    with RawRocket(gateway.endpoints, "") as client:
        assert client.code("Heartbeat", client_type=1) == Code.CLIENT_ID_REQUIRED


def test_settings_of_a_kind_that_is_not_served(raw: RawRocket) -> None:
    command = raw.tell(**subscription("workers", "known", kind=5))
    assert command.status.code == Code.UNSUPPORTED


# -- logins -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocketGateway]:
    directory = tmp_path_factory.mktemp("guarded")
    rule = {"id": "ann", "subject": "user:ann", "actions": ["all"], "resources": ["topic:#", "queue:*"]}
    (directory / "rules.toml").write_text(
        "[[rules]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in rule.items())
    )
    (directory / "gateway.toml").write_text(
        f'[users.root]\npassword = "{hash_password(PASSWORD)}"\nadmin = true\n'
        f"[auth]\nrules = {json.dumps(str(directory / 'rules.toml'))}\n"
    )
    process = RocketGateway(directory / "data", dev=False, config=directory / "gateway.toml")
    process.start()
    made = httpx.put(f"{process.url}/v1/admin/users/ann", json={"secret": SECRET}, auth=("root", PASSWORD))
    assert made.status_code < 300, made.text
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


@pytest.mark.parametrize("hours", [0, -14, 14])
def test_a_clock_in_another_zone_is_fine(guarded: RocketGateway, hours: int) -> None:
    with RawRocket(guarded.endpoints, f"zone{hours}") as client:
        client.log_in("ann", SECRET, datetime.now(UTC) + timedelta(hours=hours))
        assert client.send("t", b"x").status.code == Code.OK


@pytest.mark.parametrize("hours", [-25, 25, 24 * 365])
def test_a_clock_that_is_days_off_is_not(guarded: RocketGateway, hours: int) -> None:
    with RawRocket(guarded.endpoints, f"skewed{hours}") as client:
        client.log_in("ann", SECRET, datetime.now(UTC) + timedelta(hours=hours))
        assert client.send("t", b"x").status.code == Code.UNAUTHORIZED
        assert "127.0.0.1" in named_in_log(guarded, client, Code.UNAUTHORIZED)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "MQv2-HMAC-SHA1",
        "Basic YW5uOng=",
        "MQv2-HMAC-SHA1 Credential=ann, SignedHeaders=x-mq-date-time, Signature=" + "0" * 40,
        "MQv2-HMAC-SHA1 Credential=ann, SignedHeaders=x-mq-date-time",
        "MQv2-HMAC-SHA1 Credential=, SignedHeaders=x-mq-date-time, Signature=",
        "MQv2-HMAC-SHA1 " + "x" * 5000,
    ],
    ids=range(7),
)
def test_bad_signatures(guarded: RocketGateway, header: str) -> None:
    with RawRocket(guarded.endpoints, "forger", authorization=header) as client:
        client.metadata["x-mq-date-time"] = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        assert client.code("QueryRoute", topic={"name": "t"}) == Code.UNAUTHORIZED
        assert client.send("t", b"x").status.code == Code.UNAUTHORIZED
        with pytest.raises(RefusedRaw) as caught:
            client.receive("g", "t")
        assert caught.value.code == Code.UNAUTHORIZED
    assert SECRET not in "".join(guarded.errors)


def test_a_handle_of_somebody_else(guarded: RocketGateway, tmp_path: Path) -> None:
    with RawRocket(guarded.endpoints, "owner") as owner, RawRocket(guarded.endpoints, "thief") as thief:
        owner.log_in("ann", SECRET)
        owner.receive("workers", "t")  # the group is there now
        owner.send("t", b"mine")
        (message,) = owner.receive("workers", "t")
        stolen = thief.ack("workers", "t", message)
        assert Code.OK not in [stolen.status.code, *(entry.status.code for entry in stolen.entries)]
        assert owner.ack("workers", "t", message).status.code == Code.OK
