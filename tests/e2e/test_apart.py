"""With the shipped broker configuration a content server neither speaks nor reads for another; with mutual TLS alike.

Real clients: Mosquitto's own. And what the daemon says when TLS to the broker does not come about.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from certs import Authority
from servers import certify, shipped
from waiting import until

from channeld.sandbox.stage import Server, Stage
from e2e.test_nodes import metric
from e2e.world import World

pytestmark = pytest.mark.slow

PAYEE = "rLHzPsX6oXkzU2qL12kHCH8G8cnZv1rBJh"
PREFIX = "channeld/v1"
SETTLED_S = 1.0
"""So long after the last message a client still listens for what must not come."""


class Login:
    """How one party logs in, for Mosquitto's clients."""

    def __init__(self, name: str, password: str, port: int, authority: Authority, *, mutual: bool) -> None:
        self.name, self._arguments = name, ["-h", "127.0.0.1", "-p", str(port)]
        if mutual:
            certificate, key = authority.issue(name)
            files = ("--cafile", authority.ca, "--cert", certificate, "--key", key)
            self._arguments += [str(word) for word in files]
        else:
            self._arguments += ["-u", name, "-P", password]

    async def publish(self, topic: str, message: str, *more: str) -> None:
        """mosquitto_pub; what the access list forbids fails only with MQTT 5, and silently before."""
        words = ["mosquitto_pub", *self._arguments, "-t", topic, "-m", message, "-q", "1", *more]
        process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
        await process.communicate()

    async def listen(self, *topics: str, version: str = "mqttv5", more: Sequence[str] = ()) -> Listener:
        """mosquitto_sub, subscribed when this returns."""
        words = ["mosquitto_sub", *self._arguments, "-V", version, "-q", "1", "-F", "%t %p", "-d", *more]
        words += [word for topic in topics for word in ("-t", topic)]
        process = await asyncio.create_subprocess_exec(
            "stdbuf", "-oL", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        listener = Listener(process)
        await until(lambda: any("Subscribed" in line for line in listener.said), what="the subscription")
        return listener


class Listener:
    """A mosquitto_sub that runs, and the messages it printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.said: list[str] = []
        self._process, self._reader = process, asyncio.create_task(self._read(process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.said.append(line.decode().rstrip())

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Topic and payload of each."""
        lines = [line.partition(" ") for line in self.said if line.startswith((PREFIX, "$SYS"))]
        return [(topic, payload) for topic, _, payload in lines]

    def topics(self) -> set[str]:
        return {topic for topic, _ in self.messages}

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()
        await self._reader


def tls_files(authority: Authority, name: str = "channeld") -> dict[str, Path]:
    certificate, key = authority.issue(name)
    return {"ca_file": authority.ca, "cert_file": certificate, "key_file": key}


@pytest.mark.parametrize("mutual", [False, True], ids=["password", "mutual TLS"])
async def test_a_server_neither_speaks_nor_reads_for_another(tmp_path: Path, mutual: bool) -> None:
    authority = Authority(tmp_path / "tls")
    broker = shipped(tmp_path, authority if mutual else None)
    world = World(tmp_path)
    world.broker = broker
    async with world:
        more: dict[str, Any] = {"tls": tls_files(authority)} if mutual else {"credentials": ("channeld", "d")}
        payees = {name: f"{world.payee.address}:{n}" for n, name in enumerate("ab")}
        servers = [Server(name, [payee]) for name, payee in payees.items()]
        stage = await world.stage(servers, **more)
        a, b, daemon = (
            Login(name, password, broker.port, authority, mutual=mutual)
            for name, password in (("a", "pa"), ("b", "pb"), ("channeld", "d"))
        )
        everything = (
            "#",
            "$SYS/#",
            f"{PREFIX}/servers/b/reply/#",
            f"{PREFIX}/daemons/+/witness",
            f"{PREFIX}/servers/+/claim",
        )
        of_a, of_b = await a.listen(*everything), await b.listen(f"{PREFIX}/servers/b/#", version="mqttv311")
        of_daemon = await daemon.listen(f"{PREFIX}/servers/#", f"{PREFIX}/daemons/#")
        try:
            await until(
                lambda: f"{PREFIX}/daemons/channeld-1/witness" in of_daemon.topics(), what="the witness, retained"
            )
            await buy(a, of_a, "real-a", "-V", "5")
            await buy(b, of_b, "real-b", "-V", "311")
            before = len(of_b.messages)
            await steal(a)
            await forge(a, "b")
            await b.publish(f"{PREFIX}/servers/b/claim", '{"id":"last","drops":"1"}')
            await until(lambda: any('"last"' in payload for _, payload in of_b.messages), what="the last reply")
            await asyncio.sleep(SETTLED_S)
            status = f"{PREFIX}/daemons/channeld-1/status"
            assert {f"{PREFIX}/servers/a/reply", status} <= of_a.topics()
            assert f"{PREFIX}/servers/b/reply" in of_b.topics()
            assert all(topic == status or topic.startswith(f"{PREFIX}/servers/a/") for topic in of_a.topics())
            assert all(topic.startswith(f"{PREFIX}/servers/b/") for topic in of_b.topics())
            assert len(of_b.messages) == before + 1, "a made something happen on b's topics"
            assert not any("forged" in payload for _, payload in of_daemon.messages)
            assert any('"real-b"' in payload for topic, payload in of_daemon.messages if topic.endswith("b/claim"))
            assert await metric(stage, "mqtt_reconnects") == 0, "a took the daemon's session"
        finally:
            for listener in (of_a, of_b, of_daemon):
                await listener.close()


async def buy(login: Login, replies: Listener, request_id: str, *version: str) -> None:
    """Ask until it is accepted."""
    name = login.name

    def answers() -> list[dict[str, Any]]:
        said = [json.loads(payload) for topic, payload in replies.messages if topic == f"{PREFIX}/servers/{name}/reply"]
        return [one for one in said if one["id"] == request_id]

    while True:
        count = len(answers())
        await login.publish(f"{PREFIX}/servers/{name}/claim", json.dumps({"id": request_id, "drops": "7"}), *version)
        await until(lambda count=count: len(answers()) > count, what=f"a reply to {name}")
        if (last := answers()[-1])["status"] == "accepted":
            return
        assert last["code"] in ("no_headroom", "frozen"), last
        await asyncio.sleep(0.5)


async def forge(login: Login, victim: str) -> None:
    """Try everything that another server or the daemon may publish, as both versions of the protocol."""
    request = '{"id":"forged","drops":"1"}'
    topics = [f"servers/{victim}/{name}" for name in ("claim", "receive", "query", "reply", "reply/x", "event")]
    topics += [f"servers/{victim}/channels/X", f"servers/{login.name}/reply", f"servers/{login.name}/event"]
    topics += ["daemons/channeld-1/witness", "daemons/channeld-1/status"]
    for version in ("5", "311"):
        await asyncio.gather(*(login.publish(f"{PREFIX}/{topic}", request, "-V", version) for topic in topics))
        await login.publish(f"{PREFIX}/daemons/channeld-1/witness", request, "-V", version, "-r")


async def steal(login: Login) -> None:
    """Log in as the daemon's client ids would be if its name were all that is in them."""
    for client_id in ("channeld-channeld-1", "channeld-channeld-1.asks1", "channeld-channeld-1.says1"):
        thief = await login.listen(f"{PREFIX}/servers/{login.name}/event", more=("-i", client_id, "-c", "-x", "60"))
        await thief.close()


# -- TLS that does not come about ------------------------------------------------------------------------------------


def wrong_authority(tmp_path: Path, authority: Authority) -> dict[str, Path]:
    return tls_files(authority) | {"ca_file": Authority(tmp_path / "other", "other").ca}


def no_certificate(tmp_path: Path, authority: Authority) -> dict[str, Path]:
    return {"ca_file": authority.ca}


def expired_certificate(tmp_path: Path, authority: Authority) -> dict[str, Path]:
    certificate, key = authority.issue("channeld", expired=True)
    return {"ca_file": authority.ca, "cert_file": certificate, "key_file": key}


def stranger(tmp_path: Path, authority: Authority) -> dict[str, Path]:
    return tls_files(Authority(tmp_path / "other", "other")) | {"ca_file": authority.ca}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (wrong_authority, "mqtt.ca_file does not vouch"),
        (no_certificate, "set mqtt.cert_file"),
        (expired_certificate, "renew mqtt.cert_file"),
        (stranger, "who signed mqtt.cert_file"),
    ],
)
async def test_a_daemon_that_cannot_agree_on_tls_says_why_and_goes_on_trying(
    tmp_path: Path, files: Callable[[Path, Authority], dict[str, Path]], says: str
) -> None:
    authority = Authority(tmp_path / "tls")
    broker = shipped(tmp_path, authority)
    async with broker:
        tls = files(tmp_path, authority)
        stage = Stage(tmp_path / "d", ["ws://127.0.0.1:1"], broker.port, [Server("a", [PAYEE])], tls=tls)
        await stage.start(ready=False)
        try:
            await until(lambda: "SSL" in broker_problem(stage), what="a reason in /readyz")
            assert says in broker_problem(stage)
            tries = stage.daemon.log.read_text().count("mqtt_")
            assert tries == 1, "the same reason is logged once"
            await until(lambda: reconnects(stage) >= 3, what="further tries")
            assert stage.daemon.running
            assert "PRIVATE" not in stage.daemon.log.read_text()
        finally:
            await stage.daemon.stop()


async def test_a_broker_whose_certificate_expired_is_taken_once_it_is_renewed(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    broker = shipped(tmp_path, authority)
    home = broker.directory
    tls = tls_files(authority)
    certify(home, authority.issue("broker", expired=True))
    async with broker:
        stage = Stage(tmp_path / "d", ["ws://127.0.0.1:1"], broker.port, [Server("a", [PAYEE])], tls=tls)
        await stage.start(ready=False)
        try:
            await until(lambda: "certificate has expired" in broker_problem(stage), what="a reason in /readyz")
            certify(home, authority.issue("broker"))
            await broker.restart()
            await until(lambda: not broker_problem(stage), what="a connection")
        finally:
            await stage.daemon.stop()


@pytest.mark.parametrize(
    ("spoil", "says"), [(Path.unlink, "no such file"), (lambda path: path.write_text("x"), "key_file")]
)
async def test_a_key_that_is_missing_or_none_is_refused_at_start(tmp_path: Path, spoil: Any, says: str) -> None:
    tls = tls_files(Authority(tmp_path))
    stage = Stage(tmp_path / "d", ["ws://127.0.0.1:1"], 1, [Server("a", [PAYEE])], tls=tls)
    spoil(tls["key_file"])
    stage.daemon.start()
    assert await stage.daemon.stop(0) == 2
    assert says in stage.daemon.tail()
    assert "mqtt" in stage.daemon.tail()


def broker_problem(stage: Stage) -> str:
    """What /readyz says about the broker, once it has been tried."""
    code, text = stage.get("/readyz")
    if not code:
        return ""
    reasons = json.loads(text)["reasons"] if code == 503 else []
    return next(
        (reason for reason in reasons if reason.startswith("broker: ") and "not connected yet" not in reason), ""
    )


def reconnects(stage: Stage) -> int:
    said = json.loads(stage.get("/api/v1/status")[1])
    tried: int = said["mqtt"]["reconnects"]
    return tried
