"""channeld: pools of XRP Ledger payment channels, and signed claims over MQTT for those who sell by the piece."""

__version__ = "0.1.0"
