"""The three payment channel transactions.

Every expiry test uses the parent ledger's close time. A Fund or Claim by anyone on an expired channel deletes it, pays
nothing and gives tesSUCCESS: that, not the result code, is what a client has to look at.

Sources: rippled src/xrpld/app/tx/detail/PayChan.cpp (2.3.0); fixPayChanCancelAfter, fixIncludeKeyletFields and
fixCleanup3_2_0 from src/libxrpl/tx/transactors/payment_channel (3.3.0).
"""

from __future__ import annotations

from typing import Final

from channeld.core.units import MAX_UINT32
from channeld.sandbox.ledger import directory, keylets
from channeld.sandbox.ledger.amendments import Rules
from channeld.sandbox.ledger.codec import Transaction, claim_is_signed, is_known_key
from channeld.sandbox.ledger.results import Reject, require
from channeld.sandbox.ledger.state import Fields, Reader
from channeld.sandbox.ledger.transact import (
    DISALLOW_INCOMING_PAY_CHAN,
    REQUIRE_DEST_TAG,
    UNIVERSAL_FLAGS,
    Apply,
    Kind,
    add_balance,
    check_ceiling,
    check_credentials,
    legal_drops,
    own,
    peek_account,
    preauthorized,
    read_account,
    refuse_credentials,
)
from channeld.sandbox.ledger.view import LedgerContext

TF_RENEW: Final = 0x00010000
TF_CLOSE: Final = 0x00020000


def _create_preflight(tx: Transaction, rules: Rules) -> None:
    check_ceiling(tx, rules)
    legal_drops(tx.json["Amount"])
    require(tx.account != tx.json["Destination"], "temDST_IS_SRC")
    require(is_known_key(tx.json["PublicKey"]), "temMALFORMED")


def _create_preclaim(reader: Reader, context: LedgerContext, tx: Transaction) -> None:
    """Reserve and funds are judged by the balance before the fee, so the fee may eat into the reserve."""
    source = read_account(reader, tx.account)
    if source is None:
        raise Reject("terNO_ACCOUNT")
    reserve = context.fees.account_reserve(source["OwnerCount"] + 1)
    balance = int(source["Balance"])
    require(balance >= reserve, "tecINSUFFICIENT_RESERVE")
    require(balance >= reserve + int(tx.json["Amount"]), "tecUNFUNDED")
    destination = read_account(reader, tx.json["Destination"])
    if destination is None:
        raise Reject("tecNO_DST")
    require(not destination["Flags"] & DISALLOW_INCOMING_PAY_CHAN, "tecNO_PERMISSION")
    tagged = not destination["Flags"] & REQUIRE_DEST_TAG or "DestinationTag" in tx.json
    require(tagged, "tecDST_TAG_NEEDED")


def _create_apply(applying: Apply) -> None:
    tx, context = applying.tx, applying.context
    cancel_after = tx.json.get("CancelAfter")
    if context.rules.cancel_after and cancel_after is not None:
        require(context.parent_close_time <= cancel_after, "tecEXPIRED")
    key = keylets.channel(tx.account, tx.json["Destination"], tx.proxy)
    fields: Fields = {
        name: tx.json[name]
        for name in ("Account", "Amount", "CancelAfter", "Destination", "DestinationTag", "PublicKey", "SettleDelay")
        if name in tx.json
    }
    fields |= {"Balance": "0", "Flags": 0, "LedgerEntryType": "PayChannel"}
    if "SourceTag" in tx.json:
        fields["SourceTag"] = tx.json["SourceTag"]
    if context.rules.keylet_fields:
        fields["Sequence"] = tx.proxy
    fields["OwnerNode"] = own(applying, key)
    fields["DestinationNode"] = directory.add(applying.view, tx.json["Destination"], key)
    add_balance(applying.source(), -int(tx.json["Amount"]))
    applying.view.insert(key, fields)


def _fund_preflight(tx: Transaction, rules: Rules) -> None:
    check_ceiling(tx, rules)
    require(not rules.cleanup or tx.json["Channel"] != keylets.ZERO_HASH, "temMALFORMED")
    legal_drops(tx.json["Amount"])


def _fund_apply(applying: Apply) -> None:
    tx, context = applying.tx, applying.context
    channel = _channel(applying, "tecNO_ENTRY")
    if _expired(channel, context):
        return _close(applying, channel)
    require(channel["Account"] == tx.account, "tecNO_PERMISSION")
    if (expiration := tx.json.get("Expiration")) is not None:
        least = min(_after(context, channel["SettleDelay"]), channel.get("Expiration", MAX_UINT32))
        require(expiration >= least, "tecNO_PERMISSION" if context.rules.cleanup else "temBAD_EXPIRATION")
        channel["Expiration"] = expiration
    source, amount = applying.source(), int(tx.json["Amount"])
    reserve = context.fees.account_reserve(source["OwnerCount"])
    require(int(source["Balance"]) >= reserve, "tecINSUFFICIENT_RESERVE")
    require(int(source["Balance"]) >= reserve + amount, "tecUNFUNDED")
    require(read_account(applying.view, channel["Destination"]) is not None, "tecNO_DST")
    channel["Amount"] = str(int(channel["Amount"]) + amount)
    add_balance(source, -amount)
    return None


def _claim_preflight(tx: Transaction, rules: Rules) -> None:
    check_ceiling(tx, rules)
    require(not rules.cleanup or tx.json["Channel"] != keylets.ZERO_HASH, "temMALFORMED")
    balance, amount = tx.json.get("Balance"), tx.json.get("Amount")
    for value in (balance, amount):
        if value is not None:
            legal_drops(value)
    if balance is not None and amount is not None:
        require(int(balance) <= int(amount), "temBAD_AMOUNT")
    require(not tx.flags & ~(UNIVERSAL_FLAGS | TF_RENEW | TF_CLOSE), "temINVALID_FLAG")
    require(tx.flags & (TF_RENEW | TF_CLOSE) != TF_RENEW | TF_CLOSE, "temMALFORMED")
    if "Signature" in tx.json:
        _check_claim_signature(tx)
    check_credentials(tx)


def _check_claim_signature(tx: Transaction) -> None:
    """The signature must verify under the transaction's PublicKey; whether it is the channel's, apply asks."""
    require("PublicKey" in tx.json and "Balance" in tx.json, "temMALFORMED")
    require(is_known_key(tx.json["PublicKey"]), "temMALFORMED")
    signed = int(tx.json.get("Amount", tx.json["Balance"]))
    require(claim_is_signed(tx, signed), "temBAD_SIGNATURE")


def _claim_preclaim(_reader: Reader, _context: LedgerContext, tx: Transaction) -> None:
    refuse_credentials(tx)


def _claim_apply(applying: Apply) -> None:
    tx = applying.tx
    channel = _channel(applying, "tecNO_TARGET")
    if _expired(channel, applying.context):
        return _close(applying, channel)
    is_source, is_destination = tx.account == channel["Account"], tx.account == channel["Destination"]
    require(is_source or is_destination, "tecNO_PERMISSION")
    if "Balance" in tx.json:
        _pay_out(applying, channel, is_destination)
    if tx.flags & TF_RENEW:
        require(is_source, "tecNO_PERMISSION")
        channel.pop("Expiration", None)
    if tx.flags & TF_CLOSE:
        if is_destination or channel["Balance"] == channel["Amount"]:
            return _close(applying, channel)
        soonest = _after(applying.context, channel["SettleDelay"])
        if channel.get("Expiration", MAX_UINT32 + 1) > soonest:
            channel["Expiration"] = soonest
    return None


def _pay_out(applying: Apply, channel: Fields, by_destination: bool) -> None:
    tx, cleanup = applying.tx, applying.context.rules.cleanup
    wanted = int(tx.json["Balance"])
    if by_destination:
        require("Signature" in tx.json, "tecNO_PERMISSION" if cleanup else "temBAD_SIGNATURE")
    if "Signature" in tx.json and tx.json["PublicKey"] != channel["PublicKey"]:
        raise Reject("tecNO_PERMISSION" if cleanup else "temBAD_SIGNER")
    require(int(channel["Balance"]) < wanted <= int(channel["Amount"]), "tecUNFUNDED_PAYMENT")
    require(read_account(applying.view, channel["Destination"]) is not None, "tecNO_DST")
    require(preauthorized(applying.view, channel["Destination"], tx.account), "tecNO_PERMISSION")
    add_balance(peek_account(applying.view, channel["Destination"]), wanted - int(channel["Balance"]))
    channel["Balance"] = str(wanted)


def _channel(applying: Apply, absent: str) -> Fields:
    channel = applying.view.peek(applying.tx.json["Channel"])
    if channel is None or channel["LedgerEntryType"] != "PayChannel":
        raise Reject(absent)
    return channel


def _expired(channel: Fields, context: LedgerContext) -> bool:
    """Whether CancelAfter or Expiration is reached; with fixCleanup3_2_0, whether it is passed."""
    now = context.parent_close_time
    times = [channel[name] for name in ("CancelAfter", "Expiration") if name in channel]
    return any(now > time if context.rules.cleanup else now >= time for time in times)


def _after(context: LedgerContext, delay: int) -> int:
    """Parent close time plus a delay: wraps modulo 2^32, or stays at 2^32-1 with fixCleanup3_2_0."""
    total = context.parent_close_time + delay
    return min(total, MAX_UINT32) if context.rules.cleanup else total & MAX_UINT32


def _close(applying: Apply, channel: Fields) -> None:
    """Delete the channel: out of both directories (whose roots stay), the remainder and the reserve to the source."""
    view, key = applying.view, applying.tx.json["Channel"]
    directory.remove(view, channel["Account"], channel["OwnerNode"], key, keep_root=True)
    if "DestinationNode" in channel:
        directory.remove(view, channel["Destination"], channel["DestinationNode"], key, keep_root=True)
    source = peek_account(view, channel["Account"])
    add_balance(source, int(channel["Amount"]) - int(channel["Balance"]))
    source["OwnerCount"] -= 1
    view.erase(key)


KINDS: Final = {
    "PaymentChannelCreate": Kind(0, _create_preflight, _create_apply, _create_preclaim),
    "PaymentChannelFund": Kind(0, _fund_preflight, _fund_apply),
    "PaymentChannelClaim": Kind(
        TF_RENEW | TF_CLOSE, _claim_preflight, _claim_apply, _claim_preclaim, flags_first=False
    ),
}
