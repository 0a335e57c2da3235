"""What brokers do in a client's name, the client has to be allowed: dead letters, alternates, copies."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from gateway.auth.hashes import hash_password
from tests.process import GatewayProcess

RULES = """
[[rules]]
id = "own"
subject = "user:app"
actions = ["all"]
resources = ["queue:jobs", "topic:work/#"]

[[rules]]
id = "letters"
subject = "user:app"
actions = ["publish", "manage"]
resources = ["topic:letters/#", "queue:failed"]
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("rights")
    (directory / "rules.toml").write_text(RULES)
    hashed = hash_password("right password")
    (directory / "gateway.toml").write_text(
        f'[auth]\nrules = "{directory / "rules.toml"}"\n'
        f'[users.app]\npassword = "{hashed}"\n[users.root]\npassword = "{hashed}"\nadmin = true\n'
    )
    made = GatewayProcess(directory / "data", dev=False, config=directory / "gateway.toml").start()
    root = channel(made, "root")
    for exchange in ("work", "letters", "secret"):
        root.exchange_declare(exchange, "topic")
    root.connection.close()
    yield made
    made.stop()


def channel(gateway: GatewayProcess, user: str = "app") -> pika.adapters.blocking_connection.BlockingChannel:
    login = pika.PlainCredentials(user, "right password")
    return pika.BlockingConnection(
        pika.ConnectionParameters("127.0.0.1", gateway.amqp_port, credentials=login)
    ).channel()


@pytest.fixture
def app(gateway: GatewayProcess) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    made = channel(gateway)
    yield made
    made.connection.close()


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ({"x-dead-letter-exchange": "letters"}, ""),
        ({"x-dead-letter-exchange": "letters", "x-dead-letter-routing-key": "k"}, ""),
        ({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "failed"}, ""),
        ({"x-dead-letter-exchange": "secret"}, "'secret/#'"),
        ({"x-dead-letter-exchange": "letters/../secret"}, "no rule allows it"),
        ({"x-dead-letter-exchange": "secret", "x-dead-letter-routing-key": "k"}, "'secret/k'"),
        ({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "others"}, "queue 'others'"),
    ],
    ids=range(7),
)
def test_dead_letters_go_where_the_client_may_publish(
    gateway: GatewayProcess, arguments: dict[str, str], refused: str
) -> None:
    made = channel(gateway)
    try:
        if not refused:
            made.queue_declare("jobs", arguments=arguments)
            made.queue_delete("jobs")
            return
        with pytest.raises(ChannelClosedByBroker, match=refused) as closed:
            made.queue_declare("jobs", arguments=arguments)
        assert closed.value.reply_code == 403
    finally:
        made.connection.close()


@pytest.mark.parametrize(("alternate", "good"), [("letters", True), ("secret", False)])
def test_an_alternate_exchange_is_one_the_client_may_publish_to(
    gateway: GatewayProcess, alternate: str, good: bool
) -> None:
    made = channel(gateway)
    root = channel(gateway, "root")
    root.exchange_delete("work")
    try:
        if good:
            made.exchange_declare("work", "topic", arguments={"alternate-exchange": alternate})
        else:
            with pytest.raises(ChannelClosedByBroker, match="may not publish 'secret/#'"):
                made.exchange_declare("work", "topic", arguments={"alternate-exchange": alternate})
            root.exchange_declare("work", "topic")
    finally:
        made.connection.close()
        root.connection.close()


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_copies_go_where_the_client_may_publish(gateway: GatewayProcess, header: str) -> None:
    made = channel(gateway)
    made.confirm_delivery()
    good = pika.BasicProperties(headers={header: ["failed"]})
    made.queue_declare("jobs")
    made.basic_publish("", "jobs", b"x", good)
    assert made.basic_get("jobs", auto_ack=True)[2] == b"x"
    bad = pika.BasicProperties(headers={header: ["others"]})
    with pytest.raises(ChannelClosedByBroker, match="may not publish queue 'others'"):
        made.basic_publish("", "jobs", b"x", bad)
    made.connection.close()


def test_the_management_api_asks_the_same(gateway: GatewayProcess) -> None:
    with httpx.Client(base_url=gateway.url, auth=("app", "right password")) as client:
        client.delete("/api/queues/%2F/jobs")
        body = {"arguments": {"x-dead-letter-exchange": "secret"}}
        refused = client.put("/api/queues/%2F/jobs", json=body)
        assert refused.status_code == 403, refused.text
        refused = client.put("/v1/queues/jobs", json={"policy": {"dead_letter": "secret/letters"}})
        assert (refused.status_code, "'secret/letters'" in refused.json()["detail"]) == (403, True)


def test_an_exchange_is_its_part_of_the_topic_space(gateway: GatewayProcess) -> None:
    made = channel(gateway)
    with pytest.raises(ChannelClosedByBroker, match="may not manage 'secret/#'"):
        made.exchange_declare("secret", "direct")
    made = made.connection.channel()
    made.queue_declare("jobs")
    with pytest.raises(ChannelClosedByBroker, match="may not subscribe 'secret/k'"):
        made.queue_bind("jobs", "secret", "k")
    made.connection.close()


def test_a_binding_over_http_is_a_subscription_too(gateway: GatewayProcess) -> None:
    with httpx.Client(base_url=gateway.url, auth=("app", "right password")) as client:
        client.delete("/api/queues/%2F/jobs")
        client.put("/api/queues/%2F/jobs", json={}).raise_for_status()
        refused = client.post("/api/bindings/%2F/e/secret/q/jobs", json={"routing_key": "k"})
        assert refused.status_code == 403, refused.text


def test_answers_to_ones_own_requests_need_no_rule(gateway: GatewayProcess) -> None:
    """Direct reply-to: the queue has a name nobody can guess, and is the connection's own."""
    made = channel(gateway)
    answers: list[bytes] = []
    made.basic_consume("amq.rabbitmq.reply-to", lambda *got: answers.append(got[3]), auto_ack=True)
    made.queue_delete("jobs")
    made.queue_declare("jobs")
    made.basic_publish("", "jobs", b"ask", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    root = channel(gateway, "root")
    asked = root.basic_get("jobs", auto_ack=True)
    root.basic_publish("", asked[1].reply_to, b"answer")
    root.connection.close()
    made.connection.process_data_events(time_limit=10)
    assert answers == [b"answer"]
    made.connection.close()


def test_a_shared_subscription_asks_for_its_filter(gateway: GatewayProcess) -> None:
    """Whoever may not subscribe is no member: not by consuming, getting, declaring, nor by HTTP."""
    refused = "$share/workers/letters/#"
    for attempt in (
        lambda channel: channel.basic_consume(refused, lambda *_: None),
        lambda channel: channel.basic_get(refused),
        lambda channel: channel.queue_declare(refused, durable=True),
        lambda channel: channel.queue_declare(refused, passive=True),
    ):
        opened = channel(gateway)
        with pytest.raises(ChannelClosedByBroker) as caught:
            attempt(opened)
        assert caught.value.reply_code == 403
        opened.connection.close()
    path = f"{gateway.url}/v1/queues/{refused.replace('/', '%2F').replace('#', '%23')}/receive"
    assert httpx.post(path, auth=("app", "right password")).status_code == 403


def test_a_shared_subscription_needs_no_more_than_that(gateway: GatewayProcess) -> None:
    opened = channel(gateway)
    opened.queue_declare("$share/workers/work/#", durable=True)
    opened.basic_publish("work", "a", b"job")
    method, _, body = opened.basic_get("$share/workers/work/#", auto_ack=True)
    assert (method is not None, body) == (True, b"job")
    opened.connection.close()
    for attempt in (
        lambda channel: channel.queue_bind("$share/workers/work/#", "letters", "#"),
        lambda channel: channel.queue_declare("$share/workers", durable=True),
    ):
        opened = channel(gateway)
        with pytest.raises(ChannelClosedByBroker):
            attempt(opened)
        opened.connection.close()
