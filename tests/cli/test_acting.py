"""Commands that act on a running daemon, and what a person reads of them."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from configs import GENESIS, PAYEE
from lives import Site
from spoil import spoilt
from worlds import channel

from channeld.adapters.sqlite import SqliteStore
from channeld.app.screen import start_screen
from channeld.core.channel import Channel
from channeld.core.records import Booked, ChannelRecord, LedgerUpdate
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, RippleTime

Run = Callable[..., tuple[int, str, str]]
FIRST, SECOND, OTHER, STRAY = (
    ChannelId(head.ljust(64, "0")) for head in ("AAAAAAAA1", "AAAAAAAA2", "BBBBBBBB", "CCCCCCCC")
)
WEALTH = Drops(10**17)


def made(channel_id: ChannelId) -> Channel:
    ends = {"source_account": Address(GENESIS), "destination_account": Address(PAYEE), "destination_tag": 4294967295}
    return replace(channel(), channel_id=channel_id, amount=WEALTH, **ends)  # type: ignore[arg-type]


@pytest.fixture
def site(run: Run, tmp_path: Path) -> Site:
    """A daemon with three channels of its own, and one in quarantine."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    site, now = Site(tmp_path), RippleTime(50)
    store = SqliteStore(site.files.settings.store.path, network_id=1)
    records = [
        ChannelRecord(0, made(each), 7, each != STRAY, "" if each == STRAY else "standard", "", now, now, None, None)
        for each in (FIRST, SECOND, OTHER, STRAY)
    ]
    store.apply(LedgerUpdate(LedgerIndex(5), now, (), records, (), (), (), booked=Booked()))
    store.close()
    return site


ACTIONS = [
    (("freeze",), "frozen"),
    (("thaw",), "thawed"),
    (("reload",), "result"),
    (("close", OTHER), "closing"),
    (("channels", "adopt", STRAY), "adopted"),
    (("backup", "copy.db"), "store_id"),
]


@pytest.mark.parametrize("asked", [(), ("--json",)])
async def test_what_acts_answers_a_person_with_facts_and_a_program_with_json(
    site: Site, run: Run, terminal: Run, asked: tuple[str, ...]
) -> None:
    """`--json` as everywhere; what is piped is JSON anyway."""

    def judge(call: Run, arguments: tuple[str, ...], key: str) -> None:
        status, out, err = call(*arguments, "--why", "drill", *asked)
        assert (status, err) == (0, ""), arguments
        if asked or call is run:
            assert key in json.loads(out)
        else:
            assert not out.startswith("{"), arguments
            assert key in out

    async with site.life():
        for arguments, key in ACTIONS:
            await asyncio.to_thread(judge, terminal, arguments, key)
        await asyncio.to_thread(judge, run, ("freeze",), "frozen")
    judge(terminal, ("restore", "copy.db"), "set_aside")


async def test_the_beginning_of_an_id_is_enough_where_it_is_one_channels(site: Site, run: Run) -> None:
    """In either case; never guessed: what could be several is refused, with their ids, and so is what is too short."""
    async with site.life() as daemon:
        answers = [
            await asyncio.to_thread(run, "close", *given, "--why", "drill")
            for given in (
                ("AAAAAAAA",),
                (OTHER, "aaaaaaaa"),
                ("BBBBBBB",),
                ("DDDDDDDD",),
                ("0x" + OTHER[:8],),
                (OTHER + "0",),
                (STRAY[:8],),
            )
        ]
        assert [status for status, _, _ in answers] == [2, 2, 2, 1, 2, 2, 1]
        assert FIRST in answers[0][2]
        assert SECOND in answers[0][2]
        assert "8" in answers[2][2]
        assert all(state.record.issuing for state in daemon.mirror.channels.values() if state.record.pool)
        status, out, _ = await asyncio.to_thread(run, "close", "aaaaaaaa2", "BBBBBBBB", OTHER, "--why", "drill")
        assert (status, json.loads(out)) == (0, {"closing": [SECOND, OTHER]})
        status, out, _ = await asyncio.to_thread(run, "channels", "adopt", STRAY[:8].lower(), "--why", "drill")
        assert (status, json.loads(out)["adopted"]) == (0, [STRAY])
    assert ("close " + f"{SECOND}, {OTHER}") in [what for _, what in site.told]


async def test_without_an_admin_token_nothing_is_changed_and_the_remedy_is_told(site: Site, run: Run) -> None:
    """A config that does not allow it: exit 2."""
    text = site.config.read_text()
    site.config.write_text(spoilt(text, 'admin_token_file = "secrets/admin"\n', ""))
    site.files = site.read()
    async with site.life() as daemon:
        for arguments in (("freeze",), ("close", OTHER), ("reload",)):
            status, out, err = await asyncio.to_thread(run, *arguments, "--why", "drill")
            assert (status, out) == (2, "")
            assert "no [http] admin_token_file is configured, so nothing can be changed" in err
            assert "restart" in err
        assert "operator" not in daemon.mirror.frozen


def posted(site: Site, action: str, body: bytes) -> tuple[int, dict[str, str]]:
    """What the daemon answers to a body as it stands."""
    token = site.files.settings.http.admin_token
    assert token is not None
    headers = {"Authorization": f"Bearer {token.get_secret_value().decode()}"}
    request = urllib.request.Request(f"http://127.0.0.1:{site.port}/api/v1/{action}", body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("field", ["who", "why"])
async def test_what_the_audit_cannot_hold_is_refused_before_anything_is_done(
    site: Site, tmp_path: Path, field: str
) -> None:
    """Half of a surrogate pair is JSON, and can be written nowhere: 400, naming the field."""
    bodies = {"freeze": {}, "thaw": {}, "reload": {}, "close": {"channels": [OTHER]}, "adopt": {"channels": [STRAY]}}
    bodies |= {"backup": {"file": str(tmp_path / "copy.db")}}
    async with site.life() as daemon:
        version, told = daemon.store.books.identity().data_version, site.told
        for action, body in bodies.items():
            said = json.dumps({"who": "eva", "why": "drill", **body, field: "\ud800"}).encode()
            status, answer = await asyncio.to_thread(posted, site, action, said)
            assert (status, answer["reason"].split(":")[0]) == (400, field), action
        assert daemon.store.books.identity().data_version == version
        assert "operator" not in daemon.mirror.frozen
        assert daemon.mirror.channels[OTHER].record.issuing
        for name, status in (("copy\0.db", 400), ("copy\udcff.db", 400), ("c" * 256, 503)):
            said = json.dumps({"who": "eva", "why": "drill", "file": str(tmp_path / name)}).encode()
            assert (await asyncio.to_thread(posted, site, "backup", said))[0] == status, name
    assert site.told == told
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"who": "eva", "why": "a", "why": "b"}', "why: stands in the object more than once"),
        (b'{"who": "eva", "why": "a", "wallet": {"b": 1, "b": 2}}', "b: stands in the object more than once"),
        (json.dumps({"who": "eva", "why": "y" * 501}).encode(), "why: too long, 501 characters (500 at most)"),
        (b'{"who": "eva"}', "why: missing (up to 500 characters)"),
        (b'{"who": "eva", "why": 5}', "why: not a text (up to 500 characters)"),
        (b'{"who": "eva", "why": " "}', "why: empty (say it in a few words)"),
        (json.dumps(dict.fromkeys(map(str, range(20_000)), 0)).encode(), "0: unknown field (who, why, wallet)"),
    ],
)
async def test_a_body_that_says_it_twice_or_too_long_is_refused_by_name(site: Site, body: bytes, reason: str) -> None:
    """Nothing is done, and however large it is nobody waits for it."""
    async with site.life() as daemon:
        assert await asyncio.to_thread(posted, site, "freeze", body) == (
            400,
            {"error": "bad_request", "reason": reason},
        )
        assert "operator" not in daemon.mirror.frozen
        status, answer = await asyncio.to_thread(
            posted, site, "freeze", json.dumps({"who": "eva", "why": "y" * 500}).encode()
        )
        assert status == 200, answer


async def test_what_people_wrote_is_shown_and_not_obeyed(site: Site, run: Run, terminal: Run) -> None:
    """Neither colours nor lines that somebody made up; JSON has all of it as it is."""
    why = "red \x1b[31m\u202eturned\nand \u00e4 line\u2028\x9b"
    async with site.life() as daemon:
        assert (await asyncio.to_thread(run, "freeze", "--why", why, "--who", "\x1beva"))[0] == 0
        for command in ("audit", "status"):
            _, out, _ = await asyncio.to_thread(terminal, command)
            assert not {"\x1b", "\u202e", "\u2028", "\x9b"} & set(out), command
            assert "".join(["red", "\\x1b[31m\\u202eturned\\nand", "ä", "line\\u2028\\x9b"]) in "".join(
                cell for line in out.splitlines() for cell in line.replace("\u2502", " ").split()
            )
        assert "\x1b" not in start_screen(daemon, 1)
        assert json.loads((await asyncio.to_thread(run, "audit"))[1])["audit"][0]["who"] == "\x1beva"


async def test_who_freezes_what_is_not_there_is_told_what_is(site: Site, run: Run) -> None:
    async with site.life():
        status, _, err = await asyncio.to_thread(run, "freeze", "--wallet", "nope", "--why", "drill")
    assert (status, err) == (1, "channeld: no wallet is called nope: there are hot\n")


async def test_a_freeze_is_not_lost_to_characters_that_nobody_can_read(site: Site, run: Run) -> None:
    """They are replaced in what is said for people; what is to be found must be spelt."""
    async with site.life() as daemon:
        status, _, err = await asyncio.to_thread(run, "freeze", "--why", "st\udcffp", "--who", "\udce9va")
        assert (status, err) == (0, "")
        assert "frozen by \ufffdva: st\ufffdp" in daemon.mirror.frozen["operator"]
        for arguments in (("explain", "\udcff"), ("backup", "\udcff"), ("thaw", "--wallet", "\udcff")):
            why = () if arguments[0] == "explain" else ("--why", "drill")
            status, out, err = await asyncio.to_thread(run, *arguments, *why)
            assert (status, out) == (2, ""), arguments
            assert err.startswith("channeld: "), arguments
            assert "\n" not in err.strip(), arguments
    assert [who for who, what in site.told if what.startswith("freeze")] == ["\ufffdva"]
    status, _, err = run("backup", "copy.db", "--why", "\udcff")
    assert (status, err) == (0, "")


@pytest.mark.parametrize("wallet", ["", "hot", "server:news-eu"])
async def test_who_freezes_what_is_frozen_is_told_so_and_stands_in_the_audit(site: Site, run: Run, wallet: str) -> None:
    """The first freeze stands, in the answer as in `/readyz`; one thaw lifts it."""
    scope = ("--wallet", wallet) if wallet else ()
    async with site.life() as daemon:
        first = json.loads((await asyncio.to_thread(run, "freeze", *scope, "--why", "t1", "--who", "eva"))[1])
        status, out, _ = await asyncio.to_thread(run, "freeze", *scope, "--why", "again", "--who", "adam")
        assert status == 0
        assert json.loads(out) == {**first, "was_frozen": True}
        assert not first["was_frozen"]
        assert "frozen by eva: t1" in first["reason"] == daemon.mirror.stopped.of(wallet)["operator"]
        assert (await asyncio.to_thread(run, "thaw", *scope, "--why", "over"))[0] == 0
        assert "operator" not in daemon.mirror.stopped.of(wallet)
    where = wallet or "everything"
    assert site.told[-3:-1] == [("eva", f"freeze {where} operator"), ("adam", f"freeze {where} again: it was frozen")]
    assert site.told[-1][1] == f"thaw {where} operator"


def test_channels_fit_eighty_columns_and_no_money_is_cut(site: Site, terminal: Run) -> None:
    """The beginning of each id, from which the other commands find it; JSON has all of it."""
    status, out, _ = terminal("channels")
    assert status == 0
    assert "…" not in out
    for channel_id in (FIRST, STRAY):
        (line,) = [line for line in out.splitlines() if channel_id[:16] in line]
        assert line.split().count(str(WEALTH)) == 1
    assert "quarantined" in out
    shown = json.loads(terminal("channels", "--json")[1])["channels"]
    assert {each["channel_id"] for each in shown} == {FIRST, SECOND, OTHER, STRAY}
    assert {each["source_account"] for each in shown} == {GENESIS}


@pytest.mark.parametrize(("amount", "widest"), [(2 * 10**6, 80), (2 * 10**9, 80), (10**17, None)])
def test_a_table_is_as_wide_as_the_terminal_unless_money_needs_more(
    terminal: Run, capsys: pytest.CaptureFixture[str], amount: int, widest: int | None
) -> None:
    from channeld.cli.common import print_table
    from channeld.cli.status import _COLUMNS, _row

    shown = {
        "channel_id": FIRST,
        "direction": "out",
        "state": "quarantined",
        "destination_account": PAYEE,
        "destination_tag": 4294967295,
        **dict.fromkeys(("amount", "authorized", "balance"), str(amount)),
    }
    print_table("1 channel", _COLUMNS, [_row(shown)], whole=set(_COLUMNS) - {"payee"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split().count(str(amount)) == 3
    assert widest is None or max(map(len, lines)) <= widest
    payee = "".join(part for line in lines[2:] for part in line.split() if part in f"{PAYEE}:4294967295")
    assert payee == f"{PAYEE}:4294967295"
