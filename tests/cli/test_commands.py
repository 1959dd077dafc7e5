"""The command line: exit statuses, JSON for programs, keys that stay secret, and a quick start."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from configs import ED_SEED, GENESIS, SECP_SEED, changed, write_config

from channeld.sandbox.stage import PATIENCE_S

Run = Callable[..., tuple[int, str, str]]
SHIPPED = Path(__file__).parent.parent.parent / "config"


def test_help_is_quick_and_names_every_command() -> None:
    """No command's libraries are imported for it."""
    code = "import sys, channeld.cli; print([m for m in ('pydantic', 'xrpl', 'aiohttp', 'mqtt5') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    done = subprocess.run([sys.executable, "-m", "channeld", "--help"], capture_output=True, text=True, check=True)
    for command in ("demo", "run", "sandbox", "policy", "status", "channels", "keys"):
        assert f"  {command} " in done.stdout


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["policy", "check"], ["run", "--port", "1"], ["demo", "--servers", "0"]]
)
def test_bad_usage_is_exit_2(run: Run, arguments: list[str]) -> None:
    """As is a bad option value."""
    assert run(*arguments)[0] == 2


def test_policy_check(run: Run, tmp_path: Path) -> None:
    """0 and the hash, or 2 and every problem on stderr."""
    status, out, _ = run("policy", "check", str(SHIPPED / "policy.toml"))
    assert status == 0
    assert json.loads(out)["pools"] == ["standard"]
    (tmp_path / "p.toml").write_text("[policy]\nschema = 3\nx = 1\n")
    status, out, err = run("policy", "check", "p.toml")
    assert (status, out) == (2, "")
    assert err.count("channeld: ") == 3
    assert run("policy", "check", "missing.toml")[0] == 2


def test_run_refuses_a_bad_config(run: Run, tmp_path: Path) -> None:
    """Config and policy are checked before anything is touched."""
    assert run("run")[0] == 2
    path = write_config(tmp_path, changed("quorum = 1", "quorum = 7"))
    status, _, err = run("run", "--config", str(path))
    assert status == 2
    assert "ledger.quorum" in err
    write_config(tmp_path)
    (tmp_path / "policy.toml").write_text((SHIPPED / "policy.toml").read_text().replace('"hot"', '"hut"'))
    status, _, err = run("run")
    assert status == 2
    assert "did you mean hot" in err
    unit = (SHIPPED / "channeld.service").read_text().splitlines()
    assert f"RestartPreventExitStatus={status}" in unit, "systemd does not try it again for ever"


def test_status_without_daemon_or_store_is_exit_3(run: Run, tmp_path: Path) -> None:
    """And it needs no secret."""
    write_config(tmp_path, changed("127.0.0.1:9464", "127.0.0.1:1"))
    (tmp_path / "secrets/hot.seed").unlink()
    for command in ("status", "channels"):
        status, out, err = run(command)
        assert (status, out) == (3, "")
        assert "no daemon answers" in err


class _Daemon(BaseHTTPRequestHandler):
    """Answers as the daemon does."""

    def do_GET(self) -> None:
        answers = {"/api/v1/status": {"ready": True}, "/api/v1/channels": {"channels": [{"channel_id": "AB"}]}}
        body = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def daemon() -> Iterator[int]:
    """The port of something that answers as a daemon does."""
    server = HTTPServer(("127.0.0.1", 0), _Daemon)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_status_and_channels_ask_the_daemon(run: Run, tmp_path: Path, daemon: int) -> None:
    """JSON, for stdout is no terminal here."""
    write_config(tmp_path, changed("127.0.0.1:9464", f"127.0.0.1:{daemon}"))
    assert json.loads(run("status")[1]) == {"source": "daemon", "ready": True}
    assert json.loads(run("channels", "--json")[1])["channels"] == [{"channel_id": "AB"}]


@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1"])
def test_keys_are_made_and_shown(run: Run, tmp_path: Path, key_type: str) -> None:
    """A plain and an encrypted key; neither command shows the seed unasked, and the daemon's reader takes both."""
    (tmp_path / "passphrase").write_text("correct horse\n")
    (tmp_path / "passphrase").chmod(0o600)
    for name, options in (("plain", ["--plain"]), ("sealed", ["--passphrase-file", "passphrase"])):
        status, out, err = run("keys", "new", "--out", name, "--key-type", key_type, *options)
        assert (status, err) == (0, "")
        made = json.loads(out)
        assert made["key_type"] == key_type
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert "seed" not in made
        passphrase = options if name == "sealed" else []
        status, out, _ = run("keys", "show", name, "--reveal-seed", "--key-type", key_type, *passphrase)
        assert status == 0
        shown = json.loads(out)
        assert {**made, "seed": shown["seed"]} == {**shown, "file": name}
        assert shown["seed"] in (tmp_path / name).read_text() or name == "sealed"
        again = run("keys", "new", "--out", name, "--key-type", key_type, *options)
        assert again[0] == 2
        assert "exists" in again[2]
    assert "seed" not in json.loads(run("keys", "show", "sealed")[1])


def test_keys_are_imported_from_stdin(run: Run, tmp_path: Path) -> None:
    """The seed of the genesis account gives its address, with the right key type only."""
    status, out, _ = run("keys", "import", "--plain", "--key-type", "secp256k1", "--out", "k", stdin=SECP_SEED + "\n")
    assert status == 0
    assert json.loads(out)["address"] == GENESIS
    assert (tmp_path / "k").read_text() == SECP_SEED + "\n"
    assert json.loads(run("keys", "show", "k", "--key-type", "secp256k1")[1])["address"] == GENESIS
    status, _, err = run("keys", "show", "k")
    assert status == 2
    assert "--key-type" in err


@pytest.mark.parametrize("stdin", ["", "hello", ED_SEED[:-1] + "a", f"{ED_SEED}\n{ED_SEED}"])
def test_bad_seeds_are_not_imported_nor_quoted(run: Run, tmp_path: Path, stdin: str) -> None:
    """And leave no file behind."""
    status, out, err = run("keys", "import", "--plain", "--out", "k", stdin=stdin)
    assert (status, out) == (2, "")
    assert not stdin or stdin not in err
    assert not (tmp_path / "k").exists()


def test_an_sed_seed_is_not_imported_as_secp256k1(run: Run, tmp_path: Path) -> None:
    """Other libraries would make another account of it."""
    status, _, err = run("keys", "import", "--plain", "--key-type", "secp256k1", "--out", "k", stdin=ED_SEED)
    assert status == 2
    assert "ed25519 only" in err
    assert not (tmp_path / "k").exists()


def test_encrypting_needs_a_passphrase(run: Run, tmp_path: Path) -> None:
    """From a private file where nobody can be asked; a plain file takes none."""
    assert "--passphrase-file" in run("keys", "new", "--out", "k")[2]
    (tmp_path / "p").write_text("long enough\n")
    (tmp_path / "p").chmod(0o644)
    assert "chmod 600" in run("keys", "new", "--out", "k", "--passphrase-file", "p")[2]
    assert run("keys", "new", "--out", "k", "--plain", "--passphrase-file", "p")[0] == 2
    assert not (tmp_path / "k").exists()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["ledger", "broker"])
def test_sandbox_servers_start_and_stop(what: str, tmp_path: Path) -> None:
    """They say where they listen, and SIGTERM ends them in order; a taken port is exit 3."""
    from servers import free_port

    port = free_port()
    command = [sys.executable, "-m", "channeld", "sandbox", what, "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stderr is not None
    try:
        assert str(port) in process.stderr.readline()
        second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path, check=False)
        assert second.returncode == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("value", ["fixCleanup3_2_0", "fixCleanup3_2_0=maybe", "=on"])
def test_bad_amendment_switches_are_bad_usage(run: Run, value: str) -> None:
    """NAME=on or NAME=off."""
    assert run("sandbox", "ledger", "--port", "1", "--amendment", value)[0] == 2
