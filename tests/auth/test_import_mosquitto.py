"""Mosquitto's files taken over: what becomes of each line, and the same answers as a real mosquitto."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import InvalidValue
from gateway.auth.hashes import known, verify
from gateway.auth.importers.mosquitto import read
from gateway.core.topic import check_filter
from gateway.protocols.mqtt.packets import V5
from tests.auth.evaluator import allows
from tests.mqtt_client import MqttClient
from tests.peers import executable
from tests.process import free_port, wait_for

HASH = (
    "$6$clQ4Ocu312S0qWgl$Cv2wUxgEN73c6C6jlBkswqR4AkHsvDLWvtEXZZ8NpsBLgP1WAo/qA+WXcmEN/mjDNgdUwcxRAveqN"
    "Ms2xUVQYA=="
)
READ, WRITE, BOTH = ["subscribe"], ["publish"], ["publish", "subscribe"]

#: line -> (decision, subject, actions, topic); the line is the second of a file, after `user ann`.
LINES: dict[str, tuple[str, str, list[str], str]] = {
    "topic a/b": ("allow", "user:ann", BOTH, "a/b"),
    "topic read a/+/c": ("allow", "user:ann", READ, "a/+/c"),
    "topic write #": ("allow", "user:ann", WRITE, "#"),
    "topic readwrite a/#": ("allow", "user:ann", BOTH, "a/#"),
    "topic deny a/secret": ("deny", "user:ann", BOTH, "a/secret"),
    "topic  read   with a space  ": ("allow", "user:ann", READ, "with a space"),
    "  topic read indented": ("allow", "user:ann", READ, "indented"),
    "topic read a/b\r": ("allow", "user:ann", READ, "a/b"),
    "topic read": ("allow", "user:ann", BOTH, "read"),
    "topic read %u/%c": ("allow", "user:ann", READ, "%u/%c"),
    "pattern read dev/%c/cmd": ("allow", "everyone", READ, "dev/${clientid}/cmd"),
    "pattern write %u/%c": ("allow", "user:*", WRITE, "${username}/${clientid}"),
    "pattern plain/#": ("allow", "everyone", BOTH, "plain/#"),
    "pattern deny dev/%c/secret": ("deny", "everyone", BOTH, "dev/${clientid}/secret"),
    "topic deny a/b*": ("deny", "user:ann", BOTH, "a/+"),
    "topic deny a/${username}/b": ("deny", "user:ann", BOTH, "a/+/b"),
    "pattern deny dev-%c/b": ("deny", "everyone", BOTH, "+/b"),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_becomes_a_rule(line: str) -> None:
    decision, subject, actions, topic = LINES[line]
    assert read(acl=f"user ann\n{line}\n").rules == [
        {
            "id": "mosquitto.acl.2",
            "decision": decision,
            "subject": subject,
            "actions": actions,
            "resources": [f"topic:{topic}"],
        }
    ]


LEFT_OUT = [
    "topic read $SYS/#",
    "topic write $queue/jobs",
    "topic a/*",
    "topic read a/${username}",
    "pattern write dev-%c/b",
]


@pytest.mark.parametrize("line", LEFT_OUT)
def test_what_would_allow_more_is_left_out_and_named(line: str) -> None:
    found = read(acl=f"user ann\n{line}\n")
    assert found.rules == []
    assert found.remarks[0].startswith("acl file, line 2: ")


def test_a_user_whose_name_is_a_prefix_here_is_allowed_nothing_and_denied_no_less() -> None:
    found = read(acl="user ann*\ntopic a\ntopic deny b\n")
    assert [(rule["decision"], rule["subject"]) for rule in found.rules] == [("deny", "user:ann*")]
    assert len(found.remarks) == 2


def test_lines_before_any_user_are_for_anonymous_clients_and_comments_for_nobody() -> None:
    found = read(acl="# topic x\n\ntopic a\nuser ann b\ntopic b\nuser bob\npattern c/%c\ntopic d")
    assert [(rule["id"], rule["subject"]) for rule in found.rules] == [
        ("mosquitto.acl.3", "anonymous"),
        ("mosquitto.acl.5", "user:ann b"),
        ("mosquitto.acl.7", "everyone"),
        ("mosquitto.acl.8", "user:bob"),
    ]
    assert found.remarks == []


def test_an_acl_file_that_says_nothing_is_named() -> None:
    for acl in (None, "", "# nothing\n"):
        assert "may allow everything" in read(f"ann:{HASH}\n", acl).remarks[0]


MALFORMED = {
    "user": ("user ", 1),
    "empty topic": ("topic a\ntopic", 2),
    "empty topic after blanks": ("topic a\n\npattern   ", 3),
    "access": ("topic maybe a", 1),
    "a space without access": ("topic a b", 1),
    "keyword": ("topics a", 1),
    "a tab is no space": ("topic\tread a", 1),
    "filter": ("user x\ntopic read a/#/b", 2),
    "plus": ("topic a+/b", 1),
    "U+0000": ("topic a\0b", 1),
    "a surrogate": ("user \ud800", 1),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_acl_file_is_refused_with_its_line(case: str) -> None:
    text, line = MALFORMED[case]
    with pytest.raises(InvalidValue, match=f"acl file, line {line}: "):
        read(acl=text)


def test_passwords_are_taken_over_as_they_are() -> None:
    found = read(f"# people\n\nann:{HASH}\r\n b b :{HASH}:rest\n", "topic a")
    assert [(user["name"], user["password"]) for user in found.users] == [("ann", HASH), ("b b", HASH)]
    assert all(
        (user["admin"], user["groups"], user["disabled"]) == (False, [], False) for user in found.users
    )
    assert verify(found.users[0]["password"], b"password")
    assert found.remarks == []


@pytest.mark.parametrize("line", ["ann", "ann:", "ann:readable", "ann:$6$x$y", "ann:$7$999999999$YQ==$YQ=="])
def test_who_cannot_log_in_at_mosquitto_is_left_out_and_named(line: str) -> None:
    found = read(f"{line}\n", "topic a")
    assert found.users == []
    assert found.remarks[0].startswith("password file, line 1: ")


@pytest.mark.parametrize(
    ("data", "line"), [(f"ann:{HASH}\nann:{HASH}\n", 2), (f"\n:{HASH}", 2), (b"a\nb:\xff\n", 2)]
)
def test_a_malformed_password_file_is_refused_with_its_line(data: bytes | str, line: int) -> None:
    with pytest.raises(InvalidValue, match=f"password file, line {line}: "):
        read(data)


def test_files_that_mosquitto_passwd_has_written(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    for option, name, algorithm in (("-c", "ann", "sha512"), ("-b", "bob", "sha512-pbkdf2")):
        options = [option] if option != "-b" else []
        command = [executable("mosquitto_passwd"), *options, "-H", algorithm, "-b", str(file), name, "pä ss"]
        subprocess.run(command, check=True, capture_output=True, timeout=20)
    found = read(file.read_bytes(), "topic a")
    assert [user["name"] for user in found.users] == ["ann", "bob"]
    assert all(verify(user["password"], "pä ss".encode()) for user in found.users)


WORDS = st.sampled_from(
    [
        "user",
        "topic",
        "pattern",
        "read",
        "write",
        "deny",
        "a/+",
        "#",
        "%u",
        "%c/x",
        "*",
        "${clientid}",
        "$SYS/#",
    ]
)
FILES = st.lists(
    st.text(max_size=20) | st.lists(WORDS | st.text(max_size=8), max_size=4).map(" ".join), max_size=8
).map("\n".join)


@given(FILES | st.binary(max_size=60), FILES | st.binary(max_size=60))
def test_any_file_gives_rules_that_can_be_or_is_refused(passwords: bytes | str, acl: bytes | str) -> None:
    try:
        found = read(passwords, acl)
    except InvalidValue:
        return
    assert len({rule["id"] for rule in found.rules}) == len(found.rules)
    for rule in found.rules:
        for resource in rule["resources"]:
            check_filter(resource.removeprefix("topic:"))
    assert all(known(user["password"]) for user in found.users)


# -- a real mosquitto ---------------------------------------------------------------------------------

PASSWORD = "password"
FENCE = "fence/of/the/test"
ACL = f"""
topic read public/#
topic write open
user root
topic readwrite #
user ann
topic a/+
topic read r/#
topic write w/#
topic deny r/secret
topic deny a/x
topic deny dev/ann/off
topic read %u/literal
topic +/wild
user bob
topic #
topic deny a/#
user b b
topic read with a space/#
user nobody
pattern read dev/%u/cmd
pattern write dev/%u/up/%c
pattern readwrite c/%c/#
pattern write dev/%u/off
pattern deny c/%c/deny
pattern write everywhere
pattern read {FENCE}
"""
USERS = ["", "ann", "bob", "b b", "nobody", "stranger"]
TOPICS = [
    "a", "a/1", "a/x", "a/1/2", "r", "r/1", "r/secret", "r/secret/1", "w/1/2", "w", "%u/literal", "1/wild",
    "ann/literal", "with a space/1", "public/1", "open", "everywhere", "dev/ann/cmd", "dev/bob/cmd",
    "dev/ann/off", "dev/bob/off", "dev/ann/up/c-ann", "dev/ann/up/other", "c/c-ann/1", "c/c-bob", "c/c-/1",
    "c/c-ann/deny", "c/c-/deny", "c/c-b-b/deny", "dev/${username}/cmd", "dev/+", "nowhere",
]  # fmt: skip


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a mosquitto with ACL."""
    folder = tmp_path_factory.mktemp("mosquitto")
    port = free_port()
    (folder / "acl").write_text(ACL)
    (folder / "passwords").write_text("".join(f"{name}:{HASH}\n" for name in ["root", *USERS] if name))
    for file in ("acl", "passwords"):
        (folder / file).chmod(0o644)
    (folder / "conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {folder}/acl\n"
        f"password_file {folder}/passwords\nuser root\npersistence false\n"
    )
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [executable("mosquitto"), "-c", str(folder / "conf")], stdout=log, stderr=subprocess.STDOUT
    )
    try:
        wait_for(lambda: _listens(port) or process.poll() is not None, what="mosquitto")
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def _listens(port: int) -> bool:
    try:
        MqttClient(port, "probe").sock.close()
    except (OSError, AssertionError):
        return False
    return True


def client_id(user: str) -> str:
    """Return what the client of a user calls itself."""
    return "c-" + user.replace(" ", "-")


def connect(port: int, user: str) -> MqttClient:
    login: dict[str, Any] = {"username": user, "password": PASSWORD.encode()} if user else {}
    return MqttClient(port, client_id(user), V5, **login)


@pytest.mark.interop
@pytest.mark.parametrize("user", USERS)
def test_what_a_real_mosquitto_lets_publish_the_rules_allow(mosquitto: int, user: str) -> None:
    client, rules = connect(mosquitto, user), read(acl=ACL).rules
    topics = [topic for topic in TOPICS if "+" not in topic]
    said = {}
    for topic in topics:
        said[topic] = client.publish_stored(topic, b"x") < 0x80
    expected = {topic: allows(rules, user, client_id(user), "publish", f"topic:{topic}") for topic in topics}
    assert said == expected


@pytest.mark.interop
@pytest.mark.parametrize("user", USERS)
def test_what_a_real_mosquitto_delivers_the_rules_allow(mosquitto: int, user: str) -> None:
    client, root, rules = connect(mosquitto, user), connect(mosquitto, "root"), read(acl=ACL).rules
    topics = [topic for topic in TOPICS if "+" not in topic]
    client.subscribe("#")
    for topic in [*topics, FENCE]:
        root.publish_stored(topic, b"x")
    got = set()
    while FENCE not in got:
        got.add(client.receive().topic)
    expected = {
        topic for topic in topics if allows(rules, user, client_id(user), "subscribe", f"topic:{topic}")
    }
    assert got - {FENCE} == expected


@pytest.mark.interop
def test_a_denied_pattern_wins_here_and_not_at_mosquitto(mosquitto: int) -> None:
    """The one known difference, and it is named: one deny outvotes any allow here."""
    found = read(acl=ACL)
    assert connect(mosquitto, "bob").publish_stored("c/c-bob/deny", b"x") < 0x80
    assert not allows(found.rules, "bob", "c-bob", "publish", "topic:c/c-bob/deny")
    assert any("denied pattern" in remark for remark in found.remarks)
