"""What the demo and the tests stand on: a ledger that behaves as rippled does, a broker, paying content servers."""
