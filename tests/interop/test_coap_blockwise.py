"""Large payloads by clients of others, over UDP and TCP; and whether they find the way past a challenge."""

from __future__ import annotations

import random
import subprocess
import textwrap
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from gateway.protocols.coap.numbers import PUT
from tests.coap_client import CoapClient
from tests.peers import NODE_APP, aiocoap_python, coap_client, node_package
from tests.process import GatewayProcess

SECONDS = 60
BODY = random.Random(5).randbytes(30_000)
LARGEST = 100_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """It trusts 127.0.0.1 alone."""
    sets = ("coap.trusted_networks=['127.0.0.1/32']", f"limits.body_bytes_max={LARGEST}")
    process = GatewayProcess(tmp_path_factory.mktemp("coap"), sets).start()
    yield process
    assert process.stop() == 0
    assert not process.bugs(), "\n".join(process.errors)


@pytest.fixture
def body(tmp_path: Path) -> Path:
    path = tmp_path / "body"
    path.write_bytes(BODY)
    return path


def run(*words: str, where: Path | None = None) -> str:
    """Run a client; return what it writes."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=where)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def libcoap(server: GatewayProcess, path: str, *words: str, scheme: str = "coap") -> str:
    """Run libcoap's client."""
    uri = f"{scheme}://127.0.0.1:{server.coap_port}/ps/{path}"
    return run(coap_client(), "-B", "20", *words, uri)


@pytest.mark.parametrize("size", ["64", "1024"])
@pytest.mark.parametrize("scheme", ["coap", "coap+tcp"])
def test_libcoap_there_and_back(
    server: GatewayProcess, body: Path, tmp_path: Path, scheme: str, size: str
) -> None:
    path = f"libcoap/{len(scheme)}/{size}"
    assert "4." not in libcoap(server, path, "-m", "put", "-f", str(body), "-b", size, scheme=scheme)
    back = tmp_path / "back"
    libcoap(server, path, "-b", size, "-o", str(back), scheme=scheme)
    assert back.read_bytes() == BODY


def test_libcoap_finds_its_way_with_lost_datagrams(
    server: GatewayProcess, body: Path, tmp_path: Path
) -> None:
    libcoap(server, "lossy", "-m", "put", "-f", str(body), "-l", "3")
    back = tmp_path / "back"
    libcoap(server, "lossy", "-o", str(back))
    assert back.read_bytes() == BODY


def test_libcoap_is_told_what_is_too_large(server: GatewayProcess, body: Path) -> None:
    body.write_bytes(b"x" * (LARGEST + 1))
    assert "4.13" in libcoap(server, "too-large", "-m", "put", "-f", str(body))


def test_libcoap_proves_its_address(server: GatewayProcess, body: Path, tmp_path: Path) -> None:
    """From an address that is not trusted: the challenge is met without the user's doing."""
    libcoap(server, "proof", "-m", "put", "-f", str(body))
    back = tmp_path / "back"
    libcoap(server, "proof", "-a", "127.0.0.3", "-o", str(back))
    assert back.read_bytes() == BODY


AIOCOAP = """
    import asyncio, sys
    from aiocoap import Context, Message, GET, PUT
    async def main():
        uri, body = sys.argv[1], open(sys.argv[2], "rb").read()
        context = await Context.create_client_context()
        answer = await context.request(Message(code=PUT, uri=uri, payload=body)).response
        print("PUT", answer.code)
        answer = await context.request(Message(code=GET, uri=uri)).response
        print("GET", answer.code, answer.payload == body, len(answer.opt.etag))
        await context.shutdown()
    asyncio.run(main())
"""


@pytest.mark.parametrize("scheme", ["coap", "coap+tcp"])
def test_aiocoap_there_and_back(server: GatewayProcess, body: Path, scheme: str) -> None:
    uri = f"{scheme}://127.0.0.1:{server.coap_port}/ps/aiocoap/{len(scheme)}"
    found = run(aiocoap_python(), "-c", textwrap.dedent(AIOCOAP), uri, str(body))
    assert "PUT 2.01" in found
    assert "GET 2.05 Content True 8" in found


TAKE = """
    import asyncio, sys
    from aiocoap import Context, Message, POST
    async def main():
        context = await Context.create_client_context()
        answer = await context.request(Message(code=POST, uri=sys.argv[1])).response
        print(answer.code, answer.payload == open(sys.argv[2], "rb").read())
        await context.shutdown()
    asyncio.run(main())
"""


def test_a_large_message_is_taken_once(server: GatewayProcess, body: Path, tmp_path: Path) -> None:
    """Further blocks of what a POST has taken are no further messages."""
    with httpx.Client(base_url=server.url) as http:
        assert http.put("/v1/queues/large", json={}).is_success
        for _ in range(2):
            assert http.post("/v1/queues/large/messages", content=BODY).is_success
        uri = f"coap://127.0.0.1:{server.coap_port}/queues/large/receive?ack=auto"
        back = tmp_path / "back"
        run(coap_client(), "-B", "20", "-m", "post", "-o", str(back), uri)
        assert back.read_bytes() == BODY
        assert http.get("/v1/queues/large").json()["depth"] == 1
        assert "2.01 Created True" in run(aiocoap_python(), "-c", textwrap.dedent(TAKE), uri, str(body))
        assert http.get("/v1/queues/large").json()["depth"] == 0


WATCH = """
    import asyncio, hashlib, sys
    from aiocoap import Context, Message, GET
    async def main():
        context = await Context.create_client_context()
        request = context.request(Message(code=GET, uri=sys.argv[1], observe=0))
        first = await request.response
        print("now", len(first.payload), flush=True)
        async for answer in request.observation:
            print("then", len(answer.payload), hashlib.sha256(answer.payload).hexdigest(), flush=True)
            if len(answer.payload) > 20000:
                break
        await context.shutdown()
    asyncio.run(main())
"""


@pytest.mark.parametrize("scheme", ["coap", "coap+tcp"])
def test_large_notifications(server: GatewayProcess, scheme: str) -> None:
    """The first block comes without asking, aiocoap fetches the others."""
    name = f"watched{len(scheme)}"
    with CoapClient(server.coap_port) as publisher, httpx.Client(base_url=server.url) as http:
        publisher.request(PUT, f"/ps/{name}", b"1")
        uri = f"{scheme}://127.0.0.1:{server.coap_port}/ps/{name}"
        command = [aiocoap_python(), "-c", textwrap.dedent(WATCH), uri]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            try:
                assert watching.stdout.readline() == "now 1\n"
                for body in (BODY[:5000], BODY):
                    assert http.post(f"/v1/topics/{name}", content=body).is_success
                    found = watching.stdout.readline().split()
                    assert found == ["then", str(len(body)), sha256(body).hexdigest()]
                assert watching.wait(SECONDS) == 0
            finally:
                watching.kill()


NODE = """
    const coap = require("coap"), fs = require("fs");
    const body = fs.readFileSync(process.argv[3]);
    const to = { hostname: "127.0.0.1", port: +process.argv[2], pathname: "/ps/node" };
    const put = coap.request({ ...to, method: "PUT" });
    put.setOption("Block1", Buffer.of(0x6));
    put.on("response", (answer) => {
        console.log("PUT", answer.code);
        const get = coap.request({ ...to, agent: new coap.Agent() }); // the first one ends here
        get.setOption("Block2", Buffer.of(0x6));
        get.on("response", (got) => {
            console.log("GET", got.code, Buffer.compare(got.payload, body));
            process.exit(0);
        });
        get.end();
    });
    put.end(body);
"""


def test_the_npm_package_there_and_back(server: GatewayProcess, body: Path, tmp_path: Path) -> None:
    node = node_package("coap")
    found = run(node, "-e", textwrap.dedent(NODE), "-", str(server.coap_port), str(body), where=NODE_APP)
    assert "PUT 2.01" in found
    assert "GET 2.05 0" in found


def test_a_client_without_echo_gets_what_is_small(server: GatewayProcess) -> None:
    with CoapClient(server.coap_port) as publisher:
        publisher.request(PUT, "/ps/small", b"21.5")
    answer = libcoap(server, "small", "-a", "127.0.0.4")
    assert "21.5" in answer
