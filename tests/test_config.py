"""Configuration: what is accepted, and that every fault is one line with the key and what to do."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.auth.hashes import hash_password
from gateway.cli.template import render_default
from gateway.config import (
    Address,
    Config,
    ConfigError,
    load,
    parse_value,
    unknown_doors,
)
from gateway.settings import DOORS, RANGES, SECTIONS, TYPE_NAMES, Quota, User

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$aGFzaGhhc2hoYXNo"
ADMIN = f'[users.admin]\npassword = "{HASH}"\nadmin = true\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to be in, and the file `gateway init` would write there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "gateway.toml"


def read(file: Path, text: str, *sets: str, dev: bool = False) -> Config:
    file.write_text(text, encoding="utf-8")
    return load(file, sets, dev, None)


def faults(file: Path | None, text: str | None = None, *sets: str, dev: bool = False) -> list[str]:
    """Return the faults; there must be some, one line each, with the file's directory cut off."""
    if file is not None and text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file, sets, dev, None)
    found = caught.value.faults
    assert found
    assert all(fault == fault.strip() and fault.isprintable() for fault in found)
    return [fault.replace(f"{file.parent}/", "") for fault in found] if file else found


# -- defaults -------------------------------------------------------------------------------


def test_development_needs_no_file(file: Path) -> None:
    config = load(None, [], True, None)
    assert config.dev
    assert config.source is None
    assert config.data_directory == Path("gateway-data")
    assert {name: str(address) for name, address in config.listeners.items()} == DOORS
    assert config.users == {}
    assert not config.anonymous.publish


def test_the_defaults_are_the_documented_ones(file: Path) -> None:
    config = load(None, [], True, None)
    assert (config.storage.engine, config.storage.segment_bytes) == ("commitlog", 67_108_864)
    assert msgspec.structs.astuple(config.limits) == (
        100_000, 10.0, 1_048_576, 16_777_216, 16_777_216, 100_000, 1000, 10_000, 20_000,
    )  # fmt: skip
    assert msgspec.structs.astuple(config.mqtt) == (0, 4_294_967_295, 1000, 100, True, 100_000)
    assert msgspec.structs.astuple(config.network) == ([], ["127.0.0.1/32"])
    assert config.plugins.disabled == []


def test_every_default_is_within_its_range() -> None:
    for section, key in RANGES:
        fields = {field.name: field for field in msgspec.structs.fields(SECTIONS[section])}
        low, high = RANGES[section, key]
        assert low <= fields[key].default <= high


def test_every_number_has_a_range() -> None:
    for section, kind in SECTIONS.items():
        for field in msgspec.structs.fields(kind):
            assert field.type in TYPE_NAMES
            assert (field.type in (int, float)) == ((section, field.name) in RANGES)


def test_settings_cannot_be_changed(file: Path) -> None:
    config = load(None, [], True, None)
    with pytest.raises(AttributeError):
        config.limits.connections_max = 1  # type: ignore[misc]


def test_importing_it_is_cheap() -> None:
    code = "import sys, gateway.config; print({'fastapi', 'pydantic', 'asyncio'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# -- which file -----------------------------------------------------------------------------


def test_without_a_file_it_says_what_to_do(file: Path) -> None:
    assert faults(None) == [
        "no configuration: run `gateway init` to write gateway.toml and start with --config gateway.toml, "
        "or use --dev for development on this machine"
    ]


def test_gateway_toml_is_found_in_the_current_directory(file: Path) -> None:
    file.write_text(ADMIN)
    config = load(None, [], False, None)
    assert config.source == Path("gateway.toml")
    assert config.users == {"admin": User(HASH, admin=True)}


def test_development_reads_only_a_file_it_is_given(file: Path) -> None:
    file.write_text("[mqtt]\nretain_available = false\n")
    assert load(None, [], True, None).mqtt.retain_available
    assert not load(file, [], True, None).mqtt.retain_available


def test_what_init_writes_is_accepted(file: Path) -> None:
    stored = hash_password("correct horse")
    config = read(file, render_default("admin", stored))
    assert config.users == {"admin": User(stored, admin=True)}
    assert config.address("mqtt", "") == Address("tcp", "127.0.0.1", 1883)
    assert config.closed_for_now(["mqtt", "amqp", "http"]) == []


@given(st.text(min_size=1).filter(lambda name: name.isprintable()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_init_accepts_any_name(tmp_path: Path, name: str) -> None:
    assert set(read(tmp_path / "gateway.toml", render_default(name, HASH)).users) == {name}


def test_a_byte_order_mark_does_no_harm(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + ADMIN.encode())
    assert "admin" in load(file, [], False, None).users


# -- files that cannot be read --------------------------------------------------------------


def test_a_missing_file(file: Path) -> None:
    assert faults(file) == [
        "gateway.toml: cannot be read: No such file or directory; `gateway init` writes one"
    ]
    assert faults(file, None, dev=True) == faults(file)


def test_a_directory(file: Path) -> None:
    file.mkdir()
    assert faults(file) == ["gateway.toml: cannot be read: Is a directory"]


def test_bad_toml_names_the_line(file: Path) -> None:
    (fault,) = faults(file, "[limits]\nconnections_max = \n")
    assert fault.startswith("gateway.toml: not valid TOML: ")
    assert "line 2" in fault


def test_bad_utf8_names_the_line(file: Path) -> None:
    file.write_bytes(b"# one\n# two\n# \xff\n")
    assert faults(file) == ["gateway.toml: not UTF-8 (at line 3); save it as UTF-8"]


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 10_000], ids=["deep", "long"])
def test_absurd_toml(file: Path, text: str) -> None:
    (fault,) = faults(file, text)
    assert fault.startswith("gateway.toml: not valid TOML: ")


def test_a_file_that_cannot_be_read_hides_no_bad_override(file: Path) -> None:
    assert len(faults(file, "=", "nonsense")) == 2


# -- bad settings ---------------------------------------------------------------------------

BOB = f"[users.bob]\npassword = '{HASH}'\n"
NO_HASH = "users.bob.password: expected a hash, as `gateway users hash` prints it"

BAD = [
    ("[limts]", "limts: unknown section; did you mean limits?"),
    ("[zebra]", "zebra: unknown section"),
    ("limits = 3", "limits: expected table, found integer; write it as [limits]"),
    ("users = []", "users: expected table, found array; write it as [users]"),
    ("listeners = true", "listeners: expected table, found boolean; write it as [listeners]"),
    ("plugins = 1.5", "plugins: expected table, found number; write it as [plugins]"),
    (
        "[limits]\nconections_max = 1",
        "limits.conections_max: unknown key; did you mean limits.connections_max?",
    ),
    ("[limits]\nzebra = 1", "limits.zebra: unknown key"),
    ("[limits]\nconnections_max = '9'", "limits.connections_max: expected integer, found string"),
    ("[limits]\nconnections_max = true", "limits.connections_max: expected integer, found boolean"),
    ("[limits]\nconnections_max = 1.0", "limits.connections_max: expected integer, found number"),
    ("[limits]\nconnections_max = 1979-05-27", "limits.connections_max: expected integer, found date"),
    ("[limits]\nhandshake_seconds_max = 'x'", "limits.handshake_seconds_max: expected number, found string"),
    ("[mqtt]\nretain_available = 1", "mqtt.retain_available: expected boolean, found integer"),
    ("[server]\ndata = 1", "server.data: expected string, found integer"),
    ("[server]\ndata = ''", "server.data: expected the path of a directory"),
    ('[server]\ndata = "a\\u0000"', "server.data: expected the path of a directory"),
    ("[network]\nproxy_from = 'x'", "network.proxy_from: expected array of strings, found string"),
    (
        "[network]\nproxy_from = [1]",
        "network.proxy_from: expected array of strings, found array with integer",
    ),
    (
        "[network]\nproxy_from = ['x']",
        "network.proxy_from: 'x' does not appear to be an IPv4 or IPv6 network",
    ),
    ("[plugins]\ndisabled = {}", "plugins.disabled: expected array of strings, found table"),
    ("[plugins]\nline = 1", "plugins.line: unknown key"),
    (
        "[mqtt]\nreceive_maximum = 0",
        "mqtt.receive_maximum: out of range; a number from 1 to 65535 is possible",
    ),
    ("[users]\nbob = 1", "users.bob: expected table, found integer; write it as [users.bob]"),
    ("[users.bob]", "users.bob.password: missing"),
    ("[users.bob]\npassword = 1", "users.bob.password: expected string, found integer"),
    ("[users.bob]\npassword = ''", NO_HASH),
    ("[users.bob]\npassword = 'secret'", NO_HASH),
    (BOB + "admn = true", "users.bob.admn: unknown key; did you mean users.bob.admin?"),
    (BOB + "admin = 1", "users.bob.admin: expected boolean, found integer"),
    (
        BOB + "publish = ['#/a']",
        "users.bob.publish: filter '#/a': '#' must be the whole last level",
    ),
    (BOB + "subscribe = ['']", "users.bob.subscribe: a filter must not be empty"),
    (
        f"[users.'']\npassword = '{HASH}'",
        "users.: a user needs a name: clients without one are anonymous",
    ),
    ("[listeners]\nhttp = 8080", 'listeners.http: expected string ("host:port"), found integer'),
    (
        "[listeners]\nhttp = '8080'",
        "listeners.http: '8080' is no address; host:port, [v6]:port or unix:/path is expected",
    ),
    ("[tls]\ncertficate = 'x'", "tls.certficate: unknown key; did you mean tls.certificate?"),
    ("[tls]\nkey = 1", "tls.key: expected string, found integer"),
    ("[tls]\nminimum_version = 1.2", "tls.minimum_version: expected string, found number"),
    ("[tls]\nminimum_version = '1.1'", "tls.minimum_version: '1.1': one of 1.2, 1.3 is expected"),
    (
        "[tls]\nclient_certificates = 'yes'",
        "tls.client_certificates: 'yes': one of none, optional, required is expected",
    ),
    (
        "[tls.mqtts]\ncertficate = 'x'",
        "tls.mqtts.certficate: unknown key; did you mean tls.mqtts.certificate?",
    ),
    ("[tls.mqtts]\nclient_ca = []", "tls.mqtts.client_ca: expected string, found array"),
    (
        "[coap.senml]\n'a/#/b' = 'x'",
        "coap.senml.\"a/#/b\": filter 'a/#/b': '#' must be the whole last level",
    ),
    (
        "[coap.senml_values]\na = '{device}/{name}'",
        "coap.senml_values.a: '{device}/{name}': {device} is unknown; {topic} and {name} are possible",
    ),
    ("[coap]\nsenml = []", "coap.senml: expected table of strings, found array"),
    (
        "[tls.https]\nminimum_version = '1.0'",
        "tls.https.minimum_version: '1.0': one of 1.2, 1.3 is expected",
    ),
]


@pytest.mark.parametrize(("text", "fault"), BAD)
def test_a_fault_names_file_key_and_remedy(file: Path, text: str, fault: str) -> None:
    found = faults(file, text + "\n", dev=True)
    assert f"gateway.toml: {fault}" in found
    if text.startswith("[users]"):
        found.remove("gateway.toml: users.bob.password: missing")
    assert len(found) == 1


def test_all_faults_are_reported_at_once(file: Path) -> None:
    text = "\n".join(text for text, _ in BAD if "zebra]" in text)
    text += "\n[limits]\nconnections_max = 0\npacket_bytes_max = 'x'\n"
    found = faults(file, text, "listeners.mqtt=0.0.0.0:1", "nonsense")
    keys = (
        "zebra",
        "connections_max",
        "packet_bytes_max",
        "users: ",
        "listeners.mqtt: ",
        "nonsense",
    )
    assert len(found) == len(keys)
    for key in keys:
        assert any(key in fault for fault in found)


@pytest.mark.parametrize(("section", "key"), RANGES)
def test_the_range_of_every_number(file: Path, section: str, key: str) -> None:
    low, high = RANGES[section, key]
    name = f"{section}.{key}"
    for value in (low, high):
        config = load(None, [f"{name}={value}"], True, None)
        assert getattr(getattr(config, section), key) == value
    for text in (f"{low - 1}", f"{high + 1}", "-inf", "inf", "nan", "9" * 4000, "0x" + "f" * 5000):
        (fault,) = faults(None, None, f"{name}={text}", dev=True)
        assert fault.startswith(
            (f"--set: {name}: out of range; ", f"--set: {name}: expected integer, found number")
        )


def test_what_is_quoted_stays_on_its_line(file: Path) -> None:
    found = faults(
        file, '[users."a\\nb"]\n["li\\u001bmits"]\n', "a\nb", "limits.x\n=1", "listeners.http=a\nb"
    )
    assert len(found) == 5  # `faults` has looked at the lines
    assert not any("nobody" in fault for fault in found)


def test_a_password_is_never_quoted(file: Path) -> None:
    assert "hunter2" not in "".join(faults(file, "[users.bob]\npassword = 'hunter2'\n"))
    assert "hunter2" not in "".join(faults(file, "[users.bob]\npassword = ['hunter2']\n"))


# -- who gets in ----------------------------------------------------------------------------


def test_somebody_must_be_able_to_log_in(file: Path) -> None:
    assert faults(file, "") == [
        "gateway.toml: users: nobody could log in; add a [users.NAME] as `gateway init` writes it"
    ]
    assert read(file, "[anonymous]\npublish = ['#']\n").anonymous.publish == ["#"]
    assert read(file, "", dev=True).users == {}


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "gateway.example:1", "[::ffff:1.2.3.4]:1"]
)
def test_a_door_for_other_machines_needs_logins(file: Path, address: str) -> None:
    listen = f"listeners.mqtt={address}"
    (fault,) = faults(file, "[anonymous]\npublish = ['#']\nnetworks = ['0.0.0.0/0']\n", listen)
    assert fault == (
        f"--set: listeners.mqtt: {address} is open to other machines, and nobody has a login; "
        "add a [users.NAME], or listen on 127.0.0.1"
    )
    (fault,) = faults(file, ADMIN, listen, dev=True)
    assert fault.startswith("--set: listeners.mqtt: --dev lets anybody in, so it listens on loopback only")
    assert str(read(file, ADMIN, listen).address("mqtt", "")) == address


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.8.9.1:1", "[::1]:1", "localhost:1", "unix:/tmp/x"])
def test_loopback_is_open_to_all(file: Path, address: str) -> None:
    assert str(load(None, [f"listeners.mqtt={address}"], True, None).address("mqtt", "")) == address


def test_a_plugins_default_address_is_held_to_the_same_rules(file: Path) -> None:
    development, secured = load(None, [], True, None), read(file, ADMIN)
    open_to_this_machine = read(file, "[anonymous]\npublish = ['#']\n")
    assert str(development.address("line", "127.0.0.1:7000")) == "127.0.0.1:7000"
    assert str(secured.address("line", "0.0.0.0:7000")) == "0.0.0.0:7000"
    for config in (development, open_to_this_machine):
        with pytest.raises(ConfigError, match=r"listeners\.line: .*protocol's default"):
            config.address("line", "0.0.0.0:7000")
    with pytest.raises(ConfigError, match=r"listeners\.line: the protocol's default: .*no address"):
        development.address("line", "7000")


# -- doors ----------------------------------------------------------------------------------


def test_an_address_comes_from_the_configuration_then_the_protocol(file: Path) -> None:
    config = load(None, ["listeners.http=", "listeners.line=127.0.0.1:7"], True, None)
    assert config.address("http", "127.0.0.1:8080") is None
    assert config.address("line", "127.0.0.1:7000") == Address("tcp", "127.0.0.1", 7)
    assert config.address("other", "127.0.0.1:9") == Address("tcp", "127.0.0.1", 9)
    assert config.address("other", "") is None


def test_doors_that_were_asked_for_and_cannot_open_yet(file: Path) -> None:
    installed = {"mqtt": object(), "http": object()}
    assert load(None, [], True, None).closed_for_now(installed) == []
    sets = ["listeners.coap=127.0.0.1:5683", "listeners.mqtt=127.0.0.1:1", "listeners.amqp="]
    config = read(file, "[listeners]\nopenmessaging = '127.0.0.1:2'\namqp = '127.0.0.1:3'\n", *sets, dev=True)
    assert config.closed_for_now(installed) == ["coap", "openmessaging"]
    assert str(config.listeners["coap"]) == "127.0.0.1:5683"
    assert config.listeners["amqp"] == ""


def test_a_tls_door_has_what_is_its_own_and_the_rest_of_all(file: Path) -> None:
    text = "[tls]\ncertificate = 'c'\nkey = 'k'\n[tls.mqtts]\nkey = 'own'\nminimum_version = '1.3'\n"
    config = read(file, text, "tls.https.client_ca=ca", "tls.ciphers=x", dev=True)
    assert msgspec.structs.astuple(config.tls_of("mqtts")) == ("c", "own", "", "", "1.3", "x")
    assert msgspec.structs.astuple(config.tls_of("https")) == ("c", "k", "ca", "", "1.2", "x")
    assert config.tls_of("amqps") == config.tls


def test_doors_nobody_knows(file: Path) -> None:
    text = "[listeners]\nmqt = '127.0.0.1:1'\nline = '127.0.0.1:2'\nzebra = ''\n"
    text += "[network]\nproxy_protocol = ['htp']\n[tls.mqts]\n[tls.zebra]\n[tls.mqtt]\n[tls.lines]\n"
    config = read(file, text, dev=True)
    assert unknown_doors(config, ["mqtt", "line", "mqtts", "lines"]) == [
        f"{file}: listeners.mqt: unknown door; did you mean listeners.mqtt?",
        f"{file}: listeners.zebra: unknown door",
        f"{file}: network.proxy_protocol: 'htp': unknown door; did you mean http?",
        f"{file}: tls.mqts: no TLS door has this name; did you mean tls.mqtts?",
        f"{file}: tls.zebra: no TLS door has this name",
        f"{file}: tls.mqtt: no TLS door has this name; did you mean tls.mqtts?",
    ]
    assert unknown_doors(load(None, [], True, None), []) == []
    assert unknown_doors(load(None, ["listeners.mqt=127.0.0.1:1"], True, None), []) == [
        "listeners.mqt: unknown door; did you mean listeners.mqtt?"
    ]


# -- --set and --data -----------------------------------------------------------------------


def test_overrides(file: Path) -> None:
    sets = [
        "listeners.mqtt=127.0.0.1:21883",
        "listeners.amqp=",
        "limits.connections_max=7",
        "limits.handshake_seconds_max=3",
        "mqtt.retain_available=false",
        'network.proxy_protocol=["mqtt"]',
        "storage.engine=memory",
        f"users.eve.password={HASH}",
        f"users.'b.o'.password={HASH}",
        "plugins.line.greeting=hello",
    ]
    config = read(file, ADMIN + "[limits]\nconnections_max = 9\ntopics_cached_max = 5\n", *sets)
    assert config.address("mqtt", "") == Address("tcp", "127.0.0.1", 21883)
    assert config.address("amqp", "127.0.0.1:5672") is None
    assert (config.limits.connections_max, config.limits.topics_cached_max) == (7, 5)
    assert repr(config.limits.handshake_seconds_max) == "3.0"
    assert not config.mqtt.retain_available
    assert config.network.proxy_protocol == ["mqtt"]
    assert config.storage.engine == "memory"
    assert set(config.users) == {"admin", "eve", "b.o"}
    assert config.plugin("line") == {"greeting": "hello"}
    assert config.plugin("other") == {}


def test_the_last_override_wins(file: Path) -> None:
    config = load(None, ["storage.engine=a", "storage.engine=b"], True, None)
    assert config.storage.engine == "b"


def test_data_wins_over_the_file(file: Path) -> None:
    file.write_text(ADMIN + "[server]\ndata = 'here'\n")
    assert load(file, [], False, None).data_directory == Path("here")
    assert load(file, ["server.data=there"], False, Path("elsewhere")).data_directory == Path("elsewhere")


@pytest.mark.parametrize(
    "text", ["", "=", "x", "x=1", "limits", "limits.=1", ".x=1", "a..b=1", "a.'b=1", "a.'b'c=1"]
)
def test_bad_overrides(file: Path, text: str) -> None:
    assert faults(None, None, text, dev=True) == [
        f"--set {text!r}: expected section.key=value, as in listeners.http="
    ]


def test_an_override_below_a_value(file: Path) -> None:
    sets: Sequence[str] = ["storage.engine=a", "storage.engine.name=b"]
    assert faults(None, None, *sets, dev=True) == [
        "--set 'storage.engine.name=b': storage.engine is a value, it has no keys"
    ]


def test_a_fault_says_whether_the_file_or_an_override_is_to_blame(file: Path) -> None:
    found = faults(
        file, "[limits]\nconnections_max = 0\ntopics_cached_max = 0\n", "limits.connections_max=-1", dev=True
    )
    assert [fault.partition(": out")[0] for fault in found] == [
        "--set: limits.connections_max",
        "gateway.toml: limits.topics_cached_max",
    ]


def refusals(*sets: str) -> list[str]:
    """Return the faults of overrides, none if they are accepted; anything but ConfigError fails the test."""
    try:
        load(None, sets, True, None)
    except ConfigError as error:
        return error.faults or ["refused without a word"]
    return []


@given(st.text())
def test_any_override_is_taken_or_one_line(text: str) -> None:
    found = refusals(text)
    assert all(fault.isprintable() for fault in found)
    assert found or "=" in text


KEYS = [f"{name}.{field.name}" for name, kind in SECTIONS.items() for field in msgspec.structs.fields(kind)]


@given(st.sampled_from([*KEYS, "listeners.mqtt", "users.a.password", "plugins.p.q", "zebra.x"]), st.text())
def test_any_value_is_taken_or_one_line_that_names_the_key(key: str, value: str) -> None:
    found = refusals(f"{key}={value}")
    assert all(fault.isprintable() for fault in found)
    assert all(key in fault for fault in found) or key == "zebra.x"
    assert found or key != "zebra.x"


@given(st.text())
def test_a_value_is_toml_or_itself(text: str) -> None:
    value = parse_value(text)
    if value != text:
        assert tomllib.loads(f"value = {text}") == {"value": value}


@given(
    st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["C"]))
)
def test_toml_values_are_themselves(value: bool | int | str) -> None:
    assert parse_value(msgspec.json.encode(value).decode()) == value


@pytest.mark.parametrize(
    "text", ["1\nother = 2", "[" * 100_000, "9" * 10_000, "127.0.0.1:1", "", "True", "a b"]
)
def test_what_is_no_toml_value_is_a_string(text: str) -> None:
    assert parse_value(text) == text


# -- addresses ------------------------------------------------------------------------------

PORTS = st.integers(0, 65_535)
HOSTS = st.ip_addresses(v=4).map(str) | st.from_regex(r"\A[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?\Z")


@given(HOSTS, PORTS)
def test_host_and_port(host: str, port: int) -> None:
    address = Address.parse(f"{host}:{port}")
    assert address == Address("tcp", host, port)
    assert str(address) == f"{host}:{port}"


@given(st.ip_addresses(v=6), PORTS)
def test_v6_and_port(host: object, port: int) -> None:
    address = Address.parse(f"[{host}]:{port}")
    assert (address.kind, address.host, address.port, address.path) == ("tcp", str(host), port, "")
    assert str(address) == f"[{host}]:{port}"


@given(st.text(min_size=1).filter(lambda path: "\0" not in path))
def test_unix_path(path: str) -> None:
    address = Address.parse(f"unix:{path}")
    assert (address.kind, address.path, address.host, address.port) == ("unix", path, "", 0)
    assert str(address) == f"unix:{path}"
    assert address.loopback


@given(st.text() | st.text("0123456789.:[]ab"))
def test_any_text_is_an_address_or_refused_in_words(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError as error:
        reason = str(error)
    else:
        assert Address.parse(str(address)) == address
        return
    assert repr(text) in reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no address"),
        ("1883", "no address"),
        ("localhost", "no address"),
        ("localhost:", "the port must be a number"),
        ("localhost:mqtt", "the port must be a number"),
        ("localhost:-1", "the port must be a number"),
        ("localhost:65536", "the port must be a number"),
        ("localhost:\u0661", "the port must be a number"),
        ("localhost:" + "9" * 5000, "the port must be a number"),
        (":1883", "'' is no host"),
        ("*:1883", "0.0.0.0 is open to all"),
        ("a b:1883", "no host"),
        ("::1:1883", "needs brackets"),
        ("[localhost]:1883", "no IPv6 address"),
        ("[]:1883", "no IPv6 address"),
        ("unix:", "needs a path"),
        ("unix:a\0b", "needs a path"),
    ],
)
def test_bad_addresses(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^['\"]") as caught:
        Address.parse(text)
    assert reason in str(caught.value)


# -- documentation --------------------------------------------------------------------------


def documented() -> dict[str, list[str]]:
    """Return the tables of the documentation: key -> the row's other cells."""
    text = (Path(__file__).parent.parent / "docs/configuration.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


def test_every_key_is_documented() -> None:
    users = [f"users.NAME.{field.name}" for field in msgspec.structs.fields(User)]
    users += [f"quotas.NAME.{field.name}" for field in msgspec.structs.fields(Quota)]
    doors = [f"listeners.{name}" for name in DOORS]
    own = [key for key in documented() if not key.startswith("plugins.http.")]
    assert sorted(own) == sorted([*KEYS, *users, *doors])


@pytest.mark.parametrize("key", [*KEYS, *(f"listeners.{name}" for name in DOORS)])
def test_the_documented_default_and_range_are_the_real_ones(file: Path, key: str) -> None:
    section, _, name = key.partition(".")
    config = load(None, [], True, None)
    value = str(config.listeners[name]) if section == "listeners" else getattr(getattr(config, section), name)
    cells = documented()[key]
    shown = cells[0].partition(" (")[0].removesuffix(" s").strip("`")
    assert parse_value(shown) == value
    if (section, name) in RANGES:
        low, high = RANGES[section, name]
        assert cells[1] == f"{low} to {high}"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("advertise", "'broker.example'", "is no address; host:port"),
        ("advertise", "'unix:/run/x.sock'", "host:port is expected"),
        ("advertise", "'broker.example:0'", "host:port is expected"),
        ("advertise", "'0.0.0.0:8081'", "nobody can dial 0.0.0.0"),
        ("advertise_tls", "'[::]:8081'", "nobody can dial ::"),
        ("topics", "['a/#/b']", "must be the whole last level"),
        ("fifo_groups", "['a/b']", "letters, digits"),
        ("fifo_groups", "['a*b']", "letters, digits"),
        ("client_idle_seconds", "5", "out of range"),
    ],
)
def test_what_rocketmq_clients_could_not_be_told(file: Path, key: str, value: str, reason: str) -> None:
    [fault] = faults(file, f"[openmessaging]\n{key} = {value}\n", dev=True)
    assert fault.startswith(f"gateway.toml: openmessaging.{key}: ")
    assert reason in fault


def test_what_rocketmq_clients_are_told(file: Path) -> None:
    text = "advertise = 'broker.example:8081'\nadvertise_tls = '[2001:db8::1]:443'\n"
    config = read(file, f"[openmessaging]\n{text}fifo_groups = ['orders-*', 'a', '*']\n", dev=True)
    assert config.openmessaging.advertise_tls == "[2001:db8::1]:443"
    assert config.openmessaging.fifo_groups == ["orders-*", "a", "*"]
