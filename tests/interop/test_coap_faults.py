"""What networks do to datagrams, between aiocoap and a real gateway: every answered PUT is stored once.

A confirmable request is sent again until it is answered, so its message comes at least once; that it does not
come twice is the gateway's part (RFC 7252, 4.2 and 4.5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.interop.aiocoap_client import AiocoapClient
from tests.process import GatewayProcess
from tests.udp_proxy import Faults, UdpProxy

pytestmark = pytest.mark.interop
DEVICES = 25
MESSAGES = 10
ALL_FAULTS = {
    "loss": Faults(loss=0.1),
    "duplication": Faults(duplication=0.5, late_seconds=0.15),
    "reordering": Faults(reordering=0.5, late_seconds=0.15),
    "all of it": Faults(0.1, 0.25, 0.25, 0.15),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("faults") / "data").start()
    yield process
    process.stop()
    assert not process.bugs(), "\n".join(process.errors)


def drained(gateway: GatewayProcess, queue: str) -> Counter[str]:
    """Return how often each body is in a queue."""
    found: Counter[str] = Counter()
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        while True:
            got: list[dict[str, Any]] = client.post(f"/v1/queues/{queue}/receive?max=1000").json()[
                "deliveries"
            ]
            if not got:
                return found
            found.update(each["body"] for each in got)


@pytest.mark.parametrize("name", ALL_FAULTS)
def test_every_answered_put_is_stored_exactly_once(shared: GatewayProcess, name: str) -> None:
    topic = name.replace(" ", "-")
    wanted = {"bindings": [f"faults/{topic}"], "durable": True}
    httpx.put(f"{shared.url}/v1/queues/{topic}", json=wanted).raise_for_status()
    bodies = [f"{n % DEVICES}-{n}" for n in range(DEVICES * MESSAGES)]
    with ExitStack() as stack:
        proxy = stack.enter_context(UdpProxy(shared.coap_port, ALL_FAULTS[name], seed=11))
        client = stack.enter_context(AiocoapClient(proxy.port))
        puts = [(body.partition("-")[0], f"/ps/faults/{topic}", body.encode()) for body in bodies]
        codes = client.put_many(puts, impatient=True)
        counts = proxy.counts
    stored = drained(shared, topic)
    assert set(stored) <= set(bodies)
    assert [body for body in bodies if stored[body] > 1] == []
    answered = [body for body, code in zip(bodies, codes, strict=True) if code.startswith("2.")]
    assert [body for body in answered if stored[body] != 1] == []
    assert set(codes) <= {"2.01", "2.04"}, f"what is sent often enough is answered: {codes}"
    faults, seen = ALL_FAULTS[name], (counts["lost"], counts["duplicated"], counts["late"])
    assert seen[0] > 20 or not faults.loss
    assert seen[1] > 20 or not faults.duplication
    assert seen[2] > 20 or not faults.reordering
    assert counts["from_client"] > len(bodies) or not faults.loss, "some were sent again"


def test_blocks_arrive_whole_however_they_travel(shared: GatewayProcess) -> None:
    body = bytes(range(256)) * 48  # 12 blocks each way
    with ExitStack() as stack:
        proxy = stack.enter_context(UdpProxy(shared.coap_port, Faults(0.05, 0.2, 0.2, 0.05), seed=5))
        client = stack.enter_context(AiocoapClient(proxy.port))
        for n in range(3):
            answer = client.put(f"/ps/faults/blocks/{n}", body, "retain=true", impatient=True)
            assert answer.code == "2.01"
            assert client.get(f"/ps/faults/blocks/{n}", impatient=True).payload == body
        assert proxy.counts["lost"] > 0
