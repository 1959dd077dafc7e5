"""account_info, account_channels, account_objects.

Sources: rippled AccountInfo.cpp, AccountChannels.cpp, AccountObjects.cpp, RPCHelpers.cpp getAccountObjects,
AccountTx.cpp (2.3.0).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from channeld.sandbox.ledger import directory, keylets
from channeld.sandbox.ledger.api.call import Call, Chosen, is_address, is_hash, with_index
from channeld.sandbox.ledger.api.errors import RpcError, expected, invalid, missing
from channeld.sandbox.ledger.state import Fields
from channeld.sandbox.ledger.transact import read_account
from channeld.xrpl_core import addresscodec

_FLAGS: Final = {
    "allowTrustLineClawback": 0x80000000,
    "defaultRipple": 0x00800000,
    "depositAuth": 0x01000000,
    "disableMasterKey": 0x00100000,
    "disallowIncomingCheck": 0x08000000,
    "disallowIncomingNFTokenOffer": 0x04000000,
    "disallowIncomingPayChan": 0x10000000,
    "disallowIncomingTrustline": 0x20000000,
    "disallowIncomingXRP": 0x00080000,
    "globalFreeze": 0x00400000,
    "noFreeze": 0x00200000,
    "passwordSpent": 0x00010000,
    "requireAuthorization": 0x00040000,
    "requireDestinationTag": 0x00020000,
}
_TYPES: Final = {
    "payment_channel": "PayChannel",
    "ticket": "Ticket",
    "deposit_preauth": "DepositPreauth",
    "check": "Check",
    "escrow": "Escrow",
    "offer": "Offer",
    "signer_list": "SignerList",
    "state": "RippleState",
    "nft_offer": "NFTokenOffer",
    "nft_page": "NFTokenPage",
    "credential": "Credential",
    "did": "DID",
    "oracle": "Oracle",
}
_BLOCKERS: Final = {"PayChannel"}


def account_info(call: Call) -> dict[str, Any]:
    """An account's root, its flags in words and, if asked for, what it has queued."""
    name = "account" if "account" in call.params else "ident"
    if name not in call.params:
        raise missing("account")
    chosen = call.objects()
    if not is_address(call.params[name]):
        raise RpcError("actMalformed", **chosen.fields)
    address = call.params[name]
    root = read_account(chosen.reader, address)
    if root is None:
        raise RpcError("actNotFound", account=address, **chosen.fields)
    if call.params.get("queue") and not chosen.is_open:
        raise RpcError("invalidParams", **chosen.fields)
    result: dict[str, Any] = {
        "account_data": with_index(keylets.account(address), root),
        "account_flags": {word: bool(root["Flags"] & flag) for word, flag in _FLAGS.items()},
        **chosen.fields,
    }
    if call.params.get("signer_lists"):
        (result if call.api_version > 1 else result["account_data"])["signer_lists"] = []
    if call.params.get("queue"):
        result["queue_data"] = _queue_data(call, address)
    return result


def _queue_data(call: Call, address: str) -> dict[str, Any]:
    waiting = call.node.queue.of(address)
    if not waiting:
        return {"txn_count": 0}
    rows = []
    for candidate in waiting:
        tx = candidate.tx
        row: dict[str, Any] = {"auth_change": False, "fee": str(tx.fee), "fee_level": str(candidate.level)}
        row |= {"max_spend_drops": str(tx.fee + tx.spend), "seq" if tx.ticket is None else "ticket": tx.proxy}
        rows.append(row | ({} if tx.last_ledger is None else {"LastLedgerSequence": tx.last_ledger}))
    sequences = [row["seq"] for row in rows if "seq" in row]
    data = {"auth_change_queued": False, "transactions": rows, "txn_count": len(rows)}
    data["max_spend_drops_total"] = str(sum(int(row["max_spend_drops"]) for row in rows))
    if sequences:
        data |= {"lowest_sequence": min(sequences), "highest_sequence": max(sequences)}
    return data


def account_channels(call: Call) -> dict[str, Any]:
    """Channels whose source is the account. The limit counts every directory entry looked at, of any type.

    The marker's hint is the entry's OwnerNode even where the account is its destination, as rippled has it
    (getStartHint); a wrong hint costs a search from the root page and nothing else.
    """
    if "account" not in call.params:
        raise missing("account")
    chosen = call.objects()
    address = call.address()
    if read_account(chosen.reader, address) is None:
        raise RpcError("actNotFound")
    destination = call.params.get("destination_account")
    if destination and not is_address(destination):
        raise RpcError("actMalformed")
    limit = call.limit(default=200, least=10, most=400)
    after, hint = _channel_marker(call, chosen, address)
    channels, marker, count = [], "", 0
    try:
        for key in directory.entries_after(chosen.reader, address, after, hint):
            count += 1
            if count > limit:
                break
            fields = chosen.reader.read(key) or {}
            if count == limit:
                marker = f"{key},{int(fields.get('OwnerNode', '0'), 16)}"
            if _is_from(fields, address) and (not destination or fields["Destination"] == destination):
                channels.append(_channel_row(key, fields))
    except LookupError:
        raise RpcError("invalidParams") from None
    result = {"account": address, "channels": channels, **chosen.fields}
    return result | ({"limit": limit, "marker": marker} if count > limit else {})


def _is_from(fields: Fields, address: str) -> bool:
    return fields.get("LedgerEntryType") == "PayChannel" and fields["Account"] == address


def _channel_marker(call: Call, chosen: Chosen, address: str) -> tuple[str | None, int]:
    marker = call.params.get("marker")
    if marker is None:
        return None, 0
    if not isinstance(marker, str):
        raise expected("marker", "string")
    key, _, hint = marker.partition(",")
    if not is_hash(key) or not (hint.isascii() and hint.isdigit()):
        raise RpcError("invalidParams")
    fields = chosen.reader.read(key.upper())
    if fields is None or address not in (fields.get("Account"), fields.get("Destination")):
        raise RpcError("invalidParams")
    return key.upper(), int(hint)


@lru_cache(maxsize=4096)
def _base58_key(public_key: str) -> str | None:
    """A public key as an account public key ('a...'); None where its type is unknown."""
    known = public_key[:2] in ("ED", "02", "03")
    return str(addresscodec.encode_account_public_key(bytes.fromhex(public_key))) if known else None


def _channel_row(key: str, fields: Fields) -> dict[str, Any]:
    row = {
        "channel_id": key,
        "account": fields["Account"],
        "destination_account": fields["Destination"],
        "amount": fields["Amount"],
        "balance": fields["Balance"],
        "public_key_hex": fields["PublicKey"],
        "settle_delay": fields["SettleDelay"],
    }
    if (encoded := _base58_key(fields["PublicKey"])) is not None:
        row["public_key"] = encoded
    names = {"expiration": "Expiration", "cancel_after": "CancelAfter"}
    names |= {"source_tag": "SourceTag", "destination_tag": "DestinationTag"}
    return row | {name: fields[source] for name, source in names.items() if source in fields}


def account_objects(call: Call) -> dict[str, Any]:
    """Objects in the account's directory, both directions of channels mixed. The limit counts what the filter drops,
    too.
    """
    if "account" not in call.params:
        raise missing("account")
    chosen = call.objects()
    if not is_address(call.params["account"]):
        raise RpcError("actMalformed", **chosen.fields)
    address = call.params["account"]
    if read_account(chosen.reader, address) is None:
        raise RpcError("actNotFound")
    wanted = _wanted_types(call)
    limit = call.limit(default=200, least=10, most=400)
    keys, marker = _object_page(call, chosen, address, limit)
    found = [(key, chosen.reader.read(key) or {}) for key in keys]
    rows = [with_index(key, fields) for key, fields in found if wanted is None or fields["LedgerEntryType"] in wanted]
    result = {"account": address, "account_objects": rows, **chosen.fields}
    return result | ({} if marker is None else {"limit": limit, "marker": marker})


def _wanted_types(call: Call) -> set[str] | None:
    kind = call.params.get("type")
    if call.params.get("deletion_blockers_only"):
        return _BLOCKERS
    if kind is None:
        return None
    if not isinstance(kind, str):
        raise expected("type", "string")
    if kind not in _TYPES:
        raise invalid("type")
    return {_TYPES[kind]}


def _object_page(call: Call, chosen: Chosen, address: str, limit: int) -> tuple[list[str], str | None]:
    """Up to `limit` entries from the marker on, and the marker of the next one: page index, entry index."""
    start_page, start_key = _object_marker(call)
    root = keylets.owner_directory(address)
    taken: list[str] = []
    started = start_page is None
    for number, entries in directory.pages(chosen.reader, address):
        page_key = keylets.page(root, number)
        rest = entries
        if not started:
            if page_key != start_page:
                continue
            if start_key not in entries:
                raise invalid("marker")
            started, rest = True, entries[entries.index(start_key) :]
        for key in rest:
            if len(taken) == limit:
                return taken, f"{page_key},{key}"
            taken.append(key)
    if not started:
        raise invalid("marker")
    return taken, None


def _object_marker(call: Call) -> tuple[str | None, str]:
    marker = call.params.get("marker")
    if marker is None:
        return None, ""
    if not isinstance(marker, str):
        raise expected("marker", "string")
    page_key, _, key = marker.partition(",")
    if not (is_hash(page_key) and is_hash(key)):
        raise invalid("marker")
    return page_key.upper(), key.upper()
