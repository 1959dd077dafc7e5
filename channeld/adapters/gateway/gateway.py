"""Between the broker and the claim desk: messages in, requests to the desk, replies out, and then acknowledgements.

Everything that one turn of the loop brought is decided as one group, without waiting for company. A message is
acknowledged only after what was decided about it is durable and its reply is queued; one that cannot be taken now stays
unacknowledged, so that the broker keeps it and memory does not grow.

Servers share sessions, and the broker sends only so much of one ahead of our acknowledgements. So what a server asks
beyond its share must not wait: it is refused unread, which costs far less than deciding it, and behind the group that
what came with it is decided in. Once more waits than one group holds, groups are small and in fair turns, and between
two of them all sockets are read: then nobody waits for more than a small group, however much somebody else sends.

Every request is answered, but one that expired or is too large. When more replies wait than there is room for, nothing
is taken from the broker any more until a tenth of them has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from channeld.adapters.gateway.owed import Owed
from channeld.adapters.gateway.ports import Message, Outbox, Waiting, around
from channeld.adapters.gateway.presence import Presence
from channeld.adapters.gateway.refusals import Refusals
from channeld.core.admission import Admission, Group
from channeld.core.requests import Answer, Ask, Code, HandIn, Refusal, Taken
from channeld.wire.claims import ClaimReader
from channeld.wire.query import weigh_query
from channeld.wire.receive import read_hand_in, taken_in
from channeld.wire.replies import replies, reply
from channeld.wire.requests import LARGEST_ANSWERED, Parsed
from channeld.wire.strict import readable_id
from channeld.wire.topics import PLAIN_TOPIC, Topics
from channeld.wire.unread import weigh

_MS: Final = 1_000_000
GROUP: Final = Group(256, 1024, 12 * _MS)
"""Requests decided in one transaction: bounds how long the loop is held."""
FAIR_GROUP: Final = Group(128, 512, 6 * _MS)
"""While more wait than one group holds: bounds how long a lone request waits."""
FAIR_SHARE: Final = 4
"""And no server has more than this part of it, or as much as takes as long as the commit: beside a flood few others
wait, and where the disk is slow small groups would be mostly commits."""


class Gateway:
    """One for a daemon. `answer` decides a group of requests durably, in order, `take_in` one of claims that payers
    signed for us; neither must raise.

    With `most_queued` replies waiting for the broker nothing more is decided until `go_on` says that it has taken some.
    `dropped` is told why a message got no answer: a word of a small closed set; `refused` by which code requests were
    refused that the desk never saw, and how many. `nanoseconds` is a clock that never goes back, and `later` calls back
    once all sockets were served.
    """

    def __init__(
        self,
        topics: Topics,
        reader: ClaimReader,
        answer: Callable[[Sequence[Ask]], list[Answer]],
        take_in: Callable[[Sequence[HandIn]], list[Taken | Refusal]],
        *,
        most_queued: int,
        status: Callable[[bool], bytes],
        dropped: Callable[[str], None],
        loop_time: Callable[[], float],
        admission: Admission[Waiting],
        refused: Callable[[str, int], None],
        nanoseconds: Callable[[], int],
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        self._topics, self._reader, self._answer, self._take_in = topics, reader, answer, take_in
        self._dropped, self._time = dropped, loop_time
        self._most_queued = most_queued
        self._admission, self._refused = admission, refused
        self._nanoseconds, self._later = nanoseconds, later
        self._owed = Owed(topics, dropped)
        self._refusals = Refusals(most_queued, self._owed.queue, self._count_refused)
        self._scheduled = self._closed = self._held_back = False
        self.held = False
        self.presence = Presence(topics.status, status, self._say_status, loop_time)
        self.on_witness: Callable[[bytes], None] = lambda payload: None
        self.on_retained: Callable[[str, bytes], bool] = lambda topic, payload: False
        self.on_query: Callable[[str, bytes, Callable[[bytes], None]], None]
        """Answers a query, at once or later; there before the first message."""
        self.commit_ns: Callable[[], int] = lambda: 0
        """How long it took to make durable what was asked of `answer` last."""
        self.on_rejected: Callable[[str, Code, int], None] = lambda server, code, count: None
        self._queries, self._asked = 0, deque[tuple[Message, str]]()

    @property
    def waiting(self) -> int:
        """Requests taken from the socket and not decided or not answered yet."""
        return self._admission.waiting + len(self._asked) + len(self._owed)

    def close(self) -> None:
        """Decide nothing more: what waits stays the broker's."""
        self._closed = True

    @property
    def outbox(self) -> Outbox:
        """The broker's side, to be set before the first message."""
        return self._owed.out

    @outbox.setter
    def outbox(self, outbox: Outbox) -> None:
        self._owed.out = outbox

    def _say_status(self, payload: bytes) -> None:
        self.outbox.publish(self._topics.status, payload, retain=True)

    # --- requests ----------------------------------------------------------------------------------------------------

    def on_messages(self, messages: Sequence[Message]) -> None:
        """Take what one read of the socket brought."""
        now = self._nanoseconds()
        find, admit, out = self._topics.request, self._admission.admit, self.outbox
        crowded = out.queued_out * 4 >= self._most_queued  # else nobody's line can be half as long as what is free
        for message in messages:
            found = find(message.topic)
            if found is None:
                self._not_a_request(message)
                out.ack(message)
                continue
            server, query = found[0], found[1] == "query"
            cost = weigh_query(message.payload) if query else weigh(message.payload)
            if message.correlation_data is not None or message.response_topic is not None:
                cost += around(message) >> 10  # which waits with it
            refusal = self._refusals.clogged(server, out) if crowded else None
            if refusal is None and (refusal := admit(server, (message, *found), cost, now)) is None:
                self._queries += query
            else:
                self._refuse(message, server, refusal)
        if self._due >= self._most_queued:
            self._hold_back(True)
        self.go_on()  # behind what the other sockets bring in this turn of the loop: one group for all

    @property
    def _due(self) -> int:
        """Replies that wait, those of refusals with them."""
        return self.outbox.queued_out + self._refusals.due

    def _hold_back(self, held: bool) -> None:
        """Leave with the broker what it has not sent yet, or take it again."""
        if held != self._held_back:
            self._held_back = held
            self.outbox.hold_back(held)

    def hold(self) -> None:
        """Decide no request until `release`; what is no request is seen to all the same."""
        self.held = True

    def release(self) -> None:
        """Decide again, what waited first."""
        self.held = False
        self.go_on()

    def _fair_size(self) -> int:
        admission = self._admission
        size = admission.size(FAIR_GROUP)
        return admission.waiting_within(size, max(size // FAIR_SHARE, min(size, admission.worth_a_commit)))

    @property
    def _ready(self) -> bool:
        """Whether something may be decided: nothing holds it up, and there is room for the replies of a group."""
        return not (self.held or self._closed or self._owed) and self.outbox.queued_out < self._most_queued

    def _decide_next(self, taken: list[Waiting]) -> None:
        """Decide a group, and learn how long it took."""
        began = self._nanoseconds()
        queries: list[Waiting] = []
        if self._queries:
            queries = [waiting for waiting in taken if waiting[2] == "query"]
            taken = [waiting for waiting in taken if waiting[2] != "query"]
            self._queries -= len(queries)
        group = self._read_all(taken)
        commit_ns = self._decide(group)
        self._asked.extend((message, server) for message, server, _ in queries)
        self._answer_queries()  # behind the claims: what was asked before is decided
        count, took = sum(len(parsed) for _, _, parsed, _ in group), self._nanoseconds() - began
        self._admission.decided(count, took, commit_ns)

    def go_on(self) -> None:
        """There is something to do in the next turn of the loop: the broker has taken replies, say."""
        if not self._scheduled:
            self._scheduled = True
            self._later(self._turn)

    def _turn(self) -> None:
        """All sockets were served: decide a group, then refuse some; the rest when they were served again."""
        self._scheduled = False
        if self._closed:
            return
        try:
            if self._owed:
                self._owed.send_again()
            self._answer_queries()
            behind = self._decide_some()
            if self._refusals.due:
                self.outbox.send()  # what was decided waits for no refusal
                self._refusals.answer(self.outbox)
        finally:
            if self._held_back and self._due * 10 < self._most_queued * 9:  # soon: what others ask waits there as well
                self._hold_back(False)
        if behind or (self._refusals.due and self.outbox.queued_out * 2 < self._most_queued):
            self.go_on()

    def _decide_some(self) -> bool:
        """Decide a group of what waits, if its replies can be queued; whether there is more than that."""
        admission = self._admission
        if not (admission.waiting and self._ready):
            return False
        behind = admission.waiting > admission.size(GROUP)
        self._decide_next(admission.take(self._fair_size() if behind else admission.size(GROUP)))
        return behind

    def _refuse(self, message: Message, server: str, refusal: Refusal) -> None:
        if (why := self._unanswerable(message)) is not None:
            self._dropped(why)
            self.outbox.ack(message)
        else:
            self._refusals.add(message, server, refusal)

    def _count_refused(self, server: str, code: Code, count: int) -> None:
        self._refused(code.value, count)
        self.on_rejected(server, code, count)

    # --- reading and deciding ----------------------------------------------------------------------------------------

    def _read_all(self, taken: list[Waiting]) -> list[tuple[Message, str, list[Parsed], bool]]:
        """Read a group; what gets no answer is done with on the way."""
        group: list[tuple[Message, str, list[Parsed], bool]] = []
        for message, server, verb in taken:
            read = self._read(message, server, verb)
            if read is None:
                self.outbox.ack(message)
            else:
                group.append((message, server, *read))
        return group

    def _read(self, message: Message, server: str, verb: str) -> tuple[list[Parsed], bool] | None:
        """The requests in a message and whether they are a batch; None for what gets no answer."""
        if (why := self._unanswerable(message)) is not None:
            self._dropped(why)
            return None
        if verb == "receive":
            parsed, batch = [read_hand_in(server, message.payload)], False
        else:
            parsed, batch = self._reader.read(server, message.payload)
        refusal = self._refusal(message, server)
        if refusal is None:
            return parsed, batch
        return [Parsed(None if batch else parsed[0].id, Refusal(*refusal))], False

    def _answer_queries(self) -> None:
        """As long as there is room: an answer may be long, and what waits here costs nothing."""
        asked = self._asked
        while asked and self._ready:
            self._query(*asked.popleft())

    def _query(self, message: Message, server: str) -> None:
        """Let somebody answer who reads only; acknowledge behind the answer, for nothing of it has to be durable."""
        if (why := self._unanswerable(message)) is not None:
            self._dropped(why)
            self.outbox.ack(message)
            return

        def answer(payload: bytes) -> None:
            self._owed.send(message, server, payload)

        refusal = self._refusal(message, server)
        if refusal is not None:
            answer(reply(readable_id(message.payload), Refusal(*refusal)))
        else:
            self.on_query(server, message.payload, answer)

    def _unanswerable(self, message: Message) -> str | None:
        if message.expires_at is not None and self._time() > message.expires_at:
            return "expired"
        return "oversized" if len(message.payload) > LARGEST_ANSWERED else None

    def _refusal(self, message: Message, server: str) -> tuple[Code, str] | None:
        """What is wrong with the message around the request."""
        if message.retain:
            return Code.BAD_REQUEST, "a request may not be retained: publish it without the retain flag"
        topic = message.response_topic
        if message.bad_response_topic or (topic is not None and not self._topics.allows_response(server, topic)):
            own = f"{self._topics.reply(server)} or below it"
            return Code.BAD_RESPONSE_TOPIC, f"the Response Topic must be {own}, {PLAIN_TOPIC}"
        return None

    def _not_a_request(self, message: Message) -> None:
        """A witness; our own status; or something else that is retained, such as a channel as the broker holds it."""
        if message.topic == self._topics.witness:
            self.on_witness(message.payload)
        elif message.topic == self.presence.topic:
            self.presence.heard(message)
        elif not self.on_retained(message.topic, message.payload):
            self._dropped("topic")

    def _decide(self, group: list[tuple[Message, str, list[Parsed], bool]]) -> int:
        """Decide a group, queue the replies, then acknowledge. How long its commit took: 0 where nobody asks for a
        claim.
        """
        asks = [p.ask for _, _, parsed, _ in group for p in parsed if isinstance(p.ask, Ask)]
        answers = iter(self._answer(asks) if asks else [])
        claims = [p.ask for _, _, parsed, _ in group for p in parsed if isinstance(p.ask, HandIn)]
        taken = iter(self._take_in(claims) if claims else [])

        for message, server, parsed, batch in group:
            items = [
                reply(p.id, next(answers)) if isinstance(p.ask, Ask) else self._not_asked(p.id, p.ask, server, taken)
                for p in parsed
            ]
            self._owed.send(message, server, replies(items) if batch else items[0])
        return self.commit_ns() if asks else 0

    def _not_asked(
        self, request_id: str | None, read: HandIn | Refusal, server: str, taken: Iterator[Taken | Refusal]
    ) -> bytes:
        """The reply to what asks for no claim: one to take a claim in is answered in turn, what is bad at once."""
        if isinstance(read, Refusal):
            self._count_refused(server, read.code, 1)
            return reply(request_id, read)
        said = next(taken)
        return taken_in(request_id, said) if isinstance(said, Taken) else reply(request_id, said)
