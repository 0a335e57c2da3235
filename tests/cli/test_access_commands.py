"""`gateway users`, `acl`, `quotas` and `explain`, in words and in JSON; other brokers' users log in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from gateway.auth.hashes import verify
from gateway.cli.app import app
from tests.access.guarded import Guarded, password_of, run
from tests.mqtt_client import V5, MqttClient

ANN_HASH = (  # of mosquitto's pwfile.example: "password"
    "$6$clQ4Ocu312S0qWgl$Cv2wUxgEN73c6C6jlBkswqR4AkHsvDLWvtEXZZ8NpsBLgP1WAo/qA+WXcmEN/mjDNgdUwcxRAveqN"
    "Ms2xUVQYA=="
)
RABBIT_HASH = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"  # of RabbitMQ's documentation: "test12"
Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("cli"), ("fixed",))
    made.start()
    yield made
    made.stop()
    assert not made.bugs(), "\n".join(made.errors)


@pytest.fixture
def cli(gateway: Guarded) -> Cli:
    """Run a command as `root`."""

    def call(*arguments: str, stdin: str = "", user: str = "root") -> Result:
        env = {
            "GATEWAY_URL": gateway.url,
            "GATEWAY_USER": f"{user}:{password_of(user)}",
            "COLUMNS": "200",
        }
        return CliRunner().invoke(app, arguments, input=stdin, env=env)

    return call


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(result: Result) -> Any:
    return json.loads(good(result))


def refused(result: Result, words: str, status: int = 1) -> None:
    assert result.exit_code == status, result.output
    assert words in result.stderr
    assert result.stdout == ""


def may_log_in(gateway: Guarded, user: str, password: str) -> bool:
    answer = httpx.get(f"{gateway.url}/v1/queues", auth=(user, password), timeout=10)
    return answer.status_code == 200


# -- users -----------------------------------------------------------------------------------------


def test_users(gateway: Guarded, cli: Cli) -> None:
    text = good(cli("users", "add", "ann/1", "--group", "g", "--group", "h"))
    assert text.startswith("user 'ann/1' is added\nits password, shown only now: ")
    password = text.split()[-1]
    assert may_log_in(gateway, "ann/1", password)
    assert (
        good(cli("users", "add", "bob", "--password-stdin", stdin="correct horse\n"))
        == "user 'bob' is added\n"
    )
    assert may_log_in(gateway, "bob", "correct horse")
    made = as_json(cli("users", "add", "carl", "--admin", "--json", "--password-stdin", stdin="trombone\n"))
    assert (made["name"], made["admin"]) == ("carl", True)
    assert "trombone" not in str(made)
    assert may_log_in(gateway, "carl", "trombone")
    table = good(cli("users", "list"))
    assert [line.split()[0] for line in table.splitlines()] == [
        "user",
        "root",
        "fixed",
        "ann/1",
        "bob",
        "carl",
    ]
    assert "g h" in table
    listed = {found["name"]: found for found in as_json(cli("users", "list", "--json"))["users"]}
    assert listed["ann/1"]["groups"] == ["g", "h"]
    assert "correct horse" not in str(listed)
    assert "sessions have ended" in good(cli("users", "change", "bob", "--disabled", "--group", "x"))
    assert not may_log_in(gateway, "bob", "correct horse")
    changed = as_json(
        cli("users", "change", "bob", "--no-disabled", "--password-stdin", "--json", stdin="battery staple\n")
    )
    assert (changed["disabled"], changed["groups"]) == (False, ["x"])
    assert may_log_in(gateway, "bob", "battery staple")
    assert good(cli("users", "end", "bob")).endswith("sessions of 'bob' have ended\n")
    assert as_json(cli("users", "end", "bob", "--json"))["ended"] >= 0
    for name in ("ann/1", "bob"):
        assert good(cli("users", "delete", name)) == f"user {name!r} is removed\n"
    assert as_json(cli("users", "delete", "carl", "--json")) == {"deleted": "carl"}


def test_a_shared_key(gateway: Guarded, cli: Cli) -> None:
    for name, context in (("lamp", {"id-context_ascii": "lamp"}), ("lämp", {"id-context_hex": "6cc3a46d70"})):
        good(cli("users", "add", name, "--password-stdin", stdin="correct horse\n"))
        text = good(cli("users", "secret", name))
        assert f"DTLS-PSK: the identity is {name!r}\n" in text
        settings = json.loads(text.split("OSCORE: ")[1].splitlines()[0])
        assert settings == {"sender-id_ascii": "", "recipient-id_ascii": "gateway", **context}
        assert len(text.split()[-1]) == 32
        made = cli("users", "secret", name, "--json", "--secret-stdin", stdin="0123456789abcdef\n")
        assert as_json(made)["oscore"] == settings
        assert "0123456789abcdef" not in made.output
        assert may_log_in(gateway, name, "correct horse"), "the password is as it was"
        good(cli("users", "delete", name))
    refused(cli("users", "secret", "nobody"), "there is no user 'nobody'")
    refused(cli("users", "secret", "root", "--secret-stdin", stdin=""), "standard input has no key")
    refused(cli("users", "secret", "root", "--secret-stdin", stdin="short\n"), "bytes are expected")


def test_users_refusals(cli: Cli) -> None:
    refused(cli("users", "change", "nobody", "--admin"), "there is no user 'nobody'")
    refused(cli("users", "delete", "nobody"), "there is no user 'nobody'")
    refused(cli("users", "delete", "fixed"), "is in the configuration; change it there")
    refused(cli("users", "add", "x", "--password-stdin", stdin="short\n"), "at least 8 characters")
    refused(cli("users", "add", "x", "--password-stdin", stdin=""), "standard input has no password")
    refused(cli("users", "list", user="fixed"), "fixed may not view admin area 'users': no rule allows it")
    refused(cli("users", "list", user="nobody"), "wrong user name or password")
    refused(cli("users", "list", "--url", "http://127.0.0.1:1"), "no gateway answers")


def test_a_hash_for_the_configuration(cli: Cli) -> None:
    assert verify(
        good(cli("users", "hash", "--password-stdin", stdin="correct horse\n")).strip(), b"correct horse"
    )
    assert cli("users", "hash", "--password-stdin", stdin="").exit_code == 1


# -- rules -----------------------------------------------------------------------------------------


def test_rules(gateway: Guarded, cli: Cli) -> None:
    made = as_json(cli("acl", "allow", "user:fixed", "publish,view", "topic:a/#", "queue:q", "--json"))
    assert made["id"].startswith("r-")
    assert made["actions"] == ["publish", "view"]
    assert gateway.publish("a/1", "x", "fixed").status_code == 200
    limits = ("--from", "10.0.0.0/8", "--from", "127.0.0.1", "--door", "http")
    text = good(cli("acl", "deny", "everyone", "publish", "topic:a/1", "--id", "no/1", *limits))
    assert text == "rule 'no/1' is in force\n"
    assert gateway.publish("a/1", "x", "fixed").json()["rule"] == "no/1"
    row = next(line for line in good(cli("acl", "list")).splitlines() if line.startswith("no/1"))
    assert row.split()[1:4] == ["deny", "everyone", "publish"]
    assert "10.0.0.0/8 127.0.0.1/32 at http" in row
    listed = as_json(cli("acl", "list", "--json"))["rules"]
    assert [rule["id"] for rule in listed] == [made["id"], "no/1"]
    assert good(cli("acl", "delete", "no/1")) == "rule 'no/1' is removed\n"
    assert as_json(cli("acl", "delete", made["id"], "--json")) == {"deleted": made["id"]}
    assert gateway.publish("a/1", "x", "fixed").status_code == 403


def test_rules_refusals(cli: Cli) -> None:
    refused(cli("acl", "allow", "role:x", "publish", "topic:a"), "subject: 'role:x': one of user:NAME")
    refused(cli("acl", "allow", "everyone", "write", "topic:a"), "actions: 'write'")
    refused(cli("acl", "allow", "everyone", "all", "a"), "does not begin with one of")
    refused(cli("acl", "delete", "none"), "there is no rule 'none'")
    refused(cli("acl", "reload"), "there is no file of rules")


RULES = '[[rules]]\nid = "f"\nsubject = "user:fixed"\nactions = "publish"\nresources = "topic:f"\n'


def test_a_file_of_rules_is_checked_without_a_gateway(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    assert good(cli("acl", "check", str(path))) == f"{path}: ok, 1 rules\n"
    assert as_json(cli("acl", "check", str(path), "--json")) == {"ok": True, "rules": 1}
    path.write_text(RULES * 2)
    refused(cli("acl", "check", str(path)), f"{path}: rule 'f' is there twice", 2)
    path.write_text(RULES.replace("publish", "write"))
    done = cli("acl", "check", str(path), "--json")
    assert done.exit_code == 2
    assert "rule number 1: rule 'f': actions: 'write'" in json.loads(done.stderr)["fault"]
    refused(cli("acl", "check", str(tmp_path / "none")), "cannot be read", 2)


def test_reload(tmp_path: Path, guard_file: Callable[[Path], Guarded]) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    gateway = guard_file(path)
    assert gateway.publish("g", "x", "fixed").status_code == 403
    path.write_text(RULES.replace("topic:f", "topic:g"))
    done = run("acl", "reload", "--url", gateway.url, "--user", f"root:{password_of('root')}")
    assert done.stdout == "1 rules are in force\n", done.stderr
    assert gateway.publish("g", "x", "fixed").status_code == 200


@pytest.fixture
def guard_file(tmp_path: Path) -> Iterator[Callable[[Path], Guarded]]:
    made: list[Guarded] = []

    def make(path: Path) -> Guarded:
        made.append(Guarded(tmp_path / "gateway", ("fixed",), f'[auth]\nrules = "{path}"\n'))
        made[0].start()
        return made[0]

    yield make
    for process in made:
        process.stop()


def test_candidates(gateway: Guarded, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "candidate.toml"
    path.write_text(RULES)
    refused(cli("acl", "shadow", "show"), "no candidate runs")
    assert good(cli("acl", "shadow", "start", str(path))).startswith("a candidate of 1 rules runs")
    assert gateway.publish("f", "x", "fixed").status_code == 403
    row = good(cli("acl", "shadow", "show")).splitlines()[1]
    assert row.split() == ["fixed", "http", "publish", "f", "denied", "allowed", "(f)", "1"]
    assert len(as_json(cli("acl", "shadow", "show", "--json"))["differences"]) == 1
    assert as_json(cli("acl", "shadow", "start", str(path), "--alone", "--json"))["rules"] == 1
    assert as_json(cli("acl", "shadow", "stop", "--json")) == {"stopped": True}
    refused(cli("acl", "shadow", "stop"), "no candidate runs")
    path.write_text("nonsense")
    refused(cli("acl", "shadow", "start", str(path)), "not valid TOML")


# -- quotas and explanations -----------------------------------------------------------------------


def test_quotas(gateway: Guarded, cli: Cli) -> None:
    gateway.rule("q", "user:fixed", "publish", "topic:q")
    limits = ("--subject", "user:fixed", "--publish-rate", "0.01", "--subscriptions", "5")
    assert good(cli("quotas", "set", "slow", *limits)) == "quota 'slow' is in force\n"
    assert [gateway.publish("q", "x", "fixed").status_code for _ in range(2)] == [200, 429]
    row = good(cli("quotas", "list")).splitlines()[1]
    assert row.split()[:6] == ["slow", "user:fixed", "user", "publish_rate=0.01", "subscriptions=5", "1"]
    changed = as_json(cli("quotas", "set", "slow", "--subject", "user:fixed", "--scope", "client", "--json"))
    assert (changed["scope"], changed["publish_rate"]) == ("client", 0)
    assert as_json(cli("quotas", "list", "--json"))["exceeded"] == [
        {"quota": "slow", "limit": "publish_rate", "count": 1}
    ]
    assert gateway.publish("q", "x", "fixed").status_code == 200
    assert good(cli("quotas", "delete", "slow")) == "quota 'slow' is removed\n"
    refused(cli("quotas", "delete", "slow"), "there is no quota 'slow'")
    refused(cli("quotas", "set", "x", "--subject", "everybody"), "subject: 'everybody'")
    gateway.delete("/v1/admin/rules/q")


def test_explanations(gateway: Guarded, cli: Cli) -> None:
    gateway.rule("e", "group:g", "publish", "topic:e/${clientid}", doors=["coap"])
    question = ("explain", "publish", "--as", "fixed", "--topic", "e/7", "--in-group", "g")
    text = good(cli(*question, "--door", "coap", "--client-id", "7"))
    assert text.splitlines()[:2] == [
        "ALLOWED: allowed by rule 'e'",
        "  for fixed at the coap door, from 127.0.0.1",
    ]
    assert text.splitlines()[-1] == "  nobody would receive it"
    assert good(cli(*question)).startswith("REFUSED: fixed may not publish 'e/7': no rule allows it\n")
    found = as_json(cli(*question, "--json"))
    assert found["not_applied"] == [
        {"rule": "e", "decision": "allow", "because": "it holds at the doors coap"}
    ]
    assert "a client without a login" in good(cli("explain", "publish", "--topic", "e"))
    refused(cli("explain", "publish"), "name one of topic, queue, group, admin")
    gateway.delete("/v1/admin/rules/e")


# -- other brokers' files --------------------------------------------------------------------------


def test_mosquittos_users_log_in_with_their_old_passwords(gateway: Guarded, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text(f"mos:{ANN_HASH}\n")
    (tmp_path / "acl").write_text("user mos\ntopic write m/#\ntopic deny m/no\npattern read d/%c\n")
    files = ("--passwords", str(tmp_path / "pw"), "--acl", str(tmp_path / "acl"))
    assert "1 users and 3 rules are taken over" in good(cli("acl", "import", *files))
    client = MqttClient(gateway.mqtt_port, "c7", V5, username="mos", password=b"password")
    assert not client.connack.reason
    assert [client.publish_stored(topic, b"x") < 0x80 for topic in ("m/1", "m/no", "x")] == [
        True,
        False,
        False,
    ]
    assert client.subscribe("d/c7", "d/c8") == [1, 0x87]
    client.close()
    assert MqttClient(gateway.mqtt_port, "c8", V5, username="mos", password=b"wrong").connack.reason
    again = MqttClient(gateway.mqtt_port, "c7", V5, username="mos", password=b"password")
    assert not again.connack.reason, "its hash is one of ours now"
    again.close()


def test_rabbitmqs_users_log_in_with_their_old_passwords(gateway: Guarded, cli: Cli, tmp_path: Path) -> None:
    user = {"name": "rab", "password_hash": RABBIT_HASH, "tags": []}
    document = {
        "users": [{**user, "hashing_algorithm": "rabbit_password_hashing_sha256"}],
        "vhosts": [{"name": "/"}],
        "exchanges": [],
        "permissions": [{"user": "rab", "vhost": "/", "configure": "^mine$", "write": "", "read": "^mine$"}],
    }
    path = tmp_path / "definitions.json"
    path.write_text(json.dumps(document))
    found = as_json(cli("acl", "import", str(path), "--from", "rabbitmq", "--json"))
    assert found["users"] == 1
    for name, status in (("mine", 201), ("other", 403)):
        answer = httpx.put(f"{gateway.url}/v1/queues/{name}", auth=("rab", "test12"), json={}, timeout=10)
        assert answer.status_code == status


def test_rocketmqs_users_log_in_with_their_old_keys(gateway: Guarded, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "plain_acl.yml"
    path.write_text(
        "accounts:\n- accessKey: rocket\n  secretKey: 12345678\n  defaultTopicPerm: DENY\n"
        "  topicPerms:\n  - t1=PUB\n  - t2=SUB\n"
    )
    assert as_json(cli("acl", "import", str(path), "--from", "rocketmq", "--json"))["users"] == 1
    for topic, status in (("t1", 200), ("t2", 403), ("t3", 403)):
        answer = httpx.post(
            f"{gateway.url}/v1/topics/{topic}", auth=("rocket", "12345678"), content=b"x", timeout=10
        )
        assert answer.status_code == status, topic


def test_rules_can_be_written_to_a_file_instead(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text('user ann\ntopic write m/"q"/#\ntopic write \u00e4/\\b/+\n')
    out = tmp_path / "rules.toml"
    arguments = (
        "acl",
        "import",
        "--acl",
        str(tmp_path / "acl"),
        "--output",
        str(out),
        "--url",
        "http://127.0.0.1:1",
    )
    assert "wrote" in good(cli(*arguments))
    assert good(cli("acl", "check", str(out))).startswith(f"{out}: ok, ")
    refused(cli(*arguments), "File exists")


def test_imports_refusals(cli: Cli, tmp_path: Path) -> None:
    refused(cli("acl", "import"), "name mosquitto's files")
    refused(cli("acl", "import", "--from", "kafka", str(tmp_path)), "one of mosquitto, rocketmq, rabbitmq")
    refused(cli("acl", "import", "--from", "rabbitmq"), "name the file of rabbitmq")
    refused(cli("acl", "import", "--from", "rabbitmq", str(tmp_path / "none")), "No such file")
    (tmp_path / "bad").write_text("nonsense")
    assert cli("acl", "import", "--from", "rabbitmq", str(tmp_path / "bad")).exit_code == 1
