"""What the broker's adapter needs of the settings: where, as whom, over TLS or not, and how much at once."""

from __future__ import annotations

import ssl
from typing import Final

from channeld.adapters.broker import BrokerSettings
from channeld.core.errors import ConfigError
from channeld.settings import MqttSettings, Settings

SEND_LIMIT: Final = 20_000
"""Messages that may wait for the broker; half of them are for answers."""


def broker_settings(settings: Settings) -> BrokerSettings:
    """How to connect. Raises `ConfigError` for TLS files that cannot be used."""
    mqtt = settings.mqtt
    return BrokerSettings(
        mqtt.host,
        mqtt.port,
        f"channeld-{settings.daemon.name}",
        mqtt.username,
        mqtt.password.get_secret_value() if mqtt.password else None,
        _tls(mqtt) if mqtt.tls else None,
        session_expiry_s=mqtt.session_expiry_s,
        receive_maximum=min(65_535, settings.daemon.limit.max_in_flight * 2),
        send_limit=SEND_LIMIT,
    )


def _tls(mqtt: MqttSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=mqtt.ca_file)
        if mqtt.cert_file is not None:
            context.load_cert_chain(mqtt.cert_file, mqtt.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            [f"mqtt: the TLS files cannot be used: {error} (check ca_file, cert_file, key_file)"]
        ) from None
    return context
