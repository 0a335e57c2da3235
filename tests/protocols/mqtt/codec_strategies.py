"""Hypothesis strategies for every MQTT packet, as a peer may legally send it."""

from functools import cache

from hypothesis import strategies as st

from gateway.protocols.mqtt.packets import (
    CONNACK,
    DISCONNECT,
    EMPTY,
    PUBLISH,
    V5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscribeOption,
    Unsuback,
    Unsubscribe,
    Will,
)
from gateway.protocols.mqtt.properties import WILL
from gateway.protocols.mqtt.reasons import ALLOWED, REASON_OF_CONNACK_V3
from tests.protocols.mqtt.codec_cases import PROPERTY_CASES

_characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_plain = st.characters(exclude_categories=["Cs"], exclude_characters="\0+#/")

texts = st.text(_characters, max_size=40)
levels = st.text(_plain, max_size=8)
blobs = st.binary(max_size=300)
topics = st.lists(levels, min_size=1, max_size=5).map("/".join).filter(bool)
packet_ids = st.integers(1, 65_535)


@st.composite
def filters(draw: st.DrawFn) -> str:
    parts = draw(st.lists(levels | st.just("+"), min_size=1, max_size=4))
    if draw(st.booleans()):
        parts.append("#")
    text = "/".join(parts)
    share = draw(st.none() | st.text(_plain, min_size=1, max_size=8))
    if share is not None:
        return f"$share/{share}/{text or '#'}"
    # By chance it may look like a share without being a valid one.
    return text if text and not text.startswith("$share/") else "#"


_flags = st.integers(0, 1)
_u16 = st.integers(0, 65_535)
_u32 = st.integers(0, 0xFFFF_FFFF)

VALUES: dict[str, st.SearchStrategy[object]] = {
    "payload_format_indicator": _flags,
    "message_expiry_interval": _u32,
    "content_type": texts,
    "response_topic": topics,
    "correlation_data": blobs,
    "subscription_identifier": st.lists(st.integers(1, 268_435_455), min_size=1, max_size=1),
    "session_expiry_interval": _u32,
    "assigned_client_identifier": texts,
    "server_keep_alive": _u16,
    "authentication_method": texts,
    "authentication_data": blobs,
    "request_problem_information": _flags,
    "will_delay_interval": _u32,
    "request_response_information": _flags,
    "response_information": texts,
    "server_reference": texts,
    "reason_string": texts,
    "receive_maximum": st.integers(1, 65_535),
    "topic_alias_maximum": _u16,
    "topic_alias": st.integers(1, 65_535),
    "maximum_qos": _flags,
    "retain_available": _flags,
    "user_property": st.lists(st.tuples(texts, texts), min_size=1, max_size=3),
    "maximum_packet_size": st.integers(1, 0xFFFF_FFFF),
    "wildcard_subscription_available": _flags,
    "subscription_identifier_available": _flags,
    "shared_subscription_available": _flags,
}


@st.composite
def properties(draw: st.DrawFn, version: int, kind: int, server: bool = True) -> Properties:
    if version != V5:
        return EMPTY
    names = [case.name for case in PROPERTY_CASES if kind in case.packets]
    if kind == PUBLISH and server:
        names.remove("subscription_identifier")
    if kind == DISCONNECT and not server:
        names.remove("session_expiry_interval")
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=5))
    found = {name: draw(VALUES[name]) for name in chosen}
    if "authentication_method" not in found and kind != CONNACK:
        found.pop("authentication_data", None)
    return found


@st.composite
def connects(draw: st.DrawFn, version: int) -> Packet:
    will = draw(
        st.none()
        | st.builds(Will, topics, blobs, st.integers(0, 2), st.booleans(), properties(version, WILL))
    )
    username = draw(st.none() | texts)
    password = draw(st.none() | blobs) if username is not None or version == V5 else None
    return Connect(
        version,
        draw(texts),
        draw(st.booleans()),
        draw(_u16),
        username,
        password,
        will,
        draw(properties(version, Connect.type)),
    )


@st.composite
def publishes(draw: st.DrawFn, version: int, server: bool) -> Packet:
    qos = draw(st.integers(0, 2))
    found = draw(properties(version, PUBLISH, server))
    topic = "" if "topic_alias" in found and draw(st.booleans()) else draw(topics)
    return Publish(
        topic,
        draw(blobs),
        qos,
        draw(st.booleans()),
        bool(qos) and draw(st.booleans()),
        draw(packet_ids) if qos else 0,
        found,
    )


def _reasons(version: int, kind: int) -> st.SearchStrategy[int]:
    if version == V5:
        return st.sampled_from(sorted(ALLOWED[kind]))
    if kind == CONNACK:
        return st.sampled_from([int(reason) for reason in REASON_OF_CONNACK_V3])
    return st.sampled_from([0, 1, 2, 0x80]) if kind == Suback.type else st.just(0)


def _connacks(version: int) -> st.SearchStrategy[Packet]:
    return st.tuples(_reasons(version, CONNACK), st.booleans(), properties(version, CONNACK)).map(
        lambda drawn: Connack(drawn[1] and drawn[0] == 0 and version != 3, drawn[0], drawn[2])
    )


def _options(version: int) -> st.SearchStrategy[SubscribeOption]:
    if version != V5:
        return st.builds(SubscribeOption, filters(), st.integers(0, 2))
    option = st.builds(
        SubscribeOption, filters(), st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2)
    )
    return option.filter(lambda option: not (option.no_local and option.filter.startswith("$share/")))


@cache
def packets(version: int, server: bool) -> st.SearchStrategy[Packet]:
    """Return what a server (or a client) may receive after CONNECT."""
    kinds: list[st.SearchStrategy[Packet]] = [publishes(version, server)]
    for ack in (Puback, Pubrec, Pubrel, Pubcomp):
        kinds.append(st.builds(ack, packet_ids, _reasons(version, ack.type), properties(version, ack.type)))
    if version == V5:
        kinds.append(st.builds(Auth, _reasons(version, Auth.type), properties(version, Auth.type)))
    if version == V5 or server:
        found = properties(version, DISCONNECT, server)
        kinds.append(st.builds(Disconnect, _reasons(version, DISCONNECT), found))
    if server:
        some = st.lists(_options(version), min_size=1, max_size=4)
        kinds.append(st.builds(Subscribe, packet_ids, some, properties(version, Subscribe.type)))
        names = st.lists(filters(), min_size=1, max_size=4)
        kinds.append(st.builds(Unsubscribe, packet_ids, names, properties(version, Unsubscribe.type)))
        kinds.append(st.builds(Pingreq))
    else:
        kinds.append(_connacks(version))
        codes = st.lists(_reasons(version, Suback.type), min_size=1, max_size=4)
        kinds.append(st.builds(Suback, packet_ids, codes, properties(version, Suback.type)))
        answers = (
            st.lists(_reasons(version, Unsuback.type), min_size=1, max_size=4)
            if version == V5
            else st.builds(list[int])
        )
        kinds.append(st.builds(Unsuback, packet_ids, answers, properties(version, Unsuback.type)))
        kinds.append(st.builds(Pingresp))
    return st.one_of(kinds)
