"""Another daemon that says it is online with a wallet of ours is told of, until it says that it is gone."""

from __future__ import annotations

from channeld.service.neighbours import Neighbours, Presence

THEIRS = Presence(online=True, instance="i1", wallets=frozenset({"rMine", "rOther"}))


def test_who_shares_a_wallet_is_named_until_it_is_gone() -> None:
    found = Neighbours(["rMine", "rSecond"])
    found.heard("two", THEIRS)
    assert [("two (instance i1)" in w, "with rMine:" in w) for w in found.warnings()] == [(True, True)]
    found.heard("two", Presence(online=False, instance="i1", wallets=THEIRS.wallets))
    assert found.warnings() == []
    found.heard("two", THEIRS)
    found.heard("two", None)
    assert found.warnings() == []


def test_a_daemon_with_wallets_of_its_own_is_nobodys_business() -> None:
    found = Neighbours(["rSecond"])
    found.heard("two", THEIRS)
    assert found.warnings() == []


def test_invented_daemons_take_no_more_than_their_room() -> None:
    found = Neighbours(["rMine"])
    for n in range(1000):
        found.heard(f"d{n}", THEIRS)
    assert len(found.warnings()) == 100
    found.heard("d5", Presence(online=True, instance="i2", wallets=THEIRS.wallets))
    assert any("d5 (instance i2)" in w for w in found.warnings())
