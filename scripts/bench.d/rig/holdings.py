"""Stores on disk with so many channels of ours, for what is measured in this process, without broker or node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine import Engine, Ledger, policy
from worlds import KEY, PAYEES, SOURCE

from channeld.core.channel import Channel
from channeld.core.policy import CloseTerms, Policy
from channeld.core.units import ChannelId, Drops, LedgerIndex, Payee, Seconds
from channeld.service.holdings import Grant


def filled(channels: int, amount: int = 50) -> Ledger:
    """A ledger with so many channels of ours of so many drops, each for a payee of its own."""
    ledger = Ledger(balance=10**15)
    for number in range(channels):
        payee = Payee(PAYEES[0].account, number)
        channel = Channel(
            ChannelId(f"{number + 10**6:064X}"), SOURCE, payee.account, payee.tag, KEY, Drops(amount), Drops(0),
            Seconds(10), None, None, LedgerIndex(ledger.index),
        )  # fmt: skip
        ledger.channels[channel.channel_id] = channel
    return ledger


def calm() -> Policy:
    """Terms under which nothing falls due: what is measured is the ledger, not work that it brings."""
    terms = policy()
    idle = replace(terms.pools["p"], close=CloseTerms(Seconds(10**9), Seconds(0)))
    return replace(terms, pools={"p": idle})


def stored(directory: Path, ledger: Ledger, terms: Policy) -> Engine:
    """A store on disk that has a ledger's channels, one content server that charges for all their payees, and nobody
    at work on it: `build` and `connect` start.
    """
    engine = Engine(directory / "store.db", ledger=ledger, terms=terms)
    engine.connect()
    with engine.store._db as db:  # ours, and not strangers' that are only looked at
        db.execute("UPDATE channel SET pool = 'p', server = 'a', issuing = 1")
        db.execute("DELETE FROM freeze")
    engine.kill()
    everyone = {channel.payee: "p" for channel in ledger.channels.values()}
    engine.grants = {"a": Grant(everyone, 10**17, 10**17, 10**6)}
    return engine
