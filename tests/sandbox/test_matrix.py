"""The rules of payment channels, each in both settings of fixCleanup3_2_0 where it makes a difference."""

from __future__ import annotations

import pytest

from channeld.sandbox.ledger import codec, keylets
from tests.sandbox.rig import START, XRP, Rig, address, key

REQUIRE_TAG, DEPOSIT_AUTH, NO_CHANNELS = 1, 9, 14
RENEW, CLOSE = 0x00010000, 0x00020000
ZERO = "0" * 64
UNKNOWN = "1".rjust(64, "0")


@pytest.fixture(params=[False, True], ids=["before", "cleanup"])
def cleanup(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def rig(cleanup: bool) -> Rig:
    rig = Rig(fixCleanup3_2_0=cleanup, fixPayChanCancelAfter=True)
    rig.fund("alice", "bob", "eve")
    return rig


def create(rig: Rig, by: str = "alice", to: str = "bob", **fields: object) -> str:
    body = {"Amount": "1000", "SettleDelay": 3600, "PublicKey": key("alice").public_key, **fields}
    return rig.submit(by, "PaymentChannelCreate", Destination=address(to), **body)


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"Amount": "0"}, "temBAD_AMOUNT"),
        ({"to": "alice"}, "temDST_IS_SRC"),
        ({"PublicKey": "ED" + "11" * 31}, "temMALFORMED"),
        ({"PublicKey": "04" + "11" * 32}, "temMALFORMED"),
        ({"PublicKey": "02" + "FF" * 32}, "tesSUCCESS"),
        ({"Flags": 0x00010000}, "temINVALID_FLAG"),
        ({"to": "nobody"}, "tecNO_DST"),
        ({"Fee": "9"}, "telINSUF_FEE_P"),
    ],
)
def test_create_refused(rig: Rig, fields: dict[str, object], result: str) -> None:
    """A key need not be on the curve; all else is judged in rippled's order."""
    assert create(rig, **fields) == result


@pytest.mark.parametrize(
    ("drops", "result"),
    [(1_199_999, "tecINSUFFICIENT_RESERVE"), (1_200_999, "tecUNFUNDED"), (1_201_000, "tesSUCCESS")],
)
def test_create_is_judged_by_the_balance_before_the_fee(rig: Rig, drops: int, result: str) -> None:
    """Exactly reserve plus amount passes, and the fee eats into the reserve."""
    rig.fund("poor", drops=drops)
    assert create(rig, by="poor") == result


def test_destination_flags(rig: Rig) -> None:
    """A payee can refuse channels, ask for a tag, and not refuse them by DepositAuth."""
    for name, flag in (("bob", REQUIRE_TAG), ("eve", NO_CHANNELS)):
        assert rig.submit(name, "AccountSet", SetFlag=flag) == "tesSUCCESS"
    rig.fund("dave")
    assert rig.submit("dave", "AccountSet", SetFlag=DEPOSIT_AUTH) == "tesSUCCESS"
    assert create(rig) == "tecDST_TAG_NEEDED"
    assert create(rig, DestinationTag=0) == "tesSUCCESS"
    assert create(rig, to="eve") == "tecNO_PERMISSION"
    assert create(rig, to="dave") == "tesSUCCESS"


def test_cancel_after(rig: Rig, cleanup: bool) -> None:
    """With fixPayChanCancelAfter a past CancelAfter is refused; one that is now is taken: at once expired, or not."""
    assert create(rig, CancelAfter=rig.pct - 1) == "tecEXPIRED"
    channel = keylets.channel(address("alice"), address("bob"), rig.sign("alice", "AccountSet").sequence)
    assert create(rig, CancelAfter=rig.pct) == "tesSUCCESS"
    assert rig.claim("eve", channel) == ("tecNO_PERMISSION" if cleanup else "tesSUCCESS")
    assert (rig.object(channel) is not None) is cleanup


def test_cancel_after_without_the_amendment() -> None:
    """Then a channel with a past CancelAfter is made, and the next touch deletes it."""
    rig = Rig()
    rig.fund("alice", "bob")
    channel = rig.open_channel(CancelAfter=START - 100)
    assert rig.submit("bob", "PaymentChannelFund", Channel=channel, Amount="1") == "tesSUCCESS"
    assert rig.object(channel) is None


def test_unknown_and_zero_channel(rig: Rig, cleanup: bool) -> None:
    """Fund and Claim name an absent channel differently; a zero id is malformed only with the amendment."""
    assert rig.submit("alice", "PaymentChannelFund", Channel=UNKNOWN, Amount="5") == "tecNO_ENTRY"
    assert rig.claim("alice", UNKNOWN) == "tecNO_TARGET"
    zero_fund = rig.submit("alice", "PaymentChannelFund", Channel=ZERO, Amount="5")
    assert zero_fund == ("temMALFORMED" if cleanup else "tecNO_ENTRY")
    assert rig.claim("alice", ZERO) == ("temMALFORMED" if cleanup else "tecNO_TARGET")


def test_amounts_above_all_xrp(rig: Rig, cleanup: bool) -> None:
    """Above 10^17 drops: only with the amendment an amount is refused for being impossible."""
    tx = rig.sign("alice", "PaymentChannelClaim", Channel=rig.open_channel(), Balance=str(10**17))
    largest, larger = ((1 << 62 | drops).to_bytes(8, "big") for drops in (10**17, 10**17 + 1))
    unsigned = codec.signing_bytes(tx).replace(largest, larger)
    signature = key("alice").signer()(unsigned)
    old = bytes.fromhex(tx.json["TxnSignature"])
    blob = tx.blob.replace(largest, larger).replace(old, signature)
    result = rig.offer(codec.decode(blob.hex())).result
    assert result == ("temBAD_AMOUNT" if cleanup else "tecUNFUNDED_PAYMENT")


def test_fund_permissions_and_expiration(rig: Rig, cleanup: bool) -> None:
    """Only the source funds; an Expiration may not come before close time plus settle delay, or the present one."""
    channel, early = rig.open_channel(), "tecNO_PERMISSION" if cleanup else "temBAD_EXPIRATION"

    def fund(by: str = "alice", **fields: object) -> str:
        return rig.submit(by, "PaymentChannelFund", Channel=channel, Amount="5", **fields)

    assert (fund("bob"), fund("eve")) == ("tecNO_PERMISSION", "tecNO_PERMISSION")
    least = rig.pct + 3600
    assert fund(Expiration=least - 1) == early
    assert fund(Expiration=least) == "tesSUCCESS"
    assert fund(Expiration=least - 1, Fee="11") == early
    assert fund(Expiration=least + 9999) == "tesSUCCESS"
    assert fund(Expiration=least) == "tesSUCCESS"
    assert (rig.object(channel) or {})["Expiration"] == least


def test_fund_on_expired_by_a_stranger(rig: Rig) -> None:
    """Deletes it, takes nothing, and gives the remainder back to the source."""
    channel = rig.open_channel(CancelAfter=rig.pct + 100)
    rig.pass_time(rig.pct + 150)
    before = rig.balance("alice"), rig.balance("eve")
    assert rig.submit("eve", "PaymentChannelFund", Channel=channel, Amount="5000") == "tesSUCCESS"
    assert rig.object(channel) is None
    assert (rig.balance("alice"), rig.balance("eve")) == (before[0] + 100 * XRP, before[1] - 10)


def test_claims_by_the_payee(rig: Rig, cleanup: bool) -> None:
    """Cumulative; what is not more than the last is refused; signer and signature must be the channel's."""
    channel = rig.open_channel()
    before = rig.balance("bob")
    assert rig.claim("bob", channel, "alice", Balance="1000") == "tesSUCCESS"
    assert rig.balance("bob") == before + 990
    assert rig.claim("bob", channel, "alice", Balance="1000") == "tecUNFUNDED_PAYMENT"
    assert rig.claim("bob", channel, "alice", Balance="999") == "tecUNFUNDED_PAYMENT"
    assert rig.claim("bob", channel, Balance="2000") == ("tecNO_PERMISSION" if cleanup else "temBAD_SIGNATURE")
    other = rig.claim("bob", channel, "eve", Balance="2000")
    assert other == ("tecNO_PERMISSION" if cleanup else "temBAD_SIGNER")
    assert rig.claim("bob", channel, "alice", Balance="3000", Amount="9000") == "tesSUCCESS"
    assert (rig.object(channel) or {})["Balance"] == "3000"
    assert rig.claim("bob", channel, "alice", Balance=str(101 * XRP)) == "tecUNFUNDED_PAYMENT"


def test_malformed_claims(rig: Rig) -> None:
    """Preflight, in its order."""
    channel = rig.open_channel()
    pair = key("alice")
    signature = "00" * 64
    assert rig.claim("bob", channel, Balance="5", Signature=signature) == "temMALFORMED"
    assert rig.claim("bob", channel, Signature=signature, PublicKey=pair.public_key) == "temMALFORMED"
    bad = {"Signature": signature, "PublicKey": pair.public_key}
    assert rig.claim("bob", channel, Balance="5", **bad) == "temBAD_SIGNATURE"
    assert rig.claim("bob", channel, Flags=RENEW | CLOSE) == "temMALFORMED"
    assert rig.claim("bob", channel, Flags=0x00080000) == "temINVALID_FLAG"
    assert rig.claim("bob", channel, Balance="6", Amount="5") == "temBAD_AMOUNT"
    assert rig.claim("bob", channel, Balance="0") == "temBAD_AMOUNT"
    assert rig.claim("bob", channel, CredentialIDs=[]) == "temMALFORMED"
    assert rig.claim("bob", channel, CredentialIDs=[UNKNOWN]) == "tecBAD_CREDENTIALS"


def test_settlement_by_the_source(rig: Rig) -> None:
    """Needs no signature, but the payee's leave where it asks for authority."""
    channel = rig.open_channel()
    assert rig.claim("alice", channel, Balance="1000") == "tesSUCCESS"
    assert rig.submit("bob", "AccountSet", SetFlag=DEPOSIT_AUTH) == "tesSUCCESS"
    assert rig.claim("alice", channel, Balance="2000") == "tecNO_PERMISSION"
    assert rig.claim("bob", channel, "alice", Balance="2000") == "tesSUCCESS"
    assert rig.submit("bob", "DepositPreauth", Authorize=address("alice")) == "tesSUCCESS"
    assert rig.claim("alice", channel, Balance="3000") == "tesSUCCESS"
    assert rig.submit("bob", "DepositPreauth", Authorize=address("alice")) == "tecDUPLICATE"
    assert rig.submit("bob", "DepositPreauth", Unauthorize=address("alice")) == "tesSUCCESS"
    assert rig.claim("alice", channel, Balance="4000") == "tecNO_PERMISSION"


def test_renew(rig: Rig) -> None:
    """Only the source; a payee that tries gets nothing, not even its claim's payout."""
    channel = rig.open_channel()
    assert rig.claim("alice", channel, Flags=CLOSE) == "tesSUCCESS"
    before = rig.balance("bob")
    assert rig.claim("bob", channel, "alice", Balance="1000", Flags=RENEW) == "tecNO_PERMISSION"
    assert rig.balance("bob") == before - 10
    assert rig.claim("alice", channel, Flags=RENEW) == "tesSUCCESS"
    assert "Expiration" not in (rig.object(channel) or {})


def test_close_by_the_source(rig: Rig) -> None:
    """Starts the settle delay; a later request changes nothing, but pulls a far expiration back."""
    channel = rig.open_channel()
    asked = rig.pct
    assert rig.claim("alice", channel, Flags=CLOSE) == "tesSUCCESS"
    rig.close(3)
    assert rig.claim("alice", channel, Flags=CLOSE) == "tesSUCCESS"
    assert (rig.object(channel) or {})["Expiration"] == asked + 3600
    far = {"Amount": "1", "Expiration": rig.pct + 99_999}
    assert rig.submit("alice", "PaymentChannelFund", Channel=channel, **far) == "tesSUCCESS"
    assert rig.claim("alice", channel, Flags=CLOSE) == "tesSUCCESS"
    assert (rig.object(channel) or {})["Expiration"] == rig.pct + 3600


@pytest.mark.parametrize("paid_first", [True, False])
def test_close_of_a_dry_channel(rig: Rig, paid_first: bool) -> None:
    """Once everything is paid out, the source's close is immediate, even with the payment in the same transaction."""
    channel = rig.open_channel()
    if paid_first:
        assert rig.claim("alice", channel, Balance=str(100 * XRP)) == "tesSUCCESS"
        assert rig.object(channel) is not None
        assert rig.claim("alice", channel, Flags=CLOSE) == "tesSUCCESS"
    else:
        assert rig.claim("alice", channel, Balance=str(100 * XRP), Flags=CLOSE) == "tesSUCCESS"
    assert rig.object(channel) is None


def test_close_by_the_payee(rig: Rig) -> None:
    """At once: without a claim the rest is lost to it; with one it is paid first; with a stale one nothing happens."""
    channel = rig.open_channel()
    assert rig.claim("bob", channel, "alice", Balance="1000") == "tesSUCCESS"
    assert rig.claim("bob", channel, "alice", Balance="1000", Flags=CLOSE) == "tecUNFUNDED_PAYMENT"
    assert rig.object(channel) is not None
    before = rig.balance("bob")
    assert rig.claim("bob", channel, "alice", Balance="5000", Flags=CLOSE) == "tesSUCCESS"
    assert (rig.object(channel), rig.balance("bob")) == (None, before + 3990)
    channel = rig.open_channel()
    before = rig.balance("bob")
    assert rig.claim("bob", channel, Flags=CLOSE) == "tesSUCCESS"
    assert (rig.object(channel), rig.balance("bob")) == (None, before - 10)


@pytest.mark.parametrize(("late_s", "paid"), [(-1, (True, True)), (0, (False, True)), (1, (False, False))])
def test_the_last_moment(rig: Rig, cleanup: bool, late_s: int, paid: tuple[bool, bool]) -> None:
    """A claim exactly at the expiration pays only with the amendment; after it, it deletes and pays nothing."""
    channel = rig.open_channel(SettleDelay=60)
    assert rig.claim("alice", channel, Flags=CLOSE) == "tesSUCCESS"
    rig.close()
    rig.pass_time((rig.object(channel) or {})["Expiration"] + late_s)
    before = rig.balance("bob")
    assert rig.claim("bob", channel, "alice", Balance="1000") == "tesSUCCESS"
    assert (rig.balance("bob") > before) is paid[cleanup]
    assert (rig.object(channel) is not None) is paid[cleanup]


def test_strangers(rig: Rig) -> None:
    """May do nothing with a living channel, and delete an expired one."""
    channel = rig.open_channel(SettleDelay=1)
    assert rig.claim("eve", channel) == "tecNO_PERMISSION"
    assert rig.claim("alice", channel, Flags=CLOSE) == "tesSUCCESS"
    rig.close(4)
    assert rig.claim("eve", channel) == "tesSUCCESS"
    assert rig.object(channel) is None


def test_settle_delay_beyond_time(rig: Rig, cleanup: bool) -> None:
    """Parent close time plus settle delay wraps at 2^32, or stays at its end with the amendment."""
    channel = rig.open_channel(SettleDelay=2**32 - 1)
    assert rig.claim("alice", channel, Flags=CLOSE) == "tesSUCCESS"
    assert (rig.object(channel) or {})["Expiration"] == (2**32 - 1 if cleanup else rig.pct - 1)


def test_channel_made_with_a_ticket(rig: Rig) -> None:
    """Its id comes from the ticket number; the ticket is used up whatever the result."""
    first = rig.sign("alice", "AccountSet").sequence + 1
    assert rig.submit("alice", "TicketCreate", TicketCount=2) == "tesSUCCESS"
    rig.close()
    assert create(rig, Sequence=0, TicketSequence=first + 1) == "tesSUCCESS"
    assert create(rig, to="nobody", Sequence=0, TicketSequence=first) == "tecNO_DST"
    rig.close()
    assert rig.object(keylets.channel(address("alice"), address("bob"), first + 1)) is not None
    root = rig.object(keylets.account(address("alice"))) or {}
    assert (root["OwnerCount"], "TicketCount" in root) == (1, False)
    assert create(rig, Sequence=0, TicketSequence=first) == "tefNO_TICKET"
    assert create(rig, Sequence=0, TicketSequence=first + 50) == "terPRE_TICKET"
    assert create(rig, TicketSequence=first) == "temSEQ_AND_TICKET"


def test_the_same_blob_again(rig: Rig) -> None:
    """The sequence test comes first: an applied one answers tefPAST_SEQ; a malformed one is remembered as bad."""
    tx = rig.sign("alice", "AccountSet")
    assert rig.offer(tx).result == "tesSUCCESS"
    assert rig.offer(tx).result == "tefPAST_SEQ"
    rig.close()
    assert rig.offer(tx).result == "tefPAST_SEQ"
    bad = rig.sign("alice", "PaymentChannelFund", Channel=UNKNOWN, Amount="0")
    assert rig.offer(bad).result == "temBAD_AMOUNT"
    again = rig.offer(bad)
    assert (again.result, again.kept, again.sequence_next) == ("temBAD_SIGNATURE", False, None)


def test_last_ledger_sequence(rig: Rig) -> None:
    """The ledger of that number may still hold it."""
    index = rig.node.open.index
    assert rig.submit("alice", "AccountSet", LastLedgerSequence=index - 1) == "tefMAX_LEDGER"
    tx = rig.sign("alice", "AccountSet", LastLedgerSequence=index)
    assert rig.offer(tx).result == "tesSUCCESS"
    assert [record.tx.hash for record in rig.close()] == [tx.hash]


def test_keys_and_authority(rig: Rig) -> None:
    """Master and regular key may sign, no other; a disabled master key may not."""
    assert rig.submit("alice", "AccountSet", signer="eve") == "tefBAD_AUTH"
    assert rig.submit("alice", "AccountSet", SetFlag=4) == "tecNO_ALTERNATIVE_KEY"
    assert rig.submit("alice", "SetRegularKey", RegularKey=address("eve")) == "tesSUCCESS"
    assert rig.submit("alice", "AccountSet", SetFlag=4, signer="eve") == "tecNEED_MASTER_KEY"
    assert rig.submit("alice", "AccountSet", SetFlag=4) == "tesSUCCESS"
    assert rig.submit("alice", "AccountSet") == "tefMASTER_DISABLED"
    assert rig.submit("alice", "AccountSet", signer="eve") == "tesSUCCESS"


def test_account_txn_id(rig: Rig) -> None:
    """A transaction can name the one before it; a tec does not count as one."""
    assert rig.submit("alice", "AccountSet", SetFlag=5) == "tesSUCCESS"
    first = rig.sign("alice", "AccountSet")
    assert rig.offer(first).result == "tesSUCCESS"
    assert rig.claim("alice", UNKNOWN) == "tecNO_TARGET"
    assert rig.submit("alice", "AccountSet", AccountTxnID=UNKNOWN) == "tefWRONG_PRIOR"
    assert rig.submit("alice", "AccountSet", AccountTxnID=first.hash) == "tesSUCCESS"


@pytest.mark.parametrize(
    ("network", "given", "result"),
    [
        (0, None, "tesSUCCESS"),
        (0, 0, "telNETWORK_ID_MAKES_TX_NON_CANONICAL"),
        (1024, 1024, "telNETWORK_ID_MAKES_TX_NON_CANONICAL"),
        (21337, None, "telREQUIRES_NETWORK_ID"),
        (21337, 21338, "telWRONG_NETWORK"),
        (21337, 21337, "tesSUCCESS"),
    ],
)
def test_network_id(network: int, given: int | None, result: str) -> None:
    """Up to 1024 the field must be absent, above it must be there and right."""
    rig = Rig(network_id=network)
    payment = {"Destination": address("alice"), "Amount": str(10 * XRP), "NetworkID": given}
    assert rig.submit("genesis", "Payment", **payment) == result


def test_payments(rig: Rig) -> None:
    """Creating an account takes the base reserve; what is left must keep the sender's."""
    pay = {"Destination": address("new")}
    assert rig.submit("alice", "Payment", Amount=str(XRP - 1), **pay) == "tecNO_DST_INSUF_XRP"
    assert rig.submit("alice", "Payment", Amount=str(999 * XRP), **pay) == "tecUNFUNDED_PAYMENT"
    assert rig.submit("alice", "Payment", Amount=str(XRP), **pay) == "tesSUCCESS"
    assert (rig.object(keylets.account(address("new"))) or {})["Sequence"] == rig.node.open.index
    assert rig.submit("alice", "Payment", Destination=address("alice"), Amount="1") == "temREDUNDANT"


def test_keylet_fields() -> None:
    """With fixIncludeKeyletFields a channel remembers the number its id was made from; without it does not."""
    for on in (True, False):
        rig = Rig(fixIncludeKeyletFields=on)
        rig.fund("alice", "bob")
        number = rig.sign("alice", "AccountSet").sequence
        assert (rig.object(rig.open_channel()) or {}).get("Sequence") == (number if on else None)
