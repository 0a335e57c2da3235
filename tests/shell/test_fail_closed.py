"""Every unsafe configuration: `gateway serve` refuses to start, says why, and never listens.

`gateway check` finds the same, but what only the data directory knows.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway.auth.hashes import hash_password
from gateway.auth.scram import make_verifier
from gateway.cli.setup import check
from gateway.storage.commitlog import CommitLog
from tests.process import START_SECONDS_MAX, GatewayProcess, free_port, wait_for

HASH = hash_password("correct horse")
MOSQUITTO_SALT = base64.b64encode(bytes(12)).decode()
MOSQUITTO_HASH = base64.b64encode(bytes(64)).decode()
EXIT_FAULT = 2
ROOT = f"[users.root]\npassword = '{HASH}'\nadmin = true\n"
ANN = f"[users.ann]\npassword = '{HASH}'\npublish = ['a/#']\n"
RULE = {"id": "r", "subject": "user:ann", "actions": ["publish"], "resources": ["topic:a"]}
RULES = "[auth]\nrules = 'rules.toml'\n" + ROOT
Files = dict[str, str]


class Unsafe(NamedTuple):
    """A configuration that must not start. `reason` is in the line that says why."""

    config: str
    reason: str
    files: Files = {}  # beside it
    host: str = "127.0.0.1"
    options: tuple[str, ...] = ()


def rule(*rules: dict[str, object], more: str = "") -> Files:
    """Return a file of rules, each RULE with some fields changed."""
    lines = []
    for changed in rules:
        lines.append("[[rules]]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in {**RULE, **changed}.items()]
    return {"rules.toml": "\n".join(lines) + more}


UNSAFE: dict[str, Unsafe] = {
    # -- the configuration itself ------------------------------------------------------------------
    "not TOML": Unsafe("[users", "gateway.toml: not valid TOML"),
    "empty": Unsafe("", "users: nobody could log in; add a [users.NAME]"),
    "no user in users": Unsafe("[users]", "users: nobody could log in"),
    "misspelt section": Unsafe(ROOT + "[limts]", "limts: unknown section; did you mean limits?"),
    "misspelt key": Unsafe(ROOT + "[auth]\nruls = 'x'", "auth.ruls: unknown key; did you mean auth.rules?"),
    "misspelt door": Unsafe(ROOT + "[listeners]\nmqt = ''", "listeners.mqt: unknown door; did you mean"),
    "misspelt key of a user": Unsafe(ROOT + "amdin = true", "users.root.amdin: unknown key"),
    "anonymous, misspelt": Unsafe("[anonymus]\npublish = ['#']", "anonymus: unknown section"),
    "anonymous, bad filter": Unsafe("[anonymous]\npublish = ['a/#/b']", "anonymous.publish:"),
    "anonymous, bad network": Unsafe(
        "[anonymous]\npublish = ['a']\nnetworks = ['10.0.0.0/99']", "anonymous.networks:"
    ),
    # -- open to others ----------------------------------------------------------------------------
    "anonymous for all": Unsafe(
        "[anonymous]\npublish = ['#']", "is open to other machines, and nobody has a login", {}, "0.0.0.0"
    ),
    "development for all": Unsafe("", "--dev lets anybody in", {}, "0.0.0.0", ("--dev",)),
    "development for all, v6": Unsafe("", "--dev lets anybody in", {}, "[::]", ("--dev",)),
    "a name for all": Unsafe(
        "[anonymous]\npublish = ['#']", "is open to other machines", {}, socket.gethostname()
    ),
    # -- rules -------------------------------------------------------------------------------------
    "rules, missing": Unsafe(RULES, "rules.toml: cannot be read: No such file"),
    "rules, not TOML": Unsafe(RULES, "rules.toml: not valid TOML", {"rules.toml": "[[rules"}),
    "rules, another table": Unsafe(RULES, "unknown key 'rule'", {"rules.toml": "[[rule]]\nid = 'a'"}),
    "rules, unknown key": Unsafe(RULES, "unknown key 'fom'", rule({"fom": ["10.0.0.0/8"]})),
    "rules, bad subject": Unsafe(RULES, "rule 'r': subject: 'ann'", rule({"subject": "ann"})),
    "rules, bad resource": Unsafe(RULES, "rule 'r': resources: 'a'", rule({"resources": ["a"]})),
    "rules, bad filter": Unsafe(RULES, "rule 'r': pattern 'a/#/b'", rule({"resources": ["topic:a/#/b"]})),
    "rules, bad action": Unsafe(RULES, "rule 'r': actions: 'write'", rule({"actions": ["write"]})),
    "rules, bad decision": Unsafe(RULES, "rule 'r': decision: allow or deny", rule({"decision": "no"})),
    "rules, bad CIDR": Unsafe(RULES, "rule 'r': from: '10.0.0.0/33'", rule({"from": ["10.0.0.0/33"]})),
    "rules, twice": Unsafe(RULES, "rule 'r' is there twice", rule({}, {})),
    "rules, also a user's": Unsafe(
        RULES + ANN,
        "rule 'users.ann.publish' of rules.toml is in the configuration",
        rule({"id": "users.ann.publish"}),
    ),
    # -- ways to log in ----------------------------------------------------------------------------
    "password in clear": Unsafe("[users.ann]\npassword = 'x'", "users.ann.password: expected a hash"),
    "no password": Unsafe("[users.ann]\npublish = ['a']", "users.ann.password: missing"),
    "no hash, though it begins as one": Unsafe(
        "[users.ann]\npassword = '$argon2id$x'", "users.ann.password:"
    ),
    "no verifier": Unsafe(ROOT + "scram = 'SCRAM-SHA-256$x'", "users.root.scram:"),
    "short secret": Unsafe("[tokens]\nsecret_file = 's'", "secret_file", {"s": "too short"}),
    "no secret": Unsafe("[tokens]\nsecret_file = 's'", "secret_file"),
    "no key set": Unsafe("[tokens]\njwks = 'keys.json'", "jwks"),
    "broken key set": Unsafe("[tokens]\njwks = 'keys.json'", "jwks", {"keys.json": "{"}),
    "algorithm none": Unsafe(
        "[tokens]\nsecret_file = 's'\nalgorithms = ['none']",
        "algorithms: 'none'",
        {"s": "0123456789abcdef" * 4},
    ),
    "tokens without a key": Unsafe("[tokens]\nissuer = 'x'", "tokens need a key"),
    "certificates by nothing": Unsafe("[certificates]\nname = 'common'", "name: 'common'"),
    # -- the rest ----------------------------------------------------------------------------------
    "TLS without a certificate": Unsafe(ROOT + "[listeners]\nmqtts = '127.0.0.1:0'", "mqtts"),
    "RocketMQ's TLS door for all": Unsafe(
        "[anonymous]\npublish = ['#']\n[listeners]\nopenmessagings = '0.0.0.0:8082'",
        "listeners.openmessagings: 0.0.0.0:8082 is open to other machines",
    ),
    "RocketMQ's TLS door, without a certificate": Unsafe(
        ROOT + "[listeners]\nopenmessagings = '127.0.0.1:0'", "listeners.openmessagings needs one"
    ),
    "RocketMQ's clients sent nowhere": Unsafe(
        ROOT + "[openmessaging]\nadvertise = '0.0.0.0:8081'", "nobody can dial 0.0.0.0"
    ),
    "quota, unknown limit": Unsafe(
        ROOT + "[quotas.q]\nsubject = 'everyone'\nconections = 1", "quotas.q.conections: unknown key"
    ),
    "quota, negative": Unsafe(
        ROOT + "[quotas.q]\nsubject = 'everyone'\nconnections = -1",
        "quotas.q.connections: a limit is not negative",
    ),
    "quota, of nobody": Unsafe(ROOT + "[quotas.q]\nsubject = 'ann'\nconnections = 1", "'ann'"),
    "quota, by nothing": Unsafe(
        ROOT + "[quotas.q]\nsubject = 'everyone'\nscope = 'door'", "quotas.q.scope: 'door'"
    ),
    "quota, a text": Unsafe(
        ROOT + "[quotas.q]\nsubject = 'everyone'\nqueues = 'few'", "quotas.q.queues: expected integer"
    ),
}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that the gateway is started in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(directory: Path, unsafe: Unsafe) -> Path:
    for name, text in unsafe.files.items():
        (directory / name).write_text(text)
    config = directory / "gateway.toml"
    config.write_text(unsafe.config)
    return config


def refused(directory: Path, port: int, *arguments: str) -> list[str]:
    """Start a gateway that must not start; return the lines that say why."""
    closed = [f"listeners.{door}=" for door in ("http", "amqp", "coap", "openmessaging")]
    sets = [argument for text in closed for argument in ("--set", text)]
    command = [sys.executable, "-m", "gateway", "serve", "--data", "data", *sets, *arguments]
    process = subprocess.Popen(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def ended() -> bool:
        assert not listening(port), "it listens"
        return process.poll() is not None

    try:
        wait_for(ended, START_SECONDS_MAX, "its end")
        out, errors = process.communicate()
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (EXIT_FAULT, ""), errors
    assert "Traceback" not in errors
    with socket.socket() as free:
        free.bind(("127.0.0.1", port))  # as nobody ever had it
    return errors.splitlines()


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("name", UNSAFE)
def test_it_does_not_start(name: str, directory: Path) -> None:
    unsafe, port = UNSAFE[name], free_port()
    config = write(directory, unsafe)
    listen = f"listeners.mqtt={unsafe.host}:{port}"
    found = refused(directory, port, "--config", str(config), "--set", listen, *unsafe.options)
    assert [line for line in found if unsafe.reason in line], found
    assert not (directory / "data" / "audit.log").exists()


@pytest.mark.parametrize("name", [name for name, unsafe in UNSAFE.items() if not unsafe.options])
def test_check_says_the_same(name: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unsafe = UNSAFE[name]
    config = write(directory, unsafe)
    assert check(config, [f"listeners.mqtt={unsafe.host}:1883"], False) == EXIT_FAULT
    out, errors = capsys.readouterr()
    assert out == ""
    assert [line for line in errors.splitlines() if unsafe.reason in line], errors


def test_without_a_configuration(directory: Path) -> None:
    port = free_port()
    listen = ("--set", f"listeners.mqtt=127.0.0.1:{port}")
    assert "no configuration: run `gateway init`" in refused(directory, port, *listen)[0]
    missing = refused(directory, port, "--config", "nowhere.toml", *listen)
    assert missing == ["nowhere.toml: cannot be read: No such file or directory; `gateway init` writes one"]
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check"], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_FAULT
    assert "gateway.toml: cannot be read" in done.stderr


# -- what only the data directory knows ----------------------------------------------------------------


def put(directory: Path, key: str, value: bytes) -> None:
    """Write a value to the metadata store of a gateway that does not run."""
    engine = CommitLog(directory / "data")
    engine.open(lambda: None)
    engine.put(key, value)
    engine.flush()
    engine.close()


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "rule, not JSON": ("auth/rule/x", b"{", "rule 'x' in the metadata store:"),
    "rule, unknown key": ("auth/rule/x", json.dumps({**RULE, "fom": []}).encode(), "unknown key 'fom'"),
    "rule, not a table": ("auth/rule/x", b"[]", "rule 'x' in the metadata store:"),
    "rule, bad subject": ("auth/rule/x", json.dumps({**RULE, "subject": "x"}).encode(), "subject: 'x'"),
    "user, not JSON": ("auth/user/x", b"\xff", "user 'x' in the metadata store:"),
    "user, also in the file": ("auth/user/root", b'{"name": "root"}', "user 'root' is in the configuration"),
    "quota, of nobody": ("auth/quota/x", b'{"id": "x", "subject": "x"}', "quota 'x' in the metadata store:"),
    "key, not JSON": ("auth/key/x", b"null", "API key 'x' in the metadata store:"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_store_that_cannot_be_read(name: str, directory: Path) -> None:
    key, value, reason = BROKEN[name]
    port = free_port()
    (directory / "gateway.toml").write_text(ROOT)
    put(directory, key, value)
    found = refused(directory, port, "--set", f"listeners.mqtt=127.0.0.1:{port}")
    assert [line for line in found if reason in line], found


@pytest.mark.parametrize("kind", ["readable by others", "damaged"])
def test_a_key_of_its_own_that_is_not_its_own(kind: str, directory: Path) -> None:
    port = free_port()
    (directory / "gateway.toml").write_text(ROOT)
    (directory / "data").mkdir(mode=0o700)
    key = directory / "data" / "secret.key"
    key.write_bytes(os.urandom(32 if kind == "readable by others" else 7))
    key.chmod(0o644 if kind == "readable by others" else 0o600)
    found = refused(directory, port, "--set", f"listeners.mqtt=127.0.0.1:{port}")
    reason = "others may read it" if kind == "readable by others" else "it is damaged"
    assert [line for line in found if "secret.key" in line and reason in line], found


# -- what must start -----------------------------------------------------------------------------------

SAFE: dict[str, Unsafe] = {
    "users alone, for all": Unsafe(ROOT, "", {}, "0.0.0.0"),
    "anonymous, here": Unsafe("[anonymous]\npublish = ['#']", ""),
    "anonymous beside users, for all": Unsafe(ROOT + "[anonymous]\npublish = ['#']", "", {}, "0.0.0.0"),
    "tokens alone, for all": Unsafe(
        "[tokens]\nsecret_file = 's'", "", {"s": "0123456789abcdef" * 4}, "0.0.0.0"
    ),
    "certificates alone": Unsafe("[certificates]\nname = 'san:dns'", "", {}, "0.0.0.0"),
    "rules in a file": Unsafe(RULES, "", rule({}, {"id": "s", "from": ["10.0.0.0/8", "::1"]})),
    "a verifier": Unsafe(ROOT + f"scram = '{make_verifier('correct horse', 4096)}'", ""),
    "mosquitto's hash": Unsafe(
        f"[users.ann]\npassword = '$7$101${MOSQUITTO_SALT}${MOSQUITTO_HASH}'", "", {}, "0.0.0.0"
    ),
}


@pytest.mark.parametrize("name", SAFE)
def test_what_is_safe_is_no_fault(name: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    safe = SAFE[name]
    config = write(directory, safe)
    status = check(config, [f"listeners.mqtt={safe.host}:1883"], False)
    assert (status, capsys.readouterr()) == (0, (f"{config}: ok\n", ""))


def test_a_key_of_its_own_is_used_again(make_gateway: Callable[..., GatewayProcess], tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(ROOT)
    data = tmp_path / "data"
    data.mkdir()
    key = data / "secret.key"
    key.touch(0o600)
    key.write_bytes(bytes(32))
    make_gateway(dev=False, config=config).start()
    assert key.read_bytes() == bytes(32)
