"""Whatever a client sends is published or refused: nothing else happens, and what is published comes back."""

from __future__ import annotations

import types
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.access import Authority, Principal, Ruling
from gateway.core.broker import Broker
from gateway.core.clock import Clock
from gateway.core.errors import GatewayError
from gateway.core.message import Origin
from gateway.core.session import Session
from gateway.protocols.openmessaging.sending.sending import Sending
from gateway.protocols.openmessaging.translate import from_message
from gateway.rocketmq.schema import CLASSES, Resource
from gateway.storage.memory import MemoryEngine

NOW_MS = 1_700_000_000_000


class Everything:
    def authorize(self, *_: object) -> Ruling:
        return Ruling(True)


def made() -> tuple[Any, Broker, Any]:
    """Return what sends, and a client."""
    broker = Broker(MemoryEngine(), Clock(NOW_MS, 1))
    broker.restore(lambda: None)
    origin = Origin("openmessaging", "u", "c", "127.0.0.1:1")
    session = Session(broker, Principal("u"), origin, Authority([Everything()]))
    client = types.SimpleNamespace(session=session, namespace="", publishes=set())
    gateway: Any = types.SimpleNamespace(broker=broker, clock=broker.clock)
    existence: Any = types.SimpleNamespace(check_topic=lambda topic: None)
    settings = types.SimpleNamespace(body_bytes_max=1000)
    nobody: Any = None
    return Sending(gateway, settings, nobody, existence, nobody), broker, client


texts = st.text(max_size=6) | st.sampled_from(
    ["$ttl", "$delay", "1", "0.5", "$type:a", "int", "repeated", "[1]"]
)
int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1) | st.just(NOW_MS // 1000 + 5)
times = st.fixed_dictionaries({}, optional={"seconds": int64, "nanos": int32})
systems = st.fixed_dictionaries(
    {"message_id": st.sampled_from(["m", "a b", ""])},
    optional={
        "tag": texts,
        "keys": st.lists(texts, max_size=3),
        "body_digest": st.fixed_dictionaries({"type": st.sampled_from([0, 0, 1, 9]), "checksum": texts}),
        "body_encoding": st.sampled_from([0, 1, 1, 2, 3]),
        "message_type": st.sampled_from([0, 0, 0, 1, 2, 3, 4, 4, 5, 6, 7]),
        "born_timestamp": times,
        "delivery_timestamp": times,
        "message_group": texts,
        "trace_context": texts,
        "orphaned_transaction_recovery_duration": times,
        "priority": int32,
        "lite_topic": st.sampled_from(["", "", "l"]),
    },
)
messages = st.fixed_dictionaries(
    {
        "topic": st.fixed_dictionaries({"name": st.sampled_from(["t", "t", "t", "%24delayed%2F1%2Ft", "/"])}),
        "body": st.binary(min_size=1, max_size=20) | st.just(b"x"),
        "system_properties": systems,
    },
    optional={"user_properties": st.dictionaries(texts, texts, max_size=4)},
)


@given(messages)
def test_a_message_is_published_or_refused(fields: dict[str, Any]) -> None:
    sending, broker, client = made()
    wire = CLASSES["Message"](**fields)
    entry = CLASSES["SendResultEntry"]()
    try:
        message = sending._message(client, wire)
        sending._publish(client, wire, message, entry)
    except GatewayError:
        return
    broker.dispatch()
    broker.engine.flush()
    entry.SerializeToString()
    again = CLASSES["Message"]()
    from_message(again, message, Resource(name="t"), "t", 1, 1, NOW_MS)
    again.SerializeToString()
