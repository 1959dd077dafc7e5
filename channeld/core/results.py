"""What every result code of the ledger asks of us, as data.

A code comes twice. In the answer to a submission it is provisional, whatever it says: it may tell us how to go on,
never that something happened or did not. In a validated ledger it is final, but success is judged by what changed
(`outcome`); here stands what a claimed failure (tec) means for what comes next.

Sources: rippled TER.h, Transactor.cpp (invokePreflight, checkSeqProxy, checkPriorTxAndLastLedger), TxQ.cpp,
PayChan.cpp; NetworkOPs.cpp processTransaction (why a first answer is not final).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from channeld.core.intents import Kind


class Act(enum.Enum):
    """What a provisional answer asks for. None of them ends anything: only validated ledgers do."""

    WAIT = "wait"
    """Taken, held or in line: the identical blob again with every ledger."""
    LOOK_UP = "look_up"
    """The number is used up, perhaps by this very transaction: validated ledgers tell by whom; until then nothing."""
    BACK_OFF = "back_off"
    """Not taken for its fee or for want of room: again, less and less often; its successor offers more."""
    OTHER_NODE = "other_node"
    """The node is in trouble: the same blob to another."""
    UNFUNDED = "unfunded"
    """The account cannot pay the fee: people must know; the same blob again."""
    IMPOSSIBLE = "impossible"
    """It can never succeed as it is: its intent fails once its last ledger is over, and its number is free then."""
    MISCONFIGURED = "misconfigured"
    """Network or key are wrong: as impossible, and people must know."""


class After(enum.Enum):
    """What a failure in a validated ledger means for its intent, which has failed."""

    DECIDE_ANEW = "decide_anew"
    """The channel was not as we thought: what is due is decided from what it is, after a pause."""
    CHANNEL_GONE = "channel_gone"
    """There is no such channel any more."""
    REFUSED = "refused"
    """The payee's account does not take it: people and servers are told, a payout waits long, a close goes alone."""
    FAIL = "fail"
    """Nothing to be learnt from it: after a pause, longer each time, it may be tried again."""
    UNFUNDED = "unfunded"
    """The wallet lacks money or reserve: as fail, and people must know."""


_ACTS: Final[Mapping[Act, str]] = {
    Act.WAIT: "tesSUCCESS terQUEUED terPRE_SEQ terPRE_TICKET terRETRY tefALREADY tefMAX_LEDGER",
    Act.LOOK_UP: "tefPAST_SEQ tefNO_TICKET",
    Act.BACK_OFF: "telINSUF_FEE_P telCAN_NOT_QUEUE telCAN_NOT_QUEUE_BALANCE telCAN_NOT_QUEUE_BLOCKS"
    " telCAN_NOT_QUEUE_BLOCKED telCAN_NOT_QUEUE_FEE telCAN_NOT_QUEUE_FULL",
    Act.OTHER_NODE: "telLOCAL_ERROR tefFAILURE tefINTERNAL tefEXCEPTION tefBAD_LEDGER",
    Act.UNFUNDED: "terINSUF_FEE_B",
    Act.IMPOSSIBLE: "temMALFORMED temBAD_AMOUNT temBAD_EXPIRATION temBAD_FEE temBAD_SEQUENCE temBAD_SIGNATURE"
    " temBAD_SRC_ACCOUNT temDST_IS_SRC temINVALID temINVALID_FLAG temDISABLED temBAD_SIGNER temSEQ_AND_TICKET"
    " tefWRONG_PRIOR terNO_ACCOUNT",
    Act.MISCONFIGURED: "telWRONG_NETWORK telREQUIRES_NETWORK_ID telNETWORK_ID_MAKES_TX_NON_CANONICAL tefBAD_AUTH"
    " tefMASTER_DISABLED tefBAD_AUTH_MASTER tefNOT_MULTI_SIGNING",
}
PROVISIONAL: Final[Mapping[str, Act]] = MappingProxyType(
    {code: act for act, codes in _ACTS.items() for code in codes.split()}
)
"""Every code of its own; all others go by their class."""
_CLASSES: Final[Mapping[str, Act]] = MappingProxyType(
    {"tel": Act.BACK_OFF, "tef": Act.WAIT, "tem": Act.IMPOSSIBLE, "ter": Act.WAIT, "tes": Act.WAIT, "tec": Act.WAIT}
)

_AFTERS: Final[Mapping[After, str]] = {
    After.DECIDE_ANEW: "tecUNFUNDED_PAYMENT tecEXPIRED",
    After.CHANNEL_GONE: "tecNO_TARGET tecNO_ENTRY",
    After.REFUSED: "tecNO_PERMISSION tecNO_DST tecDST_TAG_NEEDED",
    After.UNFUNDED: "tecUNFUNDED tecINSUFF_FEE tecINSUFFICIENT_RESERVE",
    After.FAIL: "tecDIR_FULL tecOVERSIZE tecHAS_OBLIGATIONS tecBAD_CREDENTIALS",
}
CLAIMED: Final[Mapping[str, After]] = MappingProxyType(
    {code: after for after, codes in _AFTERS.items() for code in codes.split()}
)
"""Every tec of its own; any other fails."""
_PAYEE_HAS_A_SAY: Final = frozenset({Kind.OPEN, Kind.SETTLE, Kind.REQUEST_CLOSE})


def act_on(code: str) -> Act:
    """What a provisional answer asks for; a code nobody knows is waited out."""
    return PROVISIONAL.get(code) or _CLASSES.get(code[:3], Act.WAIT)


def after(code: str, kind: Kind) -> After:
    """What the validated failure `code` of an intent of `kind` means.

    tecNO_PERMISSION says "the payee refuses" only where the payee has a say (a new channel, a payout); a Fund that
    meets it was not the source's, or is under a rule we do not know: the channel is looked at again.
    """
    found = CLAIMED.get(code, After.FAIL)
    return After.DECIDE_ANEW if found is After.REFUSED and kind not in _PAYEE_HAS_A_SAY else found
