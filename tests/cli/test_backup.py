"""`gateway backup`: of a gateway that is busy, and what it refuses."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx

from tests.cli.test_commands import run
from tests.mqtt_client import V5, MqttClient
from tests.process import GatewayProcess, wait_for


class Publisher(threading.Thread):
    """Publishes to two queues, one of which is emptied again; knows what has been acknowledged."""

    def __init__(self, gateway: GatewayProcess) -> None:
        super().__init__(daemon=True)
        self.gateway = gateway
        self.acknowledged = 0
        self.settled = 0
        self.stop = threading.Event()

    def run(self) -> None:
        client = MqttClient(self.gateway.mqtt_port, "publisher", V5)
        with httpx.Client(base_url=self.gateway.url, timeout=10) as http:
            while not self.stop.is_set():
                client.publish_stored("both/x", b"%d" % self.acknowledged)
                self.acknowledged += 1
                if self.acknowledged % 10 == 0:
                    got = http.post("/v1/queues/emptied/receive?max=100").json()["deliveries"]
                    for delivery in got:
                        http.post(f"/v1/deliveries/{delivery['id']}/ack")
                    self.settled += len(got)
        client.close()


def _bodies(url: str, queue: str) -> list[int]:
    found: list[int] = []
    start = 0
    while start is not None:
        page = httpx.get(f"{url}/v1/queues/{queue}/browse?start={start}&limit=1000").json()
        found += [int(message["body"]) for message in page["messages"]]
        start = page["next"]
    return found


def test_a_backup_of_a_busy_gateway_starts_with_all_that_was_acknowledged(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    httpx.put(f"{gateway.url}/v1/queues/kept", json={"bindings": ["both/#"]})
    httpx.put(f"{gateway.url}/v1/queues/emptied", json={"bindings": ["both/#"]})
    httpx.post(f"{gateway.url}/v1/topics/retained/x?retain=true", content=b"value")
    publisher = Publisher(gateway)
    publisher.start()
    wait_for(lambda: publisher.settled >= 50, what="some work")
    acknowledged, settled = publisher.acknowledged, publisher.settled
    copy = tmp_path / "copy"
    result = run("backup", str(copy), "--url", gateway.url)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{copy}: ")
    after = publisher.acknowledged
    publisher.stop.set()
    publisher.join(20)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    restored = GatewayProcess(copy).start()
    try:
        kept = _bodies(restored.url, "kept")
        assert kept == list(range(len(kept)))
        assert acknowledged <= len(kept) <= after + 1
        waits = _bodies(restored.url, "emptied")
        assert set(waits).isdisjoint(range(settled)), "what was settled stays settled"
        assert waits == list(range(waits[0], len(kept))) if waits else True
        assert httpx.get(f"{restored.url}/v1/topics/retained/x").text == "value"
        assert [line for line in restored.errors if "cut off" in line or "damaged" in line] == []
        assert restored.bugs() == []
    finally:
        restored.stop()


def test_what_is_there_is_not_overwritten(gateway: GatewayProcess, tmp_path: Path) -> None:
    result = run("backup", str(tmp_path), "--url", gateway.url)
    assert (result.returncode, result.stderr) == (
        2,
        f"gateway: {tmp_path} exists; a backup overwrites nothing\n",
    )
    missing = tmp_path / "missing" / "copy"
    result = run("backup", str(missing), "--url", gateway.url)
    assert (result.returncode, result.stderr) == (2, f"gateway: {missing.parent}: no such directory\n")


def test_without_a_gateway_nothing_is_left_behind(tmp_path: Path) -> None:
    result = run("backup", str(tmp_path / "copy"), "--url", "http://127.0.0.1:9")
    assert result.returncode == 1
    assert "no gateway answers" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_only_who_may_manage_it_gets_everybodys_messages(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text("[anonymous]\npublish = ['#']\n")
    gateway = GatewayProcess(tmp_path / "data", dev=False, config=config).start()
    try:
        result = run("backup", str(tmp_path / "copy"), "--url", gateway.url)
        assert result.returncode == 1
        assert "admin area 'backup'" in result.stderr
    finally:
        gateway.stop()


def test_memory_has_nothing_to_copy(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "data", sets=("storage.engine=memory",)).start()
    try:
        result = run("backup", str(tmp_path / "copy"), "--url", gateway.url)
        assert result.returncode == 1
        assert "keeps nothing that could be copied" in result.stderr
    finally:
        gateway.stop()


def test_who_hangs_up_makes_room_for_the_next(gateway: GatewayProcess, tmp_path: Path) -> None:
    httpx.put(f"{gateway.url}/v1/queues/q", json={"bindings": ["big"]})
    lines = b"\n".join(b'{"body": "' + b"x" * 60_000 + b'"}' for _ in range(250))
    for _ in range(4):
        answer = httpx.post(f"{gateway.url}/v1/topics/big/batch", content=lines, timeout=30)
        assert answer.json()["accepted"] == 250
    with httpx.stream("GET", f"{gateway.url}/v1/admin/backup") as response:
        assert response.status_code == 200
        parts = response.iter_raw(1000)  # kept: it hangs up when it goes
        next(parts)
        assert httpx.get(f"{gateway.url}/v1/admin/backup").status_code == 409
    wait_for(
        lambda: run("backup", str(tmp_path / "copy"), "--url", gateway.url).returncode == 0,
        what="the end of the first backup",
    )
    assert gateway.bugs() == []
