"""The witness on the broker, between the gateway that reads it and the watch that judges it."""

from __future__ import annotations

import structlog

from channeld.adapters.broker import Exchange
from channeld.adapters.gateway import Gateway
from channeld.core.errors import Malformed
from channeld.core.witness import Witness
from channeld.service.witness_watch import WitnessWatch
from channeld.wire.daemons import marker_payload, read_witness, witness_payload

log = structlog.get_logger()


class BrokerWitness:
    """The retained message at topic `name`; `attach` it to the watch before the broker is connected."""

    def __init__(self, gateway: Gateway, broker: Exchange, name: str) -> None:
        self.name, self._gateway, self._broker = name, gateway, broker

    def attach(self, watch: WitnessWatch) -> None:
        """Tell `watch` what comes on the topic."""

        def take(payload: bytes) -> None:
            try:
                said = read_witness(payload)
            except Malformed:
                if payload:  # an empty one cleared the topic
                    log.warning("witness_unreadable", topic=self.name)
                return
            if isinstance(said, Witness):
                watch.witnessed(said)
            else:
                watch.marked(said)

        self._gateway.on_witness = take

    @property
    def connected(self) -> bool:
        """Whether the broker took us."""
        return self._broker.connected

    def mark(self, marker: str) -> None:
        """Publish a marker, not retained."""
        self._broker.publish(self.name, marker_payload(marker))

    def publish(self, witness: Witness) -> None:
        """Publish a witness, retained."""
        self._broker.publish(self.name, witness_payload(witness), retain=True)

    def hold(self) -> None:
        """Decide no request until `release`."""
        self._gateway.hold()

    def release(self) -> None:
        """Decide requests again."""
        self._gateway.release()
