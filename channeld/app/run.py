"""`channeld run`: one life of the daemon after the other, until a signal says stop."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import structlog
import uvloop

from channeld.adapters.http import HttpServer
from channeld.app import keyring
from channeld.app.daemon import Daemon
from channeld.app.life import live
from channeld.app.pause import paused, rest
from channeld.app.reload import Files
from channeld.app.screen import start_screen
from channeld.core.errors import ConfigError, StoreError, Unreachable, system_reason
from channeld.core.policy import Policy
from channeld.settings import Settings, locator

log = structlog.get_logger()

_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_SCREEN_WAIT_S = 3.0


def run(settings: Settings, policy: Policy) -> int:
    """Run in the foreground; the exit status: 0 after a signal. Raises `ConfigError` for what cannot be run at all."""
    _configure_log()
    keys = keyring.load(settings)
    for shared in keys.shared:
        log.warning("keys_shared", reason=shared)
    with alone(settings):
        uvloop.run(_live(settings, policy, keys))
    return 0


async def _live(settings: Settings, policy: Policy, keys: keyring.Keyring) -> None:
    await _Lives(settings, policy, keys).run()


class _Lives:
    """One life after the other, each from what is on disk and from the newest files that were taken over."""

    def __init__(self, settings: Settings, policy: Policy, keys: keyring.Keyring) -> None:
        self._files, self._keys = Files(settings, policy, os.environ), keys
        self._stop = asyncio.Event()
        self._http = HttpServer(paused("daemon: it begins", policy.hash))

    async def run(self) -> None:
        """Until a signal says stop. Raises `ConfigError` for what no further life could mend."""
        loop, listen = asyncio.get_running_loop(), self._files.settings.http
        try:
            await self._http.start(listen.host, listen.port)
        except Unreachable as error:
            raise ConfigError([str(error)]) from error
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._files.ask)
        watching = asyncio.create_task(self._files.watch())
        try:
            await self._one_after_the_other()
        finally:
            watching.cancel()
            await self._http.stop()
        log.info("stopped")

    async def _one_after_the_other(self) -> None:
        loop, pause = asyncio.get_running_loop(), _PAUSE_S
        while not self._stop.is_set():
            started = loop.time()
            why = await self._live()
            pause = _PAUSE_S if loop.time() - started > _LONGEST_PAUSE_S else min(_LONGEST_PAUSE_S, pause * 2)
            await rest(self._http, self._stop, why, pause, self._files.policy.hash)

    async def _live(self) -> str:
        """All of one life; why it ended."""
        try:
            daemon = self._files.running = Daemon(self._files, self._keys)
            screen = asyncio.create_task(_show(daemon, self._http.port))
            try:
                await live(daemon, self._http, self._stop)
            finally:
                screen.cancel()
        except StoreError as error:
            log.error("store_failed", reason=str(error))  # noqa: TRY400 (no defect: no traceback)
            return f"store: {error}"
        except ConfigError:
            raise
        except Exception:
            log.exception("defect")
            return "daemon: a defect ended it, see the log"
        finally:
            self._files.running = None
        return "daemon: it came to its end"


async def _show(daemon: Daemon, port: int) -> None:
    """Say on one screen what we are connected to, once we are, or after a moment what is missing."""
    deadline = asyncio.get_running_loop().time() + _SCREEN_WAIT_S
    while asyncio.get_running_loop().time() < deadline:
        if daemon.follower.endpoint and daemon.broker.connected:
            break
        await asyncio.sleep(0.05)
    print(start_screen(daemon, port), file=sys.stderr, flush=True)


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold both locks: one daemon per data directory and per store. Raises `ConfigError` if another holds one."""
    store = settings.store.path
    with ExitStack() as stack:
        for key, path in (
            (("daemon", "data_dir"), settings.daemon.data_dir / "lock"),
            (("store", "url"), store.with_name(store.name + ".lock")),
        ):
            try:
                stack.enter_context(_locked(path))
            except BlockingIOError:
                raise ConfigError(
                    [f"{path}: another channeld uses it (stop that one, or give this one its own)"]
                ) from None
            except OSError as error:
                problems = locator(settings.path, os.environ)
                problems.add(
                    key, f"{path.parent}: {system_reason(error)}", "a folder that the daemon's user can write to"
                )
                raise ConfigError(problems.found) from None
        yield


def _locked(path: Path) -> TextIO:
    """An open lock file that is ours as long as it is open."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _configure_log() -> None:
    """Structured lines on stderr: for a person on a terminal, JSON otherwise."""
    human = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
