"""Why, from the files alone: channels that pay and that pay us, requests, what a kill lost, and what is ambiguous."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lab import TILL, Lab

from channeld.app import read_store
from channeld.app.annals import Annals
from channeld.app.explain import explain
from channeld.cli.chain import lines
from channeld.cli.moments import read_moment
from channeld.core import reasons
from channeld.core.errors import BadValue, Refused, StoreError, Unreachable
from channeld.core.history import RefusedAsk
from channeld.core.policy import EarlyEnds
from channeld.core.requests import Code, Granted, Refusal, Taken
from channeld.core.rules import Rule, Within
from channeld.core.units import Seconds
from channeld.core.vocabulary import Concern
from channeld.core.world import Reason
from channeld.wire.requests import request_key


class Watched:
    """A lab whose daemon keeps a history, written when the test says so."""

    def __init__(self, directory: Path, servers: tuple[str, ...] = ("a",)) -> None:
        self.lab = Lab(directory / "channeld.db", receives=True)
        store = SimpleNamespace(path=directory / "channeld.db", history_age_s=10**9, history_entries=10**6)
        entry = SimpleNamespace(payees=[])
        self.settings: Any = SimpleNamespace(
            daemon=SimpleNamespace(name="d"),
            store=store,
            ledger=SimpleNamespace(network_id=0),
            servers=dict.fromkeys(servers, entry),
        )
        self.annals: Annals | None = None
        self.attach()

    def attach(self) -> None:
        """Listen to the daemon as it is now; what waited of an earlier one is lost, as by SIGKILL."""
        if self.annals is not None and self.annals._history is not None:
            self.annals._history.close()
        lab = self.lab
        self.annals = Annals(self.settings.store, 0, lab.mirror, lambda: 1_700_000_000 + lab.clock)
        lab.planner.on_decided, lab.collector.on_decided = self.annals.decided, self.annals.collected
        lab.desk.on_rejected = self.annals.refused

    def write(self) -> None:
        assert self.annals is not None
        assert self.annals._history is not None
        news = self.annals.chronicle.next(10**6)
        self.annals._history.write(news)
        self.annals.chronicle.written(len(news))

    def explain(self, what: str, at: float | None = None) -> dict[str, Any]:
        """What is said, and that a person can be told all of it."""
        answer = explain(self.settings, what, at)
        text = "\n".join(lines(answer))
        for link in answer.get("chain", []):
            assert link["why"] in text
        return answer


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_channel_that_pays_us_is_explained_as_well(watched: Watched) -> None:
    """What was held and not worth it yet, then that it was collected, with the transaction and what it paid."""
    lab = watched.lab
    lab.rig.fund("alice")
    lab.alive(lab.see)
    channel_id = lab.rig.open_channel("alice", TILL, Amount="1000", SettleDelay=100)
    lab.alive(lab.see)
    assert lab.hand_in("1", channel_id, 5, "alice") == Taken(5, 5, replayed=False)
    lab.tick()
    assert lab.hand_in("2", channel_id, 30, "alice") == Taken(25, 30, replayed=False)
    lab.tick(3)
    watched.write()
    answer = watched.explain(channel_id[:12])
    assert (answer["direction"], answer["balance"], answer["held"]) == ("in", "30", "30")
    said = [(link["answer"], link["action"] or link["reason"]) for link in answer["chain"]]
    assert said == [
        ("left_alone", "nothing_held"),
        ("left_alone", "within_band"),
        ("done", "redeem"),
        ("left_alone", "nothing_held"),
    ]
    redeem = answer["chain"][2]
    assert (redeem["inputs"]["collectable"], redeem["terms"]["redeem.worth"]) == (30, 25)
    assert redeem["transactions"][0]["paid"] == "30"
    assert redeem["outcome"].startswith("done in ledger")
    request = watched.explain("a/2")
    assert (request["answer"], request["topic"], request["drops"]) == ("accepted", "receive", "25")
    assert request["channel_id"] == channel_id
    assert (request["channel_state"], request["paid"], request["next"]) == ("open", "30", "paid")
    lab.ask("2", 10)
    lab.tick(2)
    lab.ask("2", 10)
    both = watched.explain("a/2")
    assert both["drops"] == "10"
    assert both["received"].items() <= request.items()
    assert "a claim for 30 drops in all, paid" in "\n".join(lines(both))


def test_what_a_kill_lost_is_told_from_the_journal(watched: Watched) -> None:
    """The link is there with transaction and outcome, and says that its inputs are not on record; later ones have."""
    lab = watched.lab
    lab.ask("1", 10)
    lab.tick(3)
    assert isinstance(lab.ask("1", 10), Granted)
    lab.restart()
    watched.attach()
    lab.ask("2", 8)
    lab.tick(2)
    watched.write()
    (channel_id,) = lab.channels()
    answer = watched.explain(channel_id)
    opened, *later = answer["chain"]
    assert (opened["action"], opened["inputs"], opened["at_unix"]) == ("open", None, None)
    assert opened["transactions"][0]["result"] == "tesSUCCESS"
    assert later
    assert all(link["inputs"] for link in later)
    assert "not on record" in "\n".join(lines(answer))


def test_a_refused_request_is_told_with_its_code_and_what_followed(watched: Watched) -> None:
    """Its last refusal, those before, the demand it adds; and the opening that came of it."""
    lab = watched.lab
    payee = str(lab.payee("bob"))
    lab.signs(False)
    lab.ask("r 1", 10)
    lab.tick()
    lab.ask("r 1", 10)
    watched.write()
    answer = watched.explain("a/r 1")
    assert (answer["answer"], answer["code"], answer["payee"]) == ("rejected", Code.NO_HEADROOM.value, payee)
    assert len(answer["refused_before"]) == 1
    assert answer["demand"]["drops"] == "10"
    assert [link["action"] for link in answer["then"]][:1] == ["open"]
    assert "planned" in answer["then"][0]["outcome"]


def test_a_payee_that_keeps_closing_its_channels_is_shown_to_wait(watched: Watched) -> None:
    """On a ledger that does what rippled does: the payee's close deletes the channel at once."""
    lab = watched.lab
    early = EarlyEnds(0, Seconds(10_000), Seconds(600), Seconds(5000))
    lab.policy = lab.mirror.policy = replace(lab.policy, guards=replace(lab.policy.guards, early_ends=early))
    waits = []
    for n in range(2):
        lab.ask(f"{n}", 5)
        lab.tick(3)
        assert isinstance(lab.ask(f"{n}", 5), Granted)
        (channel_id,) = lab.channels()
        lab.rig.submit("bob", "PaymentChannelClaim", Channel=channel_id, Flags=0x00020000)
        lab.tick()
        assert not lab.channels()
        refused = lab.ask(f"again{n}", 5)
        assert isinstance(refused, Refusal)
        waits.append(refused.retry_after_ms)
        if not n:
            lab.alive(lab.restart)
            watched.attach()
            lab.close(600)
            lab.alive(lab.see)
    assert waits == [600_000, 1_200_000]
    watched.write()
    last = watched.explain(str(lab.payee("bob")))["chain"][-1]
    assert (last["reason"], last["inputs"]["early_ends"]) == ("early_ends", 2)
    assert last["until_unix"] is not None
    assert watched.annals is not None
    assert list(watched.annals.chronicle.standing["early_ends"]) == [f"p/{lab.payee('bob')}"]


def test_a_request_that_a_rule_refused_names_the_rule_its_facts_and_the_policy(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    lab = watched.lab
    rules = (
        Rule("patient", {}, {"retry_after": 5}),
        Rule("too-much", {"drops": Within(low=9), "spent_hour": Within(low=9)}, {}, "refuse"),
    )
    lab.policy = lab.mirror.policy = replace(lab.policy, rules={Concern.ADMIT: rules})
    lab.ask("big", 10)
    watched.write()
    answer = watched.explain("a/big")
    assert (answer["answer"], answer["code"], answer["act"]) == ("rejected", "limit_exceeded", "refuse")
    assert answer["rules"] == ["admit/patient", "admit/too-much"]
    assert answer["inputs"] == {"drops": 10, "server": "a", "pool": "p", "spent_hour": 10}
    assert answer["policy_hash"] == lab.policy.hash
    text = "\n".join(lines(answer))
    assert "by      refuse, admit/patient admit/too-much, policy FFFFFFFFFFFF" in text
    assert "drops 0.00001 XRP" in text


def test_what_is_ambiguous_or_unknown_says_so(tmp_path: Path) -> None:
    """Names all that could be meant; a request is also found by its id alone where one server has it."""
    watched = Watched(tmp_path, ("a", "b"))
    lab = watched.lab
    lab.ask("one", 10)
    watched.write()
    assert watched.explain("one")["server"] == "a"
    assert watched.annals is not None
    assert watched.annals._history is not None
    both = RefusedAsk(1_700_000_000, request_key("b", "claim", "one"), "b", "", 5, Code.BUSY, "later")
    watched.annals._history.write([both])
    with pytest.raises(BadValue, match="a/one, b/one"):
        watched.explain("one")
    assert watched.explain("b/one")["code"] == "busy"
    with pytest.raises(Refused, match="nothing is known"):
        watched.explain("0" * 8)
    with pytest.raises(Unreachable, match="no store"):
        explain(SimpleNamespace(store=SimpleNamespace(path=tmp_path / "none.db")), "x")  # type: ignore[arg-type]
    lab.tick(2)
    lab.ask("two", 10, "carol")
    lab.tick(3)
    first, second = sorted(lab.channels())
    prefix = next(first[:n] for n in range(64, -1, -1) if first[:n] == second[:n])
    if len(prefix) >= 4:
        with pytest.raises(BadValue, match="more digits"):
            watched.explain(prefix)
    assert watched.explain(second[: len(prefix) + 4])["channel_id"] == second


def test_a_moment_hides_what_came_later(watched: Watched) -> None:
    """As of a close time: the chain ends there, whatever happened since."""
    lab = watched.lab
    lab.ask("1", 10)
    lab.tick(3)
    lab.ask("1", 10)
    lab.ask("2", 8)
    lab.tick(20)
    watched.write()
    (channel_id,) = {c for (c,) in lab.on_disk("SELECT channel_id FROM channel")}
    whole = watched.explain(channel_id)["chain"]
    assert len(whole) > 3
    for cut in range(1, len(whole)):
        if whole[cut]["at_unix"] > whole[cut - 1]["at_unix"]:
            until = watched.explain(channel_id, whole[cut]["at_unix"] - 1)
            assert until["chain"] == whole[:cut]


def test_a_defect_of_the_history_costs_nobody_else_anything(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deciding goes on, what cannot be written is passed over, the next is; what a file refused is tried again."""
    lab, annals = watched.lab, watched.annals
    assert annals is not None
    monkeypatch.setattr("channeld.service.chronicle.subject_of", lambda action: 1 / 0)
    lab.ask("1", 10)
    lab.tick(3)
    assert isinstance(lab.ask("1", 10), Granted)
    assert annals.chronicle.passed_over == 1
    before = annals.chronicle.waiting
    assert before > 0
    monkeypatch.setattr("channeld.adapters.sqlite.history._moment_row", lambda number, moment: 1 / 0)
    history = annals._history
    assert history is not None
    lab._run(annals._write(history))
    assert annals.chronicle.waiting == 0
    assert annals.chronicle.passed_over == 2
    monkeypatch.undo()
    lab.tick(12)
    history._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreError, match="readonly"):
        lab._run(annals._write(history))
    left = annals.chronicle.waiting
    assert left > 0
    history._db.execute("PRAGMA query_only = 0")
    lab._run(annals._write(history))
    assert annals.chronicle.waiting < left


def test_every_reason_has_a_sentence() -> None:
    """Nobody is told a bare word, and no sentence is there for a reason that is never given."""
    assert {reason.value for reason in Reason} == reasons.LEFT_ALONE.keys()


def reasons_table() -> str:
    """The README's tables of reasons, made from their sentences."""
    rows = ["| left alone | for |", "|---|---|"]
    rows += [f"| `{reason.value}` | {reasons.why(reason.value, done=False)} |" for reason in Reason]
    rows += ["", "| done | for |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{reason}` | {why} |" for reason, why in reasons.DONE.items())])


def test_the_readme_has_the_reasons() -> None:
    """What stands between the two marks is what `reasons_table` makes."""
    text = (Path(__file__).parent.parent / "README.md").read_text()
    assert text.partition("<!-- reasons -->\n")[2].partition("\n<!-- /reasons -->")[0] == reasons_table()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1700000000", 1_700_000_000),
        ("10m", 999_400),
        ("2026-11-21T00:00:00Z", 1_795_219_200),
        ("2026-11-21", 1_795_219_200),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, moment: int) -> None:
    """Unix seconds, so long ago, or ISO 8601, which without a zone is UTC."""
    assert read_moment(text, 1_000_000) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "1e9", "10 parsecs", "99999999999999"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    """With the forms that are."""
    with pytest.raises(BadValue, match="Unix seconds"):
        read_moment(text, 1_000_000)


def test_a_channel_that_was_archived_is_found_as_ever(watched: Watched) -> None:
    """By its id, by the beginning of it and by its payee: what there was, and what the history still has."""
    lab = watched.lab
    for _ in range(5):
        lab.ask("1", 10)
        lab.tick()
    lab.tick(70)
    watched.write()
    (channel_id,) = {c for (c,) in lab.on_disk("SELECT channel_id FROM channel")}
    before, payee = watched.explain(channel_id), str(lab.payee("bob"))
    lab.tidy()
    after = watched.explain(channel_id[:8])
    same = ("channel_id", "state", "amount", "balance", "authorized", "payee", "pool", "server", "destination_account")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert (after["state"], after["authorized"]) == ("closed", "10")
    assert after["chain"], "the history has it for as long as it goes back"
    assert [link["why"] for link in after["chain"]] == [link["why"] for link in before["chain"]][-len(after["chain"]) :]
    ours = [record for record in lab.history() if record.tx.account == before["source_account"]]
    kept = after["archived"]
    assert kept["opened_by"] == ours[0].tx.hash
    assert kept["closed_by"] == ours[-1].tx.hash
    assert (kept["transactions"], kept["fees"]) == (len(ours), str(sum(record.tx.fee for record in ours)))
    assert (kept["payments"], kept["paid"]) == (1, "10")
    assert "archived" in "\n".join(lines(after))
    assert [c["channel_id"] for c in watched.explain(payee)["channels"]] == [channel_id]
    totals = read_store(watched.settings, "status")
    assert (totals["channels_ever"], totals["channels_archived"], totals["drops_paid"], totals["payments"]) == (
        1,
        1,
        "10",
        1,
    )
