"""amqtt's client with a real gateway, over TCP and WebSocket."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.peers import require
from tests.process import GatewayProcess

pytestmark = pytest.mark.interop
PEER = Path(__file__).with_name("amqtt_peer.py")
BODIES = 4


@pytest.mark.parametrize("door", ["mqtt://127.0.0.1:{mqtt}/", "ws://127.0.0.1:{http}/mqtt"])
def test_amqtt_talks_to_us(gateway: GatewayProcess, door: str) -> None:
    python = os.environ.get("GATEWAY_TEST_AMQTT_PYTHON", "")
    require("amqtt (GATEWAY_TEST_AMQTT_PYTHON)", bool(python) and Path(python).exists())
    url = door.format(mqtt=gateway.mqtt_port, http=gateway.http_port)
    done = subprocess.run([python, str(PEER), url], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["granted"] == [0, 1, 2]
    assert seen["got"] == [[f"amqtt/{qos}", True] for qos in range(3) for _ in range(BODIES)]
    assert seen["kept"] == "value"
