"""The only rooms that know JSON shapes: the ledger's and the MQTT contract's."""
