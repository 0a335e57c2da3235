"""mosquitto_pub and mosquitto_sub with a real gateway."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.mqtt_client import V5, MqttClient
from tests.peers import executable
from tests.process import GatewayProcess, wait_for

pytestmark = pytest.mark.interop
SECONDS_MAX = 20
VERSIONS = ["mqttv311", "mqttv5"]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("mosquitto")).start()
    yield process
    bugs = process.bugs()
    process.stop()
    assert bugs == []


def _pub(door: GatewayProcess, *arguments: str, version: str = "mqttv5", stdin: str | None = None) -> None:
    command = [executable("mosquitto_pub"), "-p", str(door.mqtt_port), "-V", version, *arguments]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def _subscriptions(door: GatewayProcess) -> int:
    return int(httpx.get(f"{door.url}/v1/admin/overview").raise_for_status().json()["subscriptions"])


class Sub:
    """mosquitto_sub, subscribed; `lines` waits until it has ended.

    The gateway says when it is subscribed: what it prints itself waits in a buffer. `known`: it may
    have ended by then, or its session has the subscription already.
    """

    def __init__(
        self, door: GatewayProcess, *arguments: str, version: str = "mqttv5", known: bool = False
    ) -> None:
        before = _subscriptions(door)
        command = [executable("mosquitto_sub"), "-p", str(door.mqtt_port), "-V", version, *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if not known:
            wait_for(lambda: _subscriptions(door) > before, what="the subscription")

    def lines(self) -> list[str]:
        out, errors = self._process.communicate(timeout=SECONDS_MAX)
        assert self._process.returncode == 0, errors
        return out.splitlines()

    def __enter__(self) -> Sub:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_a_message_arrives(door: GatewayProcess, version: str, qos: str) -> None:
    with Sub(door, "-t", "tools/#", "-q", qos, "-C", "1", "-F", "%t %q %p", version=version) as sub:
        _pub(door, "-t", "tools/a", "-m", "hello", "-q", qos, version=version)
        assert sub.lines() == [f"tools/a {qos} hello"]


def test_many_lines_in_order(door: GatewayProcess) -> None:
    sent = [f"line {number}" for number in range(500)]
    with Sub(door, "-t", "lines", "-q", "2", "-C", "500") as sub:
        _pub(door, "-t", "lines", "-q", "2", "-l", stdin="\n".join(sent) + "\n")
        assert sub.lines() == sent


def test_a_retained_message_waits(door: GatewayProcess) -> None:
    _pub(door, "-t", "kept", "-m", "value", "-r", "-q", "1")
    with Sub(door, "-t", "kept", "-C", "1", "-F", "%r %p", known=True) as sub:
        assert sub.lines() == ["1 value"]


def test_properties_and_expiry(door: GatewayProcess) -> None:
    with Sub(door, "-t", "props", "-C", "1", "-q", "1", "-F", "%C|%R|%P|%E|%p") as sub:
        said = ["content-type text/plain", "response-topic back", "user-property key value"]
        given = [word for one in said for word in ("-D", "publish", *one.split(" "))]
        _pub(door, "-t", "props", "-m", "body", "-q", "1", *given)
        (line,) = sub.lines()
    assert line.split("|")[:3] == ["text/plain", "back", "key:value"]
    assert line.endswith("|body")


def test_a_large_message(door: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("large") / "body"
    file.write_bytes(b"0123456789" * 400_000)
    with Sub(door, "-t", "large", "-C", "1", "-q", "1") as sub:
        _pub(door, "-t", "large", "-f", str(file), "-q", "1")
        assert sub.lines() == [file.read_text()]


def test_a_will_when_it_is_killed(door: GatewayProcess) -> None:
    watcher = MqttClient(door.mqtt_port, "watcher", V5)
    watcher.subscribe("tools/will")
    will = ("--will-topic", "tools/will", "--will-payload", "gone", "--will-qos", "1")
    with Sub(door, "-t", "idle", *will):
        pass  # killed on the way out
    assert watcher.receive().payload == b"gone"


def test_a_session_is_kept(door: GatewayProcess) -> None:
    kept = ("-i", "keeper", "-c", "-q", "1", "-t", "kept/session", "-x", "1000")
    with Sub(door, *kept):
        pass
    _pub(door, "-t", "kept/session", "-m", "while away", "-q", "1")
    with Sub(door, *kept, "-C", "1", known=True) as sub:
        assert sub.lines() == ["while away"]
