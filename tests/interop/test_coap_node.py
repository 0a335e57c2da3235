"""The npm package coap with a real gateway: a program in JavaScript that says what it has seen."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.peers import NODE_APP, node_package
from tests.process import GatewayProcess

pytestmark = pytest.mark.interop
NOTIFICATIONS = 20
SECONDS_MAX = 90


def test_the_npm_package_talks_to_us(gateway: GatewayProcess) -> None:
    command = [node_package("coap"), "coap_client.js", f"127.0.0.1:{gateway.coap_port}"]
    done = subprocess.run(
        command, cwd=NODE_APP, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    diagnostic = told["values"].pop("diagnostic")
    assert "node/missing" in diagnostic
    assert told["values"] == {
        "codes": ["2.01", "2.04", "2.05", "2.03", "4.06", "4.04", "2.02"],
        "body": '{"t":21}',
        "format": "application/json",
    }
    assert told["large"] == {"code": "2.01", "same": True}
    assert told["observed"]["bodies"] == ["first", *(f"n{n}" for n in range(NOTIFICATIONS))]
