"""What the demo and the tests stand on: a ledger that behaves as rippled does, an MQTT broker, paying content servers."""
