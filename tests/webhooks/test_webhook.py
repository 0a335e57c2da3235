"""What may be asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.api import GatewayError
from gateway.outgoing.signing import key_of, make_secret
from gateway.webhooks.secrets import Vault
from gateway.webhooks.webhook import (
    AUTHORIZATION_MAX,
    CONCURRENCY_MAX,
    FILTERS_MAX,
    Maker,
    Sealed,
    Webhook,
    check_authorization,
    policy_of,
    webhook_from,
)

MAKER = Maker("ann", False, ("g",), "10.0.0.1:5")
GOOD: dict[str, Any] = {"url": "https://h/", "filters": ["a/#"]}


def test_defaults() -> None:
    webhook = webhook_from("x", GOOD, MAKER)
    assert (webhook.name, webhook.url, webhook.filters, webhook.maker) == ("x", "https://h/", ("a/#",), MAKER)
    assert (webhook.format, webhook.concurrency, webhook.rate, webhook.timeout) == ("plain", 10, 0, 15)
    assert webhook.queue_name == "$webhook/x"
    assert policy_of(webhook).delivery_limit == 17
    assert msgspec.json.decode(msgspec.json.encode(webhook), type=Webhook) == webhook


def test_numbers_may_be_whole() -> None:
    webhook = webhook_from("x", {**GOOD, "rate": 5, "timeout": 1, "filters": ["a", "b", "a"]}, MAKER)
    assert (webhook.rate, webhook.timeout, webhook.filters) == (5.0, 1.0, ("a", "b"))


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "0", "x" * 100])
def test_names(name: str) -> None:
    assert webhook_from(name, GOOD, MAKER).name == name


@pytest.mark.parametrize("name", ["", "-a", ".", "..", "a/b", "a b", "a\n", "ä", "x" * 101, "$a", "a%2fb"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(GatewayError, match="name"):
        webhook_from(name, GOOD, MAKER)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": 1}, "url"),
        ({"url": None}, "url"),
        ({"filters": "a"}, "filters"),
        ({"filters": [1]}, "filters"),
        ({"filters": []}, "filters"),
        ({"filters": [""]}, "filter"),
        ({"filters": ["a/#/b"]}, "#"),
        ({"filters": ["a+"]}, r"\+"),
        ({"filters": ["$sys/#"]}, "begins with"),
        ({"filters": ["$share/g/a"]}, "begins with"),
        ({"filters": ["$queue/a"]}, "begins with"),
        ({"filters": [f"a/{number}" for number in range(FILTERS_MAX + 1)]}, "at most"),
        ({"queue": "q"}, "not both"),
        ({"filters": [], "queue": "$session/x"}, "begin with"),
        ({"filters": [], "queue": "$webhook/x"}, "begin with"),
        ({"filters": [], "queue": "$share/g/x", "group": "h"}, "is one itself"),
        ({"filters": [], "queue": "$share/x"}, "a shared subscription is"),
        ({"filters": [], "queue": "$share/g/$sys/x"}, "cannot be shared"),
        ({"filters": [], "queue": "q", "group": "$x"}, "begin with"),
        ({"filters": [], "queue": "q", "policy": {"delivery_limit": 1}}, "policy"),
        ({"group": "g"}, "stream"),
        ({"format": "xml"}, "format"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": CONCURRENCY_MAX + 1}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"rate": -1}, "rate"),
        ({"rate": 1e9}, "rate"),
        ({"rate": "fast"}, "rate"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 301}, "timeout"),
        ({"timeout": None}, "timeout"),
        ({"policy": {"no_such": 1}}, "no_such"),
        ({"policy": {"delivery_limit": -1}}, "delivery_limit"),
        ({"policy": {"compact": True}}, "compact"),
        ({"policy": {"max_priority": 3}}, "max_priority"),
        ({"policy": []}, "policy"),
        ({"selector": 1}, "selector"),
        ({"maker": {"name": "root", "admin": True}}, "unknown"),
        ({"secrets": []}, "unknown"),
        ({"paused": "x"}, "unknown"),
        ({"name": "y"}, "unknown"),
        ({"x" * 1000: 1}, "unknown"),
    ],
)
def test_what_makes_no_sense_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(GatewayError, match=words) as refused:
        webhook_from("x", {**GOOD, **fields}, MAKER)
    assert len(refused.value.detail) < 500


def test_a_shared_subscription_is_a_queue() -> None:
    found = webhook_from("x", {"url": GOOD["url"], "queue": "$share/g/a/+", "format": "openmessaging"}, MAKER)
    assert (found.queue_name, found.format) == ("$share/g/a/+", "openmessaging")


def test_what_is_missing_is_named() -> None:
    with pytest.raises(GatewayError, match="url"):
        webhook_from("x", {"filters": ["a"]}, MAKER)


@pytest.mark.parametrize("value", ["", "Bearer abc", "x" * AUTHORIZATION_MAX])
def test_authorization(value: str) -> None:
    assert check_authorization(value) == value


@pytest.mark.parametrize(
    "value", [None, 1, " a", "a ", "a\r\nx: y", "a\x00", "ä", "x" * (AUTHORIZATION_MAX + 1)]
)
def test_what_is_no_authorization(value: Any) -> None:
    with pytest.raises(GatewayError, match="authorization"):
        check_authorization(value)


def sealed(vault: Vault, name: str = "x", authorization: str = "Bearer marked") -> tuple[Webhook, str]:
    """Return a webhook and its secret."""
    secret = make_secret()
    webhook = webhook_from(name, GOOD, MAKER)
    kept = vault.seal_authorization(name, authorization)
    secrets = (vault.seal_secret(name, secret), Sealed(vault.seal_secret(name, secret).text, 1000))
    return msgspec.structs.replace(webhook, secrets=secrets, authorization=kept), secret


def test_secrets_are_sealed_and_bound_to_a_name() -> None:
    vault = Vault(None)
    webhook, secret = sealed(vault)
    kept = msgspec.json.encode(webhook)
    assert secret.encode() not in kept
    assert b"marked" not in kept
    assert secret not in repr(webhook)
    assert "v1." not in repr(webhook.secrets)
    opened = vault.open(webhook)
    assert opened.authorization == "Bearer marked"
    assert opened.active(999) == [key_of(secret)] * 2
    assert opened.active(1000) == [key_of(secret)], "the one before has ended"
    assert secret not in repr(opened)
    with pytest.raises(GatewayError, match="cannot be opened"):
        vault.open(msgspec.structs.replace(webhook, name="y"))
    with pytest.raises(GatewayError, match="cannot be opened"):
        Vault(None).open(webhook)
    assert vault.open(sealed(vault, authorization="")[0]).authorization == ""


def test_one_secret_is_not_taken_for_another() -> None:
    vault = Vault(None)
    webhook, _ = sealed(vault)
    swapped = msgspec.structs.replace(webhook, authorization=webhook.secrets[0].text)
    with pytest.raises(GatewayError, match="cannot be opened"):
        vault.open(swapped)
