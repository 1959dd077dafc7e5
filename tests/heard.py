"""Judges what `tap` overheard of every daemon, by the AsyncAPI document."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import contract
import msgspec

HERE = Path(__file__).parent / "tap"
sys.path.insert(0, str(HERE))

import tap  # noqa: E402

ENCODERS = {
    "daemons.marker_payload": "marker",
    "daemons.status_payload": "status",
    "daemons.witness_payload": "witness",
    "events.channel_payload": "channel",
    "events.event_payload": "event",
    "query.channels": "channelsPage",
    "query.decided": "requestDecided",
    "query.handed_in": "handInDecided",
    "query.refused": "rejected",
    "query.totals": "totalsPage",
    "query.unknown": "requestUnknown",
    "receive.taken_in": "receiveAccepted",
    "replies.replies": "batchReply",
    "replies.reply": "",
    "requests.hashed": None,
    "requests.request_key": None,
    "unread.refuse_unread": "",
}
"""Which message each function of `channeld.wire` encodes: "" for a reply of any kind, None for what is no message."""
TAKEN = {"claim": "claimRequest", "read_hand_in": "receiveRequest", "read_query": "query"}
ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
DAEMON_SAYS = {"reply", "event", "channel", "status", "witness"}


class Heard:
    """What was overheard in this test process and in those that it starts, and is not judged yet."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="channeld-tap-"))
        self.judged = 0
        self._read: dict[Path, int] = {}

    def listen(self) -> None:
        """From now on, here and in every Python that is started from here."""
        tap.install(self.directory, daemon=False)
        os.environ[tap.DIRECTORY] = str(self.directory)
        paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)

    def close(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def judge(self) -> None:
        """Fail if anything overheard since the last time is not of the contract."""
        breaches: list[str] = []
        for file in self.directory.glob("*.tap"):
            over = not Path(f"/proc/{file.stem}").exists()
            with file.open("rb") as opened:
                start = opened.seek(self._read.get(file, 0))
                data = opened.read()
            for what, where, payload, end in tap.records(data):
                self._read[file] = start + end
                self.judged += 1
                try:
                    judge(what, where, payload)
                except (AssertionError, ValueError) as error:
                    breaches.append(f"{what} {where}: {error}: {payload[:500]!r}")
            if over:
                file.unlink()
        assert not breaches, f"{len(breaches)} messages are not of the contract, the first: {breaches[0]}"


@lru_cache(maxsize=10_000)
def judge(what: str, where: str, payload: bytes) -> None:
    """Fail unless it is a message that the document has, said or taken where the document has it."""
    if what == "said":
        assert contract.channel_of(where) in DAEMON_SAYS, f"a daemon says nothing on {where}"
        contract.check(where, payload)
    elif what == "encoded":
        name = where.removeprefix("channeld.wire.")
        assert name in ENCODERS, f"{where}: ENCODERS does not say which message this is"
        kind = ENCODERS[name]
        if kind is not None:
            said = json.loads(payload) if payload else None
            contract.check_message(kind or contract.reply_kind(said), said)
    elif where.startswith("claims "):
        items = ITEMS.decode(payload)  # one by one: another item may be anything, even no UTF-8
        for item, mark in zip(items, where.removeprefix("claims "), strict=True):
            if mark == "+":
                contract.check_message("claimRequest", json.loads(bytes(item)))
        assert "-" in where or len(items) <= contract.document()["components"]["schemas"]["ClaimBatch"]["maxItems"]
    else:
        contract.check_message(TAKEN[where], json.loads(payload))
