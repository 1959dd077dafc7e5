"""The client and a real Mosquitto that speaks TLS as shipped: certificates both ways, and what is said of bad ones."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from certs import Authority
from servers import Mosquitto, certify, shipped
from waiting import until

from channeld.client import Client, errors
from channeld.sandbox.stage import PATIENCE_S, Server
from e2e.test_apart import PAYEE, tls_files
from e2e.world import World

pytestmark = pytest.mark.slow
KEY = "ED" + "0" * 64


def context(ca: Path, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    trusting = ssl.create_default_context(cafile=str(ca))
    if pair is not None:
        trusting.load_cert_chain(*pair)
    return trusting


def client_of(broker: Mosquitto, tls: ssl.SSLContext | None, folder: Path, *, timeout_s: float = PATIENCE_S) -> Client:
    url = f"mqtts://127.0.0.1:{broker.port}"
    return Client(url, server="a", public_key=KEY, path=folder / "claims.db", tls=tls, timeout_s=timeout_s)


async def test_a_claim_over_mutual_tls(tmp_path: Path) -> None:
    """The certificate is the login; the daemon has one of its own."""
    world, authority = World(tmp_path), Authority(tmp_path / "tls")
    world.broker = shipped(tmp_path, authority)
    async with world:
        stage = await world.stage([Server("a", [world.payee.address])], tls=tls_files(authority))
        async with Client(
            f"mqtts://127.0.0.1:{world.broker.port}",
            server="a",
            public_key=stage.claim_key.public_key,
            path=tmp_path / "claims.db",
            tls=context(authority.ca, authority.issue("a")),
        ) as client:
            assert (await client.claim(payee=world.payee.address, drops=1500)).claim.amount == 1500


Made = Callable[[Authority, Authority], ssl.SSLContext | None]
REFUSED: dict[str, tuple[Made, type[errors.TlsFailed], str]] = {
    "another authority": (
        lambda ours, other: context(other.ca, ours.issue("a")),
        errors.BrokerNotTrusted,
        "signed by nobody whom `tls` trusts",
    ),
    "no authority": (lambda ours, other: None, errors.BrokerNotTrusted, "signed by nobody whom `tls` trusts"),
    "no certificate of ours": (
        lambda ours, other: context(ours.ca),
        errors.CertificateRefused,
        "asks for a certificate",
    ),
    "ours has expired": (
        lambda ours, other: context(ours.ca, ours.issue("a", expired=True)),
        errors.CertificateRefused,
        "has expired: renew it",
    ),
    "ours is a stranger's": (
        lambda ours, other: context(ours.ca, other.issue("a")),
        errors.CertificateRefused,
        "who signed our certificate",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_certificates_that_do_not_do_are_told_apart(tmp_path: Path, case: str) -> None:
    make, expected, says = REFUSED[case]
    ours, other = Authority(tmp_path / "tls"), Authority(tmp_path / "other", "other")
    async with shipped(tmp_path, ours) as broker:
        with pytest.raises(errors.TlsFailed, match=says) as caught:
            async with client_of(broker, make(ours, other), tmp_path):
                pass
    assert type(caught.value) is expected
    assert f"127.0.0.1:{broker.port}" in str(caught.value)


@pytest.mark.parametrize(
    ("terms", "says"), [({"host": "127.0.0.9"}, "for another name"), ({"expired": True}, "has expired")]
)
async def test_a_broker_of_other_name_or_time_is_not_trusted(tmp_path: Path, terms: dict[str, str], says: str) -> None:
    ours = Authority(tmp_path / "tls")
    broker = shipped(tmp_path, ours)
    certify(broker.directory, ours.issue("broker", **terms))
    async with broker:
        with pytest.raises(errors.BrokerNotTrusted, match=says):
            async with client_of(broker, context(ours.ca, ours.issue("a")), tmp_path):
                pass


async def test_a_broker_that_hangs_up_on_tls_may_yet_be_mended(tmp_path: Path) -> None:
    """As Mosquitto does where no TLS is spoken, and any broker that is just being restarted: tried until time is up."""
    async with shipped(tmp_path) as broker:
        with pytest.raises(errors.BrokerLost, match=r"reset|EOF|closed"):
            async with client_of(broker, context(Authority(tmp_path / "tls").ca), tmp_path, timeout_s=1):
                pass


async def test_a_certificate_that_expires_later_is_told_by_who_waits(tmp_path: Path) -> None:
    """A client that was connected goes on trying: the broker may be mended."""
    ours = Authority(tmp_path / "tls")
    async with shipped(tmp_path, ours) as broker:
        async with client_of(broker, context(ours.ca, ours.issue("a")), tmp_path) as client:
            certify(broker.directory, ours.issue("broker", expired=True))
            await broker.restart()
            link = client._link
            assert link is not None
            await until(lambda: isinstance(link.problem, errors.BrokerNotTrusted))
            with pytest.raises(errors.BrokerLost, match="has expired"):
                await client.claim(payee=PAYEE, drops=1, id="later", timeout_s=0.2)
            certify(broker.directory, ours.issue("broker"))
            await broker.restart()
            await until(link.connected.is_set)
            with pytest.raises(errors.NotAnswered) as caught:
                await client.claim(payee=PAYEE, drops=1, id="later", timeout_s=0.2)
            assert type(caught.value) is errors.NotAnswered, "it is connected again; only nobody answers"
