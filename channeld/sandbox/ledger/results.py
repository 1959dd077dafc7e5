"""Transaction results: rippled's names, numbers and texts.

Classes by number: tel -399..-300 local, tem -299..-200 malformed, tef -199..-100 failure, ter -99..-1 retry, tes 0
success, tec 100.. claimed fee. Only tes and tec get into a ledger.

Sources: rippled include/xrpl/protocol/TER.h, src/libxrpl/protocol/TER.cpp (2.3.0).
"""

from __future__ import annotations

from typing import Final

_TABLE: Final = """
tesSUCCESS 0 The transaction was applied. Only final in a validated ledger.
telLOCAL_ERROR -399 Local failure.
telINSUF_FEE_P -394 Fee insufficient.
telNO_DST_PARTIAL -393 Partial payment to create account not allowed.
telCAN_NOT_QUEUE -392 Can not queue at this time.
telCAN_NOT_QUEUE_BALANCE -391 Can not queue at this time: insufficient balance to pay all queued fees.
telCAN_NOT_QUEUE_BLOCKS -390 Can not queue at this time: would block later queued transaction(s).
telCAN_NOT_QUEUE_BLOCKED -389 Can not queue at this time: blocking transaction in queue.
telCAN_NOT_QUEUE_FEE -388 Can not queue at this time: fee insufficient to replace queued transaction.
telCAN_NOT_QUEUE_FULL -387 Can not queue at this time: queue is full.
telWRONG_NETWORK -386 Transaction specifies a Network ID that differs from that of the local node.
telREQUIRES_NETWORK_ID -385 Transactions submitted to this node/network must include a correct NetworkID field.
telNETWORK_ID_MAKES_TX_NON_CANONICAL -384 Transactions submitted to this node/network MUST NOT include a NetworkID\
 field.
temMALFORMED -299 Malformed transaction.
temBAD_AMOUNT -298 Malformed: Bad amount.
temBAD_EXPIRATION -296 Malformed: Bad expiration.
temBAD_FEE -295 Invalid fee, negative or not XRP.
temBAD_REGKEY -289 Malformed: Regular key cannot be same as master key.
temBAD_SEND_XRP_LIMIT -288 Malformed: Limit quality is not allowed for XRP to XRP.
temBAD_SEND_XRP_MAX -287 Malformed: Send max is not allowed for XRP to XRP.
temBAD_SEND_XRP_NO_DIRECT -286 Malformed: No Ripple direct is not allowed for XRP to XRP.
temBAD_SEND_XRP_PARTIAL -285 Malformed: Partial payment is not allowed for XRP to XRP.
temBAD_SEND_XRP_PATHS -284 Malformed: Paths are not allowed for XRP to XRP.
temBAD_SIGNATURE -282 Malformed: Bad signature.
temBAD_SRC_ACCOUNT -281 Malformed: Bad source account.
temBAD_TRANSFER_RATE -280 Malformed: Transfer rate must be >= 1.0 and <= 2.0
temDST_IS_SRC -279 Destination may not be source.
temDST_NEEDED -278 Destination not specified.
temINVALID -277 The transaction is ill-formed.
temINVALID_FLAG -276 The transaction has an invalid flag.
temREDUNDANT -275 The transaction is redundant.
temDISABLED -273 The transaction requires logic that is currently disabled.
temBAD_SIGNER -272 Malformed: No signer may duplicate account or other signers.
temBAD_TICK_SIZE -269 Malformed: Tick size out of range.
temINVALID_ACCOUNT_ID -268 Malformed: A field contains an invalid account ID.
temCANNOT_PREAUTH_SELF -267 Malformed: An account may not preauthorize itself.
temINVALID_COUNT -266 Malformed: Count field outside valid range.
temUNKNOWN -264 The transaction requires logic that is not implemented yet.
temSEQ_AND_TICKET -263 Transaction contains a TicketSequence and a non-zero Sequence.
tefFAILURE -199 Failed to apply.
tefALREADY -198 The exact transaction was already in this ledger.
tefBAD_AUTH -196 Transaction's public key is not authorized.
tefEXCEPTION -193 Unexpected program state.
tefINTERNAL -192 Internal error.
tefPAST_SEQ -190 This sequence number has already passed.
tefWRONG_PRIOR -189 This previous transaction does not match.
tefMASTER_DISABLED -188 Master key is disabled.
tefMAX_LEDGER -187 Ledger sequence too high.
tefBAD_LEDGER -195 Ledger in unexpected state.
tefNOT_MULTI_SIGNING -184 Account has no appropriate list of multi-signers.
tefNO_TICKET -180 Ticket is not in ledger.
terRETRY -99 Retry transaction.
terINSUF_FEE_B -97 Account balance can't pay fee.
terNO_ACCOUNT -96 The source account does not exist.
terPRE_SEQ -92 Missing/inapplicable prior transaction.
terQUEUED -89 Held until escalated fee drops.
terPRE_TICKET -88 Ticket is not yet in ledger.
tecUNFUNDED_PAYMENT 104 Insufficient XRP balance to send.
tecDIR_FULL 121 Can not add entry to full directory.
tecNO_DST 124 Destination does not exist. Send XRP to create it.
tecNO_DST_INSUF_XRP 125 Destination does not exist. Too little XRP sent to create it.
tecUNFUNDED 129 Not enough XRP to satisfy the reserve requirement.
tecNO_ALTERNATIVE_KEY 130 The operation would remove the ability to sign transactions with the account.
tecOWNERS 132 Non-zero owner count.
tecINSUFF_FEE 136 Insufficient balance to pay fee.
tecNO_TARGET 138 Target account does not exist.
tecNO_PERMISSION 139 No permission to perform requested operation.
tecNO_ENTRY 140 No matching entry found.
tecINSUFFICIENT_RESERVE 141 Insufficient reserve to complete requested operation.
tecNEED_MASTER_KEY 142 The operation requires the use of the Master Key.
tecDST_TAG_NEEDED 143 A destination tag is required.
tecINTERNAL 144 An internal error has occurred during processing.
tecEXPIRED 148 Expiration time is passed.
tecDUPLICATE 149 Ledger object already exists.
tecHAS_OBLIGATIONS 151 The account cannot be deleted since it has obligations.
tecTOO_SOON 152 It is too early to attempt the requested operation. Please wait.
tecBAD_CREDENTIALS 193 Bad credentials.
"""


def _parse() -> dict[str, tuple[int, str]]:
    rows = (line.split(" ", 2) for line in _TABLE.strip().splitlines())
    return {name: (int(number), text) for name, number, text in rows}


RESULTS: Final = _parse()
"""Every result this ledger can give: name -> (number, text)."""


def number_of(result: str) -> int:
    """The engine_result_code of a result."""
    return RESULTS[result][0]


def text_of(result: str) -> str:
    """The engine_result_message of a result."""
    return RESULTS[result][1]


def is_claimed(result: str) -> bool:
    """tec: the fee and the sequence are used, nothing else happens."""
    return result.startswith("tec")


def is_final_failure(result: str) -> bool:
    """tel, tem or tef: this attempt can not succeed in this ledger, whatever comes after it."""
    return result.startswith(("tel", "tem", "tef"))


class Reject(Exception):
    """Ends a transaction with a result other than tesSUCCESS. Carries the result's name."""

    def __init__(self, result: str) -> None:
        self.result = result
        super().__init__(result)


def require(condition: bool, result: str) -> None:
    """Reject with `result` unless `condition` holds."""
    if not condition:
        raise Reject(result)
