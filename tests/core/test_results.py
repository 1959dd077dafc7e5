"""Every result code has an act, and every claimed failure a meaning; none is left to chance."""

from __future__ import annotations

import pytest

from channeld.core.intents import FundChannel, Kind, RequestClose, SettleChannel, Status
from channeld.core.outcome import LONGEST_REFUSED_S, LONGEST_RETRY_S, Outcome, setback_after
from channeld.core.results import CLAIMED, PROVISIONAL, Act, After, act_on, after
from channeld.core.units import ChannelId, Drops, RippleTime

# the codes of the reference, with what must be done about each (P: provisional, C: claimed in a validated ledger)
TABLE = {
    Act.WAIT: "tesSUCCESS terQUEUED terPRE_SEQ terPRE_TICKET terRETRY tefALREADY tefMAX_LEDGER",
    Act.UNFUNDED: "terINSUF_FEE_B",
    Act.BACK_OFF: "telINSUF_FEE_P telCAN_NOT_QUEUE telCAN_NOT_QUEUE_BALANCE telCAN_NOT_QUEUE_BLOCKS"
    " telCAN_NOT_QUEUE_BLOCKED telCAN_NOT_QUEUE_FEE telCAN_NOT_QUEUE_FULL",
    Act.OTHER_NODE: "telLOCAL_ERROR tefFAILURE tefINTERNAL tefEXCEPTION tefBAD_LEDGER",
    Act.MISCONFIGURED: "telWRONG_NETWORK telREQUIRES_NETWORK_ID telNETWORK_ID_MAKES_TX_NON_CANONICAL"
    " tefBAD_AUTH tefMASTER_DISABLED tefBAD_AUTH_MASTER",
    Act.LOOK_UP: "tefPAST_SEQ tefNO_TICKET",
    Act.IMPOSSIBLE: "terNO_ACCOUNT tefWRONG_PRIOR temMALFORMED temBAD_AMOUNT temBAD_EXPIRATION temBAD_FEE"
    " temBAD_SEQUENCE temBAD_SIGNATURE temBAD_SRC_ACCOUNT temDST_IS_SRC temINVALID temINVALID_FLAG temDISABLED"
    " temBAD_SIGNER temSEQ_AND_TICKET",
}
CLAIMS = (
    "tecUNFUNDED_PAYMENT tecDIR_FULL tecOVERSIZE tecNO_DST tecUNFUNDED tecINSUFF_FEE tecNO_TARGET tecNO_PERMISSION"
    " tecNO_ENTRY tecINSUFFICIENT_RESERVE tecDST_TAG_NEEDED tecEXPIRED tecHAS_OBLIGATIONS tecBAD_CREDENTIALS"
)
CHANNEL = ChannelId("A" * 64)
NOW = RippleTime(1000)


@pytest.mark.parametrize(("act", "code"), [(a, c) for a, codes in TABLE.items() for c in codes.split()])
def test_every_code_of_a_submission_has_its_act(act: Act, code: str) -> None:
    assert PROVISIONAL[code] is act
    assert act_on(code) is act


@pytest.mark.parametrize("code", CLAIMS.split())
def test_every_claimed_failure_has_its_meaning_and_is_waited_out_while_provisional(code: str) -> None:
    assert code in CLAIMED
    assert act_on(code) is Act.WAIT


def test_codes_nobody_knows_go_by_their_class_and_end_nothing() -> None:
    acts = {code: act_on(code) for code in ("tecNEW", "terNEW", "tesNEW", "tefNEW", "telNEW", "temNEW", "xyz", "")}
    assert acts == {
        **dict.fromkeys(("tecNEW", "terNEW", "tesNEW", "tefNEW", "xyz", ""), Act.WAIT),
        "telNEW": Act.BACK_OFF,
        "temNEW": Act.IMPOSSIBLE,
    }
    assert after("tecNEW", Kind.OPEN) is After.FAIL


def test_no_permission_is_a_refusal_only_where_the_payee_has_a_say() -> None:
    said = {kind: after("tecNO_PERMISSION", kind) for kind in Kind}
    assert [kind for kind, meaning in said.items() if meaning is After.REFUSED] == [
        Kind.OPEN,
        Kind.SETTLE,
        Kind.REQUEST_CLOSE,
    ]


def failed(meaning: After | None) -> Outcome:
    return Outcome(Status.FAILED, Drops(0), "tec", meaning)


def test_a_close_undone_by_a_refused_payout_goes_again_at_once_and_then_waits_like_any_other() -> None:
    close = RequestClose("hot", CHANNEL)
    first = setback_after(None, close, failed(After.REFUSED), NOW)
    assert (first.refused, first.retry_at) == (True, None)
    second = setback_after(first, close, failed(After.REFUSED), NOW)
    assert (second.refused, second.retry_at) == (True, NOW + 10)


def test_what_is_refused_is_asked_ever_more_rarely_and_a_payout_that_succeeds_ends_it() -> None:
    settle, known, waits = SettleChannel("hot", CHANNEL, Drops(5)), None, []
    for _ in range(18):
        known = setback_after(known, settle, failed(After.REFUSED), NOW)
        assert known.retry_at is not None
        waits.append(known.retry_at - NOW)
    assert waits[:4] == [10, 20, 40, 80]
    assert waits[-1] == LONGEST_REFUSED_S
    assert setback_after(known, settle, Outcome(Status.DONE, Drops(5), "tesSUCCESS"), NOW).over
    still = setback_after(known, FundChannel("hot", CHANNEL, Drops(9)), Outcome(Status.DONE, Drops(0), ""), NOW)
    assert still.refused


def test_other_failures_are_tried_again_within_the_hour() -> None:
    settle, known = SettleChannel("hot", CHANNEL, Drops(5)), None
    for _ in range(12):
        known = setback_after(known, settle, failed(After.FAIL), NOW)
    assert known is not None
    assert (known.retry_at, known.refused) == (NOW + LONGEST_RETRY_S, False)
