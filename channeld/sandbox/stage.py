"""A stage for the demo and for tests: keys, config files and processes in a directory of their own.

Every process is this interpreter running `channeld`, on loopback, and is ended by its own handle.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from channeld.adapters.keystore import new_seed, write_private
from channeld.adapters.signer import KeyPair, KeyType, derive
from channeld.core.errors import Unreachable

POLICY: Final = """\
[policy]
schema = 1
[guards]
treasury_floor       = "10 XRP"
max_opens_per_ledger = 200
ledger_lag           = "20s"
fee_cap              = "0.005 XRP"
demand_half_life     = "1m"
[pools.standard]
wallet       = "hot"
settle_delay = "1h"
life_margin  = "1m"
channel = { min = "2 XRP", max = "100 XRP", max_per_payee = 2 }
runway  = { low = "10s", target = "60s" }
fund    = { low = "1 XRP", target = "2 XRP" }
settle  = { worth = "5 XRP", max_age = "10m" }
close   = { idle = "1h", min_age = "1h" }
"""


PATIENCE_S: Final = 120.0
"""How long to wait for what must come: generous, for other work may share the machine. It is over when it came."""

_PAGE_S: Final = 30.0
"""How long a page may take: a daemon whose store stands still answers none."""


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now.

    Chosen at random below those that the kernel gives to outgoing connections, so that none of these takes it before
    the server does, and processes that choose at the same time hardly meet.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)  # not `random`: tests may seed it alike
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Process:
    """A `channeld` command as a process, its output in a file. Starting it again keeps its arguments.

    It is in a process group of its own: a Ctrl-C at the terminal is for whoever started it, who then ends it in order.
    """

    def __init__(self, directory: Path, name: str, *arguments: str) -> None:
        self.log = directory / f"{name}.log"
        self._arguments = [sys.executable, "-m", "channeld", *arguments]
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process; it must have been started."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it in the background."""
        root = str(Path(__file__).parents[2])
        paths = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
        # a stage has a configuration of its own: what stands in this environment for another daemon must not reach it
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CHANNELD_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own command)
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                process_group=0,
                env={**inherited, "PYTHONPATH": paths},
            )

    async def stop(self, how: int = signal.SIGTERM, timeout_s: float = PATIENCE_S) -> int:
        """Send a signal and wait for the end; its exit status."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            return await asyncio.to_thread(self._process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return await asyncio.to_thread(self._process.wait)

    def kill(self) -> None:
        """SIGKILL, and do not wait for more than the kernel."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def listening(self, port: int, timeout_s: float = PATIENCE_S) -> None:
        """Return once it accepts connections on a port; raises `Unreachable` with its output if it does not."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while loop.time() < deadline and self.running:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.03)
                continue
            writer.close()
            return
        raise Unreachable(f"{self.log.stem} does not listen on {port}: {self.tail()}")

    def tail(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""


@dataclass(slots=True)
class Server:
    """A content server on the stage: what it is called and whom it may charge for.

    One that `receives` may hand in claims for the stage's till.
    """

    name: str
    payees: list[str]
    pool: str = "standard"
    caps: str = ""
    receives: bool = False


@dataclass(slots=True)
class Stage:
    """A daemon's directory: keys of a paying wallet and of a till that only receives, if a server hands in for one; its
    config and policy; and the daemon as a process.

    `ledgers` are the nodes' WebSocket addresses, `mqtt_port` a broker on loopback. `caps` of a server are TOML lines
    added as they are. `tls` asks for TLS, and names the files `ca_file`, `cert_file`, `key_file`.
    """

    directory: Path
    ledgers: list[str]
    mqtt_port: int
    servers: list[Server]
    key_type: KeyType = "ed25519"
    policy: str = POLICY
    network_id: int = 0
    quorum: int = 1
    name: str = "channeld-1"
    credentials: tuple[str, str] | None = None
    tls: Mapping[str, Path] | None = None
    http_port: int = field(default_factory=free_port)
    daemon: Process = field(init=False)
    wallet: KeyPair = field(init=False)
    claim_key: KeyPair = field(init=False)
    till: KeyPair | None = field(init=False)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "secrets").mkdir(exist_ok=True)
        self.wallet, self.claim_key = self._key("hot"), self._key("claims")
        self.till = self._key("till") if any(server.receives for server in self.servers) else None
        self.daemon = Process(self.directory, "daemon", "run", "--config", str(self.directory / "channeld.toml"))
        self.write()

    def _key(self, name: str) -> KeyPair:
        seed = new_seed(self.key_type)
        write_private(self.directory / "secrets" / f"{name}.seed", seed.reveal() + "\n", name)
        return derive(seed.reveal(), self.key_type)

    @property
    def store(self) -> Path:
        """The daemon's store."""
        return self.directory / "data" / "channeld.db"

    def write(self) -> None:
        """Write the config files as the fields say now."""
        (self.directory / "policy.toml").write_text(self.policy)
        token = self.directory / "secrets" / "admin"
        token.write_text("the token of a stage\n")
        token.chmod(0o600)
        login = ""
        if self.credentials is not None:
            password = self.directory / "secrets" / "mqtt"
            password.write_text(self.credentials[1])
            password.chmod(0o600)
            login = f'username = "{self.credentials[0]}"\npassword_file = "secrets/mqtt"\n'
        scheme = "mqtt" if self.tls is None else "mqtts"
        login += "".join(f'{key} = "{path}"\n' for key, path in (self.tls or {}).items())
        servers = self._till() + "".join(
            f'[servers.{s.name}]\npayees = {json.dumps(s.payees)}\npool = "{s.pool}"\n{s.caps}\n{self._receives(s)}'
            for s in self.servers
        )
        (self.directory / "channeld.toml").write_text(
            f'policy = "policy.toml"\n[daemon]\nname = "{self.name}"\n'
            f"[ledger]\nendpoints = {json.dumps(self.ledgers)}\nnetwork_id = {self.network_id}\n"
            f"quorum = {self.quorum}\n"
            f'[mqtt]\nurl = "{scheme}://127.0.0.1:{self.mqtt_port}"\n{login}'
            f'[http]\nlisten = "127.0.0.1:{self.http_port}"\nadmin_token_file = "secrets/admin"\n'
            f'[wallets.hot]\nrole = "pay"\naddress = "{self.wallet.address}"\nkey_type = "{self.key_type}"\n'
            f'seed_file = "secrets/hot.seed"\nclaim_key_type = "{self.key_type}"\n'
            f'claim_seed_file = "secrets/claims.seed"\n{servers}'
        )

    def _till(self) -> str:
        if self.till is None:
            return ""
        return (
            f'[wallets.till]\nrole = "receive"\naddress = "{self.till.address}"\nkey_type = "{self.key_type}"\n'
            'seed_file = "secrets/till.seed"\n'
        )

    def _receives(self, server: Server) -> str:
        return f'receive_accounts = ["{self.till.address}"]\n' if self.till is not None and server.receives else ""

    async def start(self, *, ready: bool = True, timeout_s: float = PATIENCE_S) -> None:
        """Start the daemon, and by default wait until it says that it can issue claims."""
        self.daemon.start()
        if ready:
            await self.ready(timeout_s)

    async def ready(self, timeout_s: float = PATIENCE_S) -> None:
        """Return once `/readyz` says so; raises `Unreachable` with the reasons if it does not, or if it ended."""
        loop = asyncio.get_running_loop()
        deadline, said = loop.time() + timeout_s, "nothing"
        while loop.time() < deadline and self.daemon.running:
            code, said = await asyncio.to_thread(self.get, "/readyz")
            if code == 200:
                return
            await asyncio.sleep(0.05)
        raise Unreachable(f"the daemon is not ready: {said}; {self.daemon.tail()}")

    def get(self, path: str) -> tuple[int, str]:
        """Read a page of the daemon's HTTP listener: status and text; status 0 if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=_PAGE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, "no answer"

    async def status(self) -> dict[str, Any]:
        """What `/api/v1/status` says."""
        answer: dict[str, Any] = json.loads((await asyncio.to_thread(self.get, "/api/v1/status"))[1])
        return answer
