"""The operator's files while a daemon runs: what is taken over, what is not, and how they are watched."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from configs import CONFIG, PAYEE, write_config
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import soon

from channeld.app import reload as reloading
from channeld.app.granted import Grants
from channeld.app.reload import Files, Outcome
from channeld.core.errors import ConfigError
from channeld.core.policy import Policy
from channeld.settings import Settings, load, load_policy, read_again

ROOT = Path(__file__).parent.parent
POLICY = (ROOT / "config/policy.toml").read_text()
RICH = (ROOT / "tests/data/policy_rich.toml").read_text()
OTHER = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"


def changed(old: str, new: str, text: str = CONFIG) -> str:
    """A text with one piece replaced; the piece must be there."""
    assert old in text, old
    return text.replace(old, new, 1)


class Site:
    """A config, a policy and a daemon that takes over whatever it is given, unless it is to object."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = write_config(folder)
        self.policy = folder / "policy.toml"
        self.policy.write_text(POLICY)
        self.settings, self.value = load(self.config, {}), load_policy(self.policy)
        self.files = Files(self.settings, self.value, {}, lambda: 1_760_000_000.0)
        self.files.running = self
        self.objecting: list[str] = []
        self.taken: list[tuple[Settings, Policy, Grants]] = []
        self.counted: list[str] = []

    def objections(self, settings: Settings, policy: Policy) -> Sequence[str]:
        return self.objecting

    def reload(self, settings: Settings, policy: Policy, granted: Grants) -> None:
        self.taken.append((settings, policy, granted))

    def reloaded(self, outcome: str) -> None:
        self.counted.append(outcome)

    def again(self) -> Outcome:
        """Read the files."""
        return asyncio.run(self.files.reload())

    @property
    def problems(self) -> tuple[str, ...]:
        assert self.files.refusal is not None
        return self.files.refusal.problems


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def replaced(path: Path, text: str) -> None:
    """As editors save: another file takes the name."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


# --- what is taken over ----------------------------------------------------------------------------------------------


def test_policy_servers_payees_and_limits_are_taken_over(site: Site) -> None:
    """All of it at once, with the secrets of the start."""
    text = changed('pool = "standard"\n', 'pool = "standard"\nmax_in_flight = 7\n')
    text = changed('remember_ids = "24h"', 'remember_ids = "24h"\nmax_in_flight = 99', text)
    site.config.write_text(text + f'[servers.second]\npayees = ["{PAYEE}:7"]\n')
    site.policy.write_text(changed('settle_delay = "24h"', 'settle_delay = "25h"', POLICY))
    assert site.again() is Outcome.TAKEN
    settings, policy, granted = site.taken[0]
    assert settings.servers["news-eu"].limit.max_in_flight == 7
    assert settings.daemon.limit.max_in_flight == 99
    assert {str(payee) for payee in granted.by_server["second"].payees} == {f"{PAYEE}:7"}
    assert [granted.audience.of(granted.by_server, p) for p in granted.by_server["second"].payees] == [("second",)]
    assert policy.pools["standard"].settle_delay == 25 * 3600
    assert settings.http.admin_token is not None
    assert settings.wallets["hot"].seed is site.settings.wallets["hot"].seed
    assert (site.files.settings, site.files.policy) == (settings, policy)


def test_another_spelling_is_no_change(site: Site) -> None:
    """What says the same is read, counted, and left alone."""
    site.policy.write_text("# a comment\n" + changed('"24h"', '"1440m"', POLICY))
    site.config.write_text(changed('remember_ids = "24h"', 'remember_ids = "1d"'))
    assert site.again() is Outcome.UNCHANGED
    assert (site.taken, site.counted) == ([], ["unchanged"])


def test_what_needs_a_restart_is_told_before_what_follows_from_it(site: Site) -> None:
    """Of many problems the first is what a warning shows."""
    site.config.write_text(changed('role = "pay"', 'role = "receive"'))
    assert site.again() is Outcome.REFUSED
    assert ["wallets.hot.role" in site.problems[0], "pools.standard.wallet" in site.problems[-1]] == [True, True]


FIXED = [
    ('name = "channeld-1"', 'name = "channeld-2"', "3: daemon.name"),
    ('data_dir = "data"', 'data_dir = "elsewhere"', "4: daemon.data_dir"),
    ('remember_ids = "24h"', 'remember_ids = "48h"', "5: daemon.remember_ids"),
    ("network_id = 1", "network_id = 2", "8: ledger.network_id"),
    ("quorum = 1", "quorum = 2", "9: ledger.quorum"),
    ('"wss://one.example", ', "", "7: ledger.endpoints"),
    ("data/channeld.db", "data/other.db", "11: store.url"),
    ("127.0.0.1:1883", "127.0.0.1:1884", "13: mqtt.url"),
    ('"secrets/mqtt"', '"secrets/admin"', "15: mqtt.password_file"),
    ('"channeld/v1"', '"channeld/v2"', "16: mqtt.topic_prefix"),
    ("127.0.0.1:9464", "127.0.0.1:9465", "18: http.listen"),
    ('admin_token_file = "secrets/admin"\n', "", "17: http.admin_token_file"),
    ('key_type = "ed25519"', 'key_type = "secp256k1"', "23: wallets.hot.key_type"),
    ('"secrets/hot.seed"', '"secrets/claims.seed"', "24: wallets.hot.seed_file"),
    ("retired_claim_seed_files = []\n", 'retired_claim_seed_files = ["secrets/hot.seed"]\n', "27: wallets.hot.retired"),
]


@pytest.mark.parametrize(("old", "new", "where"), FIXED)
def test_a_key_that_needs_a_restart_refuses_all(site: Site, old: str, new: str, where: str) -> None:
    """It is named with its line, and a good policy beside it is not taken over either."""
    site.config.write_text(changed(old, new))
    site.policy.write_text(changed('settle_delay = "24h"', 'settle_delay = "25h"', POLICY))
    assert site.again() is Outcome.REFUSED
    assert [p for p in site.problems if f"channeld.toml:{where}" in p and "restart" in p], site.problems
    assert site.taken == []
    assert site.files.policy is site.value


def test_a_wallet_that_comes_or_goes_needs_a_restart(site: Site) -> None:
    """One problem each, however many keys it has."""
    second = CONFIG[CONFIG.index("[wallets.hot]") : CONFIG.index("[servers")].replace("[wallets.hot]", "[wallets.two]")
    site.config.write_text(CONFIG + second.replace(OTHER, PAYEE))
    site.again()
    assert [p.split(": ")[1:3] for p in site.problems] == [
        ["wallets.two", "is new (only a restart takes it over; put it back, or restart)"]
    ]


def test_all_that_is_wrong_in_both_files_is_said_at_once(site: Site) -> None:
    """A bad server, a bad policy and a key that needs a restart."""
    site.config.write_text(changed(PAYEE, "nobody"))
    site.policy.write_text(changed('wallet       = "hot"', 'wallet = "cold"\ncolour = "red"', POLICY))
    site.again()
    assert {p.split(": ")[1] for p in site.problems} == {"servers.news-eu.payees[0]", "pools.standard.colour"}


def test_what_the_daemon_objects_to_is_not_taken_over_until_it_does_not(site: Site) -> None:
    """The files are sound, but something that lives needs what was before."""
    site.policy.write_text(changed('settle_delay = "24h"', 'settle_delay = "25h"', POLICY))
    site.objecting = ["policy.toml: pools.x: is gone, and a channel of it lives"]
    assert site.again() is Outcome.REFUSED
    assert (site.problems, site.taken) == (tuple(site.objecting), [])
    site.objecting = []
    assert site.again() is Outcome.TAKEN
    assert site.files.refusal is None


def test_no_secret_is_opened_and_none_is_told(site: Site) -> None:
    """Secret files that are gone do not matter to a reload, and problems quote no value."""
    shutil.rmtree(site.folder / "secrets")
    assert site.again() is Outcome.UNCHANGED
    site.config.write_text(changed('"secrets/mqtt"', '"hunter2"').replace(PAYEE, "hunter3"))
    assert site.again() is Outcome.REFUSED
    assert "hunter" not in repr(site.problems)


# --- how files are watched -------------------------------------------------------------------------------------------


def settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other quickly; nothing in these tests waits for a time."""
    monkeypatch.setattr(reloading, "POLL_S", 0.002)


def test_a_save_of_many_steps_is_read_once_when_it_is_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks at which the files differ nothing is read, however long that goes on."""
    settling(monkeypatch)
    good = changed('settle_delay = "24h"', 'settle_delay = "25h"', POLICY)

    async def save() -> list[bool]:
        looks = []
        for end in (0, 10, 300, 600, len(good)):
            site.policy.write_text(good[:end])
            looks.append(await site.files._wanted())
        site.policy.unlink()
        looks.append(await site.files._wanted())
        replaced(site.policy, good)
        looks.append(await site.files._wanted())
        assert not any(looks)
        looks = [await site.files._wanted()]
        await site.files.reload()
        return [*looks, await site.files._wanted(), await site.files._wanted()]

    assert asyncio.run(save()) == [True, False, False]
    assert site.counted == ["taken"]


Step = Callable[[Site], object]
BREAKS: dict[str, Step] = {
    "half written": lambda s: s.policy.write_text(POLICY[: POLICY.index("wallet ")] + "wal"),
    "emptied": lambda s: s.policy.write_text(""),
    "removed": lambda s: s.policy.unlink(),
    "a folder": lambda s: (s.policy.unlink(), s.policy.mkdir()),
    "a link to nowhere": lambda s: (s.policy.unlink(), s.policy.symlink_to("nowhere")),
    "not text": lambda s: s.policy.write_bytes(b"\xff\xfe\x00"),
    "config removed": lambda s: s.config.unlink(),
    "config half written": lambda s: s.config.write_text(CONFIG[:200]),
    "payees that are not there": lambda s: s.config.write_text(
        changed(f'payees = ["{PAYEE}"]', 'payees_file = "payees.csv"')
    ),
}
MENDED = changed('settle_delay = "24h"', 'settle_delay = "25h"', POLICY)


def mend(site: Site) -> None:
    """Put sound files in place of whatever is there; a payees file where one is named."""
    if site.policy.is_dir():
        site.policy.rmdir()
    replaced(site.policy, MENDED)
    if site.config.exists() and "payees_file" in site.config.read_text():
        (site.folder / "payees.csv").write_text(f"payee\n{PAYEE}\n")
    else:
        replaced(site.config, CONFIG)


@pytest.mark.parametrize("how", BREAKS)
def test_files_that_break_and_are_mended(site: Site, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """The watch finds both: the old files stay in force, then the new ones are, and nobody asked."""
    settling(monkeypatch)

    async def watched() -> None:
        watching = asyncio.create_task(site.files.watch())
        try:
            BREAKS[how](site)
            await soon(lambda: site.files.refusal is not None)
            assert site.files.policy is site.value
            mend(site)
            await soon(lambda: site.taken)
        finally:
            watching.cancel()

    asyncio.run(watched())
    assert site.files.refusal is None
    assert site.files.policy.pools["standard"].settle_delay == 25 * 3600


def test_a_file_that_moves_while_it_is_read_counts_for_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files of one change are never taken from before and after it."""
    monkeypatch.setattr(reloading, "_MOVING_S", 0.0)
    reads: list[int] = []

    def reads_while_it_changes(*arguments: object) -> tuple[Settings, Policy]:
        read = read_again(*arguments)  # type: ignore[arg-type]
        reads.append(1)
        if len(reads) < 4:
            site.policy.write_text(POLICY.replace("24h", f"{24 + len(reads)}h"))
        return read

    monkeypatch.setattr(reloading, "read_again", reads_while_it_changes)
    assert site.again() is Outcome.TAKEN
    assert (len(reads), len(site.taken)) == (4, 1)
    assert site.files.policy.pools["standard"].settle_delay == 27 * 3600


def test_asking_while_files_are_read_reads_them_once_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes in the middle of a reading is not lost: what was saved before it is taken over."""
    settling(monkeypatch)
    begun, go_on = asyncio.Event(), asyncio.Event()
    settled = site.files._settled

    async def held() -> reloading._Reading:
        found = await settled()
        begun.set()
        await go_on.wait()
        return found

    async def story() -> None:
        monkeypatch.setattr(site.files, "_settled", held)
        watching = asyncio.create_task(site.files.watch())
        try:
            site.files.ask()
            await begun.wait()
            site.policy.write_text(MENDED)
            site.files.ask()
            go_on.set()
            await soon(lambda: site.taken)
        finally:
            watching.cancel()

    asyncio.run(story())
    assert site.counted == ["unchanged", "taken"]


def test_a_refused_reading_is_repeated_and_told_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for channels to close is taken over by itself, and the log is not filled until then."""
    settling(monkeypatch)
    monkeypatch.setattr(reloading, "RETRY_S", 0.0)
    site.policy.write_text(MENDED)
    site.objecting = ["a channel lives"]

    async def story() -> None:
        watching = asyncio.create_task(site.files.watch())
        try:
            await soon(lambda: len(site.counted) >= 3)
            refusal = site.files.refusal
            await soon(lambda: len(site.counted) >= 6)
            assert site.files.refusal is refusal
            site.objecting = []
            await soon(lambda: site.taken)
        finally:
            watching.cancel()

    asyncio.run(story())


def test_what_changed_before_the_watch_began_is_found(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stamps are from before the first reading: nothing saved between start and watch is overlooked."""
    settling(monkeypatch)
    site.policy.write_text(MENDED)

    async def story() -> list[bool]:
        return [await site.files._wanted(), await site.files._wanted()]

    assert asyncio.run(story()) == [False, True]


_UNREADABLE = """
import sys; from pathlib import Path
sys.path.insert(0, {tests!r})
from test_reload import Site, Outcome
site = Site(Path({folder!r}))
site.policy.chmod(0)
assert site.again() is Outcome.REFUSED
assert "permission denied" in site.problems[0], site.problems
site.policy.chmod(0o600)
assert site.again() is Outcome.UNCHANGED and site.files.refusal is None
"""


@pytest.mark.slow
def test_a_file_that_may_not_be_read_any_more(tmp_path: Path) -> None:
    """The old policy stays; with the permission back all is well. A process that may read everything gives that up."""
    code = _UNREADABLE.format(tests=str(ROOT / "tests"), folder=str(tmp_path))
    less = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run([*less, sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_thousand_reloads_leave_nothing_behind(site: Site) -> None:
    """Good and bad ones in turn: neither open files nor memory grow."""
    texts = [MENDED, POLICY, POLICY[:400]]

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def many(count: int) -> tuple[int, int]:
        for number in range(count):
            site.policy.write_text(texts[number % len(texts)])
            await site.files.reload()
            site.taken.clear()
            site.counted.clear()
        gc.collect()
        return descriptors(), len(gc.get_objects())

    async def story() -> tuple[int, int]:
        files, objects = await many(60)
        files_after, objects_after = await many(999)
        return files_after - files, objects_after - objects

    files, objects = asyncio.run(story())
    assert files <= 0
    assert objects < 100, f"{objects} objects more after 999 reloads"


# --- the canonical hash ----------------------------------------------------------------------------------------------

_SPELLINGS = {'"24h"': '"1d"', '"1h"': '"60m"', '"5000 XRP"': '"5000000000"', "0.90": '"90%"', '"0.5%"': '"0.50%"'}


def shuffled(text: str, dice: random.Random) -> str:
    """The same policy said in another way: tables and keys in another order, other spellings, comments."""
    head, *tables = re.split(r"(?m)^(?=\[)(?!\[\w+\.rule\.)", text)  # tables below a rule stay with it
    singles = [t for t in tables if not t.startswith("[[") or t.startswith("[[override]]")]
    chains = [t for t in tables if t not in singles]  # the order of rules means something
    dice.shuffle(singles)
    written = []
    for table in [*singles, *chains]:
        title, *lines = table.strip().split("\n")
        keys = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not any(key.startswith("[") for key in keys):
            dice.shuffle(keys)
        written.append("\n".join([f"{title}  # {dice.random()}", *keys]))
    said = head + "\n".join(written)
    for one, other in _SPELLINGS.items():
        assert one in said, one
        if dice.random() < 0.5:
            said = said.replace(one, other)
    return said


_OVERRIDES = """
[[override]]
scope = { server = "news-eu" }
concern = ["close", "fund"]
act = "hold"
until = 2026-12-02T00:00:00Z
why = "another"
"""


@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_the_hash_does_not_depend_on_how_it_is_said(
    tmp_path_factory: pytest.TempPathFactory, dice: random.Random
) -> None:
    """Order of tables, keys and overrides, comments and spellings do not change it."""
    path = tmp_path_factory.getbasetemp() / "said.toml"
    path.write_text(RICH + _OVERRIDES)
    original = load_policy(path)
    path.write_text(shuffled(RICH + _OVERRIDES, dice))
    again = load_policy(path)
    assert json.dumps(again.hash) == json.dumps(original.hash)


def test_the_config_is_read_whole_or_not_at_all(site: Site) -> None:
    """What `read_again` gives has both files' new values, and it raises rather than giving one of them."""
    site.config.write_text(CONFIG + f'[servers.second]\npayees = ["{PAYEE}"]\n')
    site.policy.write_text("[pools")
    with pytest.raises(ConfigError, match=r"policy\.toml"):
        read_again(site.settings, {}, {})
