"""What the broker's adapter needs of the settings: where, as whom, over TLS or not, and how much at once."""

from __future__ import annotations

import hashlib
import ssl
from typing import Final

from channeld.adapters.broker import BrokerSettings
from channeld.core.admission import MOST_MESSAGES
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
        _client_id(settings.daemon.name, mqtt),
        mqtt.username,
        mqtt.password.get_secret_value() if mqtt.password else None,
        _tls(mqtt) if mqtt.tls else None,
        session_expiry_s=mqtt.session_expiry_s,
        receive_maximum=min(2 * MOST_MESSAGES, settings.daemon.limit.max_in_flight * 2),
        send_limit=SEND_LIMIT,
    )


def _client_id(name: str, mqtt: MqttSettings) -> str:
    """What the broker keeps our session under: the same for all daemons of one name and login, and nobody else's guess.

    A broker hands a session, and what waits in it, to whoever says its client id: any login of it could throw us out
    and lose what others asked. So it has in it what only those know who have our password or private key. Costly to
    try, for it stands in brokers' logs. Without either the broker is open to all, and it is the name alone. Sources:
    OASIS MQTT 5.0 section 3.1.4 (a second CONNECT with a client id), 5.4.2 (client ids are no authorisation).
    """
    if mqtt.password is not None:
        secret = mqtt.password.get_secret_value()
    elif mqtt.key_file is not None:
        try:
            secret = mqtt.key_file.read_bytes()
        except OSError as error:
            raise ConfigError([f"mqtt.key_file: cannot be read: {error.strerror}"]) from None
    else:
        return f"channeld-{name}"
    token = hashlib.scrypt(secret, salt=f"channeld client id {name}".encode(), n=4096, r=8, p=1, dklen=8)
    return f"channeld-{name}-{token.hex()}"


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
