"""The settings there are: one class for each section of the file, with defaults and ranges.

Reading and checking them is `gateway.config`'s. docs/configuration.md has the reason for each number.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

import msgspec

from .core.policy import LETTERS_BYTES_MAX, LETTERS_DAYS, LETTERS_MAX
from .core.topic import check_filter
from .rocketmq.names import to_group

#: Every door this project knows of, and where it opens; "" keeps it closed.
DOORS = {
    "mqtt": "127.0.0.1:1883",
    "amqp": "127.0.0.1:5672",
    "coap": "127.0.0.1:5683",
    "http": "127.0.0.1:8080",
    "openmessaging": "127.0.0.1:8081",
    "mqtts": "",
    "amqps": "",
    "coaps": "",
    "https": "",
    "openmessagings": "",
}
TLS_DOORS = ("mqtts", "amqps", "coaps", "https", "openmessagings")  # those of plugins are `<name>s` as well
#: Which no router of the Internet forwards: nobody outside can send with their addresses.
PRIVATE_NETWORKS = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
)
WINDOW_SECONDS_MAX = 30 * 86_400  # of deduplication: what is longer than a month is a database


class Address(msgspec.Struct, frozen=True):
    """Where a door listens: `host:port`, `[v6]:port` or `unix:/path`."""

    kind: str  # "tcp" or "unix"
    host: str = ""
    port: int = 0
    path: str = ""
    tls: str = ""  # the door whose TLS is around it; "": none is

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.kind == "unix" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # another name: who knows where it points tomorrow

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raise ValueError with a sentence on what is wrong."""
        if text.startswith("unix:"):
            if not text[5:] or "\0" in text:
                raise ValueError(f"{text!r}: unix: needs a path, as in unix:/run/gateway/mqtt.sock")
            return cls("unix", path=text[5:])
        host, separator, port = text.rpartition(":")
        if not separator:
            raise ValueError(f"{text!r} is no address; host:port, [v6]:port or unix:/path is expected")
        if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
            raise ValueError(f"{text!r}: the port must be a number from 0 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            if not _is_v6(host):
                raise ValueError(f"{text!r}: {host!r} is no IPv6 address")
        elif ":" in host:
            raise ValueError(f"{text!r}: an IPv6 address needs brackets, as in [::1]:1883")
        elif not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", host):
            raise ValueError(
                f"{text!r}: {host!r} is no host; 127.0.0.1 is this machine, 0.0.0.0 is open to all"
            )
        return cls("tcp", host, int(port))


def _is_v6(host: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(host))
    except ValueError:
        return False


class Server(msgspec.Struct, frozen=True):
    """`[server]`"""

    data: str = "./gateway-data"


class Storage(msgspec.Struct, frozen=True):
    """`[storage]`"""

    engine: str = "commitlog"
    segment_bytes: int = 64 << 20
    trace_seconds: float = 3600.0
    trace_bytes_max: int = 4 << 30
    durability: dict[str, str] = {}


class Limits(msgspec.Struct, frozen=True):
    """`[limits]`, of all protocols together"""

    connections_max: int = 100_000
    handshake_seconds_max: float = 10.0
    connection_buffer_bytes_max: int = 1 << 20
    packet_bytes_max: int = 16 << 20
    body_bytes_max: int = 16 << 20
    topics_cached_max: int = 100_000
    queue_memory_messages_max: int = 1000
    receiver_messages_max: int = 10_000
    session_subscriptions_max: int = 20_000


class Mqtt(msgspec.Struct, frozen=True):
    """`[mqtt]`"""

    keep_alive_seconds_max: int = 0
    session_expiry_seconds_max: int = 0xFFFFFFFF
    receive_maximum: int = 1000
    topic_alias_maximum: int = 100
    retain_available: bool = True
    queue_length_max: int = 100_000


class Amqp(msgspec.Struct, frozen=True):
    """`[amqp]`"""

    frame_bytes_max: int = 131_072
    channels_max: int = 2047
    heartbeat_seconds: int = 60


class Coap(msgspec.Struct, frozen=True):
    """`[coap]`"""

    plain_credentials_from: list[str] = msgspec.field(default_factory=lambda: ["127.0.0.0/8", "::1/128"])
    trusted_networks: list[str] = msgspec.field(default_factory=lambda: list(PRIVATE_NETWORKS))
    requests_per_second_max: int = 30_000
    transfer_seconds: float = 247.0
    senml: dict[str, str] = {}
    senml_values: dict[str, str] = {}
    dtls_idle_seconds: float = 90_000.0
    ping_seconds: float = 60.0


class OpenMessaging(msgspec.Struct, frozen=True):
    """`[openmessaging]`"""

    advertise: str = ""
    advertise_tls: str = ""
    auto_create: bool = True
    topics: list[str] = []
    fifo_groups: list[str] = []
    body_bytes_max: int = 4 << 20
    long_poll_seconds_max: float = 20.0
    invisible_seconds: float = 60.0
    renew_seconds_max: float = 3 * 3600.0
    client_idle_seconds: float = 120.0
    retention_hours: float = 72.0


class Dedup(msgspec.Struct, frozen=True):
    """`[dedup]`: what is published once, and for how long that is remembered"""

    key_seconds: float = 600.0
    message_ids: dict[str, float] = {}


class DeadLetters(msgspec.Struct, frozen=True):
    """`[dead_letters]`"""

    length_max: int = LETTERS_MAX
    bytes_max: int = LETTERS_BYTES_MAX
    days: float = LETTERS_DAYS


class Network(msgspec.Struct, frozen=True):
    """`[network]`"""

    proxy_protocol: list[str] = []
    proxy_from: list[str] = msgspec.field(default_factory=lambda: ["127.0.0.1/32"])


class Tls(msgspec.Struct, frozen=True):
    """`[tls]`, of all TLS doors; `[tls.DOOR]` overrides it for one."""

    certificate: str = ""
    key: str = ""
    client_ca: str = ""
    client_certificates: str = ""
    minimum_version: str = "1.2"
    ciphers: str = ""


class Auth(msgspec.Struct, frozen=True):
    """`[auth]`"""

    rules: str = ""
    on_denied: str = "refuse"


class Anonymous(msgspec.Struct, frozen=True):
    """`[anonymous]`: the short form of rules for clients without a login"""

    publish: list[str] = []
    subscribe: list[str] = []
    networks: list[str] = []


class Quota(msgspec.Struct, frozen=True):
    """`[quotas.NAME]`"""

    subject: str
    scope: str = "user"
    connections: int = 0
    publish_rate: float = 0.0
    publish_bytes: float = 0.0
    queues: int = 0
    retained: int = 0
    subscriptions: int = 0


class Transactions(msgspec.Struct, frozen=True):
    """`[transactions]`; `gateway.transactions.webhook` finds what is wrong with the last three."""

    check_first_seconds: float = 6.0
    check_interval_seconds: float = 30.0
    checks_max: int = 15
    remember_seconds: float = 86_400.0
    messages_max: int = 1000
    check_urls: list[str] = []
    check_secret_file: str = ""
    check_timeout_seconds: float = 5.0


class Tokens(msgspec.Struct, frozen=True):
    """`[tokens]`; `gateway.auth.tokens.check` finds what is wrong with one."""

    secret_file: str = ""
    public_key: str = ""
    jwks: str = ""
    algorithms: list[str] = []
    issuer: str = ""
    audience: str = ""
    leeway_seconds: float = 0.0
    require_expiry: bool = True
    user_name: str = "match"
    name_claim: str = "sub"
    groups_claim: str = "groups"
    admin_claim: str = ""
    admin_group: str = ""
    client_id_claim: str = ""
    rules_claim: str = "acl"


class Certificates(msgspec.Struct, frozen=True):
    """`[certificates]`; `gateway.auth.certificates.check` finds what is wrong with one."""

    name: str = "cn"
    users_only: bool = False


class User(msgspec.Struct, frozen=True):
    """`[users.NAME]`"""

    password: str
    scram: str = ""
    admin: bool = False
    disabled: bool = False
    groups: list[str] = []
    publish: list[str] = []
    subscribe: list[str] = []


class Webhooks(msgspec.Struct, frozen=True):
    """`[webhooks]`; `gateway.webhooks.destinations` finds what is wrong with a URL."""

    allow: list[str] = []
    allow_private: bool = False
    ca: str = ""


class Plugins(msgspec.Struct, frozen=True):
    """`[plugins]`; `[plugins.NAME]` are the plugins' own."""

    disabled: list[str] = []


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": Server,
    "storage": Storage,
    "limits": Limits,
    "mqtt": Mqtt,
    "amqp": Amqp,
    "coap": Coap,
    "openmessaging": OpenMessaging,
    "dedup": Dedup,
    "dead_letters": DeadLetters,
    "network": Network,
    "tls": Tls,
    "auth": Auth,
    "anonymous": Anonymous,
    "tokens": Tokens,
    "transactions": Transactions,
    "certificates": Certificates,
    "webhooks": Webhooks,
    "plugins": Plugins,
}

#: (section, key) -> least and greatest value
RANGES: dict[tuple[str, str], tuple[float, float]] = {
    ("tokens", "leeway_seconds"): (0, 600),
    ("transactions", "check_first_seconds"): (0.1, 86_400),
    ("transactions", "check_interval_seconds"): (0.1, 86_400),
    ("transactions", "checks_max"): (0, 1000),
    ("transactions", "remember_seconds"): (1, 30 * 86_400),
    ("transactions", "messages_max"): (1, 100_000),
    ("transactions", "check_timeout_seconds"): (0.1, 60),
    ("storage", "segment_bytes"): (4096, 1 << 32),
    ("storage", "trace_seconds"): (0, 10 * 365 * 86400),
    ("storage", "trace_bytes_max"): (0, 1 << 60),
    ("limits", "connections_max"): (1, 10_000_000),
    ("limits", "handshake_seconds_max"): (0.1, 3600),
    ("limits", "connection_buffer_bytes_max"): (1024, 1 << 32),
    ("limits", "packet_bytes_max"): (128, 268_435_455 + 5),
    ("limits", "body_bytes_max"): (1, 1 << 32),
    ("limits", "topics_cached_max"): (1, 100_000_000),
    ("limits", "session_subscriptions_max"): (1, 10_000_000),
    ("limits", "queue_memory_messages_max"): (1, 10_000_000),
    ("limits", "receiver_messages_max"): (1, 10_000_000),
    ("dedup", "key_seconds"): (1, WINDOW_SECONDS_MAX),
    ("mqtt", "keep_alive_seconds_max"): (0, 65_535),
    ("mqtt", "session_expiry_seconds_max"): (0, 0xFFFFFFFF),
    ("mqtt", "receive_maximum"): (1, 65_535),
    ("mqtt", "topic_alias_maximum"): (0, 65_535),
    ("mqtt", "queue_length_max"): (0, 1 << 40),
    ("coap", "dtls_idle_seconds"): (10, 365 * 86_400),
    ("coap", "ping_seconds"): (0, 86_400),
    ("amqp", "frame_bytes_max"): (4096, 1 << 31),
    ("amqp", "channels_max"): (1, 65_535),
    ("amqp", "heartbeat_seconds"): (0, 65_535),
    ("coap", "requests_per_second_max"): (0, 10_000_000),
    ("coap", "transfer_seconds"): (1, 86_400),
    ("openmessaging", "body_bytes_max"): (1, 1 << 30),
    ("openmessaging", "long_poll_seconds_max"): (1, 3600),
    ("openmessaging", "invisible_seconds"): (1, 12 * 3600),
    ("openmessaging", "renew_seconds_max"): (1, 12 * 3600),
    ("openmessaging", "client_idle_seconds"): (20, 86_400),
    ("openmessaging", "retention_hours"): (0, 10 * 366 * 24),
    ("dead_letters", "length_max"): (0, 1 << 40),
    ("dead_letters", "bytes_max"): (0, 1 << 60),
    ("dead_letters", "days"): (0, 36_500),
}

#: (section, key) -> the only values there are; "" leaves the key unsaid
CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("tls", "client_certificates"): ("none", "optional", "required"),
    ("tls", "minimum_version"): ("1.2", "1.3"),
    ("auth", "on_denied"): ("refuse", "disconnect"),
    ("quotas", "scope"): ("user", "client"),
}


def check_network(text: str) -> None:
    """Raise ValueError unless a text is an address or a network."""
    ipaddress.ip_network(text, strict=False)


def check_advertised(text: str) -> None:
    """Raise ValueError unless a text is an address that a client could dial, or empty."""
    if not text:
        return
    address = Address.parse(text)
    if address.kind != "tcp" or not address.port:
        raise ValueError(f"{text!r}: host:port is expected")
    if address.host in ("0.0.0.0", "::"):
        raise ValueError(f"{text!r}: nobody can dial {address.host}; say what clients reach this machine by")


def check_group_pattern(text: str) -> None:
    """Raise InvalidTopic unless a text is a consumer group's name, or what several begin with and `*`."""
    if text != "*":
        to_group(text.removesuffix("*"))


#: (section, key) -> what raises ValueError or InvalidTopic for a string, or one of a list, that is none
CHECKS: dict[tuple[str, str], Callable[[str], None]] = {
    ("network", "proxy_from"): check_network,
    ("coap", "plain_credentials_from"): check_network,
    ("coap", "trusted_networks"): check_network,
    ("anonymous", "networks"): check_network,
    ("anonymous", "publish"): check_filter,
    ("anonymous", "subscribe"): check_filter,
    ("openmessaging", "advertise"): check_advertised,
    ("openmessaging", "advertise_tls"): check_advertised,
    ("openmessaging", "topics"): check_filter,
    ("openmessaging", "fifo_groups"): check_group_pattern,
}

#: What a setting's type is called in TOML.
TYPE_NAMES: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "table",
    list[str]: "array of strings",
    dict[str, str]: "table of strings",
    dict[str, float]: "table of numbers",
}
