"""amqplib, the client of Node: a program in JavaScript that says what it has seen."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.peers import executable, require
from tests.process import GatewayProcess

pytestmark = pytest.mark.interop
APP = Path(__file__).parent / "node_app"
MESSAGES = 200
PREFETCH = 10
SECONDS_MAX = 90


def test_amqplib_talks_to_us(gateway: GatewayProcess) -> None:
    node = executable("node")
    require(f"amqplib (npm install in {APP})", (APP / "node_modules" / "amqplib").is_dir())
    command = [node, "client.js", f"amqp://guest:guest@127.0.0.1:{gateway.amqp_port}/%2F"]
    done = subprocess.run(command, cwd=APP, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["faults"] == []
    assert told["product"]
    assert (told["confirmed"], told["queued"]) == (MESSAGES, MESSAGES)
    assert told["seen"] == {
        "bodies": [f"body {n}" for n in range(MESSAGES)],
        "sameHeaders": MESSAGES,
        "samePlaces": MESSAGES,
        "persistent": MESSAGES,
        "heldMax": PREFETCH,
        "leftWhileHeld": MESSAGES - PREFETCH,
        "redelivered": 0,
    }
    assert told["dead"] == {
        "body": f"body {MESSAGES - 1}",
        "headersKept": True,
        "deaths": 1,
        "death": {
            "count": 1,
            "reason": "rejected",
            "queue": "work",
            "exchange": "news",
            "routing-keys": [f"a.{(MESSAGES - 1) % 3}.b"],
        },
        "hasTime": True,
    }
    assert told["returned"] == {
        "code": 312,
        "text": "NO_ROUTE",
        "key": "nobody.listens",
        "id": "lost",
        "body": "come back",
    }
    refused = told["refused"]
    assert (refused["rejected"], refused["code"], refused["left"]) == (True, 406, 0)
    assert "x-max-length" in refused["message"]
