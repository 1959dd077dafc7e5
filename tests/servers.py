"""Real servers for tests: a Mosquitto of one's own on a free loopback port, in its own directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import IO

from certs import Authority

from channeld.sandbox.stage import PATIENCE_S, free_port

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"

CONFIG = Path(__file__).parents[1] / "config"
AS_ROOT = "user root" if os.geteuid() == 0 else ""  # else it gives up its rights, and with them the temporary files

BASE = """\
{listener}
set_tcp_nodelay true
max_inflight_messages {max_inflight}
max_queued_messages 0
max_queued_bytes 67108864
{access}
{extra}
"""


class Mosquitto:
    """One broker process. `restart` and `kill` keep the port; only this object's own process is ever ended.

    `passwords` and `acl` are the text of Mosquitto's own files, passwords in plain `user:password` lines (hashed here).
    """

    def __init__(
        self,
        directory: Path,
        *,
        passwords: str | None = None,
        acl: str | None = None,
        max_inflight: int = 0,
        extra: str = "",
        config: str | None = None,
        listener: str | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.directory = directory
        self._config = directory / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None
        access = self._write_access(passwords, acl)
        text = config or BASE.format(
            listener=listener or f"listener {self.port} 127.0.0.1",
            max_inflight=max_inflight,
            access=access,
            extra=extra,
        )
        self._config.write_text(f"{text}\n{AS_ROOT}\n")

    def _write_access(self, passwords: str | None, acl: str | None) -> str:
        lines = []
        if passwords is None:
            lines.append("allow_anonymous true")
        else:
            path = write_passwords(self.directory / "passwords", passwords)
            lines += ["allow_anonymous false", f"password_file {path}"]
        if acl is not None:
            (self.directory / "acl").write_text(acl)
            lines.append(f"acl_file {self.directory / 'acl'}")
        return "\n".join(lines)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it and return once it accepts connections."""
        with (self.directory / "mosquitto.log").open("ab") as log:
            self._process = _spawn([MOSQUITTO, "-c", str(self._config)], log, self.directory)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError((self.directory / "mosquitto.log").read_text())
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            return
        raise RuntimeError("mosquitto does not accept connections")

    async def stop(self, *, kill: bool = False) -> None:
        """SIGTERM (or SIGKILL) and wait for the end."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            await asyncio.to_thread(process.wait, PATIENCE_S)

    def signal(self, how: int) -> None:
        """Such as SIGUSR1: save now."""
        os.kill(self.pid, how)

    async def kill(self) -> None:
        await self.stop(kill=True)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def __aenter__(self) -> Mosquitto:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _spawn(arguments: list[str], log: IO[bytes], directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(arguments, stdout=log, stderr=log, cwd=directory)


def write_passwords(path: Path, lines: str) -> Path:
    """Write Mosquitto's password file from `user:password` lines."""
    path.write_text(lines)
    path.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", str(path)], check=True)
    return path


LOGINS = "channeld:d\na:pa\nb:pb\n"


def shipped(directory: Path, authority: Authority | None = None) -> Mosquitto:
    """The shipped configuration with nothing changed but paths and port, and `LOGINS`.

    With an authority as its comments say for mutual TLS.
    """
    port, home = free_port(), directory / "mosquitto"
    home.mkdir()
    shutil.copy(CONFIG / "mosquitto.acl", home / "channeld.acl")
    write_passwords(home / "channeld.passwords", LOGINS)
    text = (CONFIG / "mosquitto.conf").read_text()
    text = text.replace("/etc/mosquitto/", f"{home}/").replace("/var/lib/mosquitto/", f"{home}/")
    if authority is None:
        return Mosquitto(home, config=text.replace("listener 1883", f"listener {port}"), port=port)
    certify(home, authority.issue("broker"))
    shutil.copy(authority.ca, home / "ca.crt")
    text = text.replace("listener 1883 127.0.0.1\n", "").replace("#listener 8883", f"listener {port} 127.0.0.1")
    for line in ("cafile", "certfile", "keyfile", "require_certificate", "use_identity_as_username"):
        assert f"\n#{line}" in text
        text = text.replace(f"\n#{line}", f"\n{line}")
    return Mosquitto(home, config=text, port=port)


def certify(home: Path, pair: tuple[Path, Path]) -> None:
    """Give the broker in `home` a certificate and its key; it takes them when it starts."""
    for source, name in zip(pair, ("server.crt", "server.key"), strict=True):
        shutil.copy(source, home / name)
