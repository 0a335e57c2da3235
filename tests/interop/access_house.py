"""A real gateway whose users, tokens, keys, certificates and rules are those of the access matrix."""

from __future__ import annotations

import json
import socket
import ssl
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import grpc
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.auth.hashes import hash_password
from gateway.auth.scram import make_verifier
from tests.certificates import Pki
from tests.interop.access_cases import (
    CASES,
    HOST,
    LOGINS,
    SECONDS,
    STRANGE_HOSTS,
    Login,
    queue,
    rules_file,
    to_toml,
    topic,
)
from tests.mqtt_client import OPENED, V5, MqttClient
from tests.process import RocketGateway, free_port

PASSWORD = "correct horse"
SECRET = b"0123456789abcdef" * 4
OTHER_SECRET = b"fedcba9876543210" * 4
SCRAM_ITERATIONS = 4096
SIGNING = "what a signature is made with"


class Ports(NamedTuple):
    """Where the doors with TLS are."""

    mqtts: int
    amqps: int
    https: int
    openmessagings: int


class House:
    """The process, and what its clients show."""

    def __init__(self, directory: Path) -> None:
        self.pki = Pki(directory / "pki")
        self._signer = ec.generate_private_key(ec.SECP256R1())
        self._forger = ec.generate_private_key(ec.SECP256R1())
        self._certificates = {name: self.pki.client(name) for name in ("certificate", "gone")}
        self.ports = Ports(free_port(), free_port(), free_port(), free_port())
        config = self._write(directory)
        tls = [f"listeners.{name}={HOST}:{port}" for name, port in self.ports._asdict().items()]
        # gRPC asks all clients for certificates, or none
        tls.append("tls.openmessagings.client_certificates=required")
        sets = (*tls, *self.pki.sets("optional"))
        self.process = RocketGateway(directory / "data", sets, dev=False, config=config)
        self._key = ""
        self._contexts: dict[str, ssl.SSLContext] = {}

    def _write(self, directory: Path) -> Path:
        hashed = hash_password(PASSWORD)
        (directory / "hmac").write_bytes(SECRET)
        public = jwt.get_algorithm_by_name("ES256").to_jwk(self._signer.public_key(), as_dict=True)
        (directory / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "one"}]}))
        (directory / "rules.toml").write_text(rules_file())
        tables = {
            "users.root": {"password": hashed, "admin": True},
            "users.password": {"password": hashed},
            "users.scram": {"password": hashed, "scram": make_verifier(PASSWORD, SCRAM_ITERATIONS)},
            "users.key": {"password": hashed},
            "users.gone": {"password": hashed, "disabled": True},
            "users.another": {"password": hashed},
            "tokens": {"secret_file": f"{directory}/hmac", "jwks": f"{directory}/jwks.json"},
            "auth": {"rules": f"{directory}/rules.toml"},
            "anonymous": {"publish": [topic("anonymous", "publish", "allow")], "networks": [f"{HOST}/32"]},
        }
        config = directory / "gateway.toml"
        config.write_text("\n".join(f"[{name}]\n{to_toml(table)}" for name, table in tables.items()))
        return config

    def start(self) -> None:
        """Start it, and make what there is to consume, look at and read."""
        self.process.start()
        with httpx.Client(base_url=self.process.url, auth=("root", PASSWORD), timeout=SECONDS) as root:
            made = root.post("/v1/admin/keys", json={"user": "key"})
            assert made.status_code == 201, made.text
            self._key = made.json()["key"]
            signs = root.put("/v1/admin/users/signature", json={"secret": SIGNING})
            assert signs.status_code < 300, signs.text
            for login in LOGINS:
                for case in CASES:
                    self._make(root, login, case)

    @staticmethod
    def _make(root: httpx.Client, login: str, case: str) -> None:
        for name, fields in (
            (queue(login, "consume", case), {"durable": False}),
            (queue(login, "consume", case) + "-stream", {"kind": "stream", "durable": False}),
            (queue(login, "view", case), {"durable": False}),
        ):
            made = root.put(f"/v1/queues/{name}", json=fields)
            assert made.status_code == 201, made.text
        kept = f"/v1/topics/{quote(topic(login, 'subscribe', case))}?retain=true"
        assert root.post(kept, content=b"kept").status_code == 200

    def stop(self) -> None:
        """Stop it; it must not have logged a bug."""
        self.process.stop()
        assert not self.process.bugs(), "\n".join(self.process.errors)

    # -- what clients show ---------------------------------------------------------------------

    def login(self, name: str) -> Login:
        """Return what somebody logs in with."""
        if name == "anonymous":
            return Login(name)
        if name == "certificate":
            return Login(name, certificate="certificate")
        if name in ("password", "scram"):
            return Login(name, name, PASSWORD, basic=name == "password", scram=name == "scram")
        return Login(name, name, self._secret_of(name))

    def _secret_of(self, name: str) -> str:
        if name == "signature":
            return SIGNING
        claims = {"sub": name, "exp": time.time() + 3600}
        if name == "token":
            return jwt.encode(claims, SECRET, "HS256")
        return self._key if name == "key" else jwt.encode(claims, self._signer, "ES256", {"kid": "one"})

    def wrong(self, name: str, door: int) -> Login:
        """Return the same with something wrong about it; each door has an address to guess from."""
        right = self.login(name)
        host = STRANGE_HOSTS.format(door + 1)
        if name == "anonymous":
            return right._replace(host=host)
        if name == "certificate":
            return right._replace(certificate="gone", host=host)
        forged = {
            "token": jwt.encode({"sub": name, "exp": time.time() + 3600}, OTHER_SECRET, "HS256"),
            "jwks": jwt.encode(
                {"sub": name, "exp": time.time() + 3600}, self._forger, "ES256", {"kid": "one"}
            ),
            "key": self._key[:-4] + ("AAAA" if not self._key.endswith("AAAA") else "BBBB"),
        }
        # A user of its own for each door: nobody's tries are used up, whatever the order of tests.
        user = f"guessed-{door}" if name in ("password", "scram") else name
        return right._replace(username=user, secret=forged.get(name, "a guess"), host=host)

    # -- what clients connect with -------------------------------------------------------------

    def context(self, certificate: str) -> ssl.SSLContext:
        """Return what a client has TLS with; kept, as reading the files takes longer than a login."""
        if certificate not in self._contexts:
            shown = self._certificates[certificate] if certificate else None
            self._contexts[certificate] = self.pki.context(shown)
        return self._contexts[certificate]

    def channel_credentials(self, certificate: str) -> grpc.ChannelCredentials:
        """Return the same for gRPC, which has a TLS of its own."""
        shown = [Path(name).read_bytes() for name in self._certificates[certificate]]
        return grpc.ssl_channel_credentials(self.pki.path("ca.pem").read_bytes(), shown[1], shown[0])

    def port(self, protocol: str, tls: bool) -> int:
        """Return the port of a door."""
        plain = {
            "mqtt": self.process.mqtt_port,
            "amqp": self.process.amqp_port,
            "openmessaging": self.process.rocketmq_port,
        }
        if tls:
            return int(getattr(self.ports, f"{protocol}s"))
        return plain.get(protocol, self.process.http_port)

    def dial(self, protocol: str, tls: bool, login: Login, wrapped: bool = True) -> socket.socket:
        """Return a socket to a door, through TLS if it has any and `wrapped` says so."""
        raw = socket.create_connection((HOST, self.port(protocol, tls)), SECONDS, (login.host, 0))
        OPENED.append(raw)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not tls or not wrapped:
            return raw
        secured = self.context(login.certificate).wrap_socket(raw, server_hostname=HOST)
        OPENED.append(secured)
        return secured


class Witness:
    """An administrator who hears whatever is published: what a client is told is one thing."""

    def __init__(self, house: House) -> None:
        login = {"username": "root", "password": PASSWORD.encode()}
        self._client = MqttClient(house.process.mqtt_port, "witness", V5, **login)
        assert self._client.subscribe("m/+/publish/+", "witness/end", qos=0) == [0, 0]

    def heard(self) -> set[str]:
        """Return what was published so far; whoever was answered has been heard."""
        self._client.publish("witness/end", b"", qos=0)
        bodies: set[str] = set()
        while (message := self._client.receive()).topic != "witness/end":
            bodies.add(message.payload.decode())
        return bodies

    def close(self) -> None:
        """Leave."""
        self._client.close()
