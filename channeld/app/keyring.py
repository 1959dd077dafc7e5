"""Our keys, derived once at start: who signs transactions, who signs claims, and whether they may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from channeld.adapters.signer import KeyPair, account_id, derive, sign_transaction
from channeld.app.granted import receivers
from channeld.core.claim import channel_id_of
from channeld.core.errors import BadValue, ConfigError
from channeld.core.intents import Create, Number, OpenChannel, Transaction
from channeld.core.ledger import AccountState
from channeld.core.records import Signed
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex
from channeld.core.witness import source_tag
from channeld.service.holdings import Wallet
from channeld.service.ports import ClaimSigner
from channeld.settings import Settings, WalletSettings
from channeld.wire.transactions import transaction_json


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys by wallet, and a claim signer for every public key a channel of ours may have."""

    network_id: int
    wallets: Mapping[str, KeyPair] = field(repr=False)
    claim_keys: Mapping[str, KeyPair] = field(repr=False)
    claim_signers: Mapping[str, ClaimSigner] = field(repr=False)
    addresses: Mapping[str, Address]
    shared: Sequence[str] = ()
    """Which seeds sign claims and transactions as well, in sentences for people."""

    def sign(
        self,
        wallet: str,
        transaction: Transaction,
        number: Number,
        fee: Drops,
        last_ledger: LedgerIndex,
        *,
        store_id: str,
    ) -> Signed:
        """Build and sign a transaction of a wallet's account; a Create bears the mark of the store that decided it."""
        account, key = self.addresses[wallet], self.wallets[wallet]
        fields = transaction_json(
            transaction,
            account=account,
            number=number,
            fee=fee,
            last_ledger=last_ledger,
            network_id=self.network_id,
        )
        if isinstance(transaction, Create):
            fields["SourceTag"] = source_tag(store_id, account)
        return sign_transaction(fields, key)

    def check(self, account: AccountState) -> None:
        """Whether our key may sign for an account, now that a ledger shows it; raises `ConfigError` if not."""
        for name, address in self.addresses.items():
            key = self.wallets[name]
            if address != account.address:
                continue
            if key.address == address:
                if account.master_disabled:
                    raise ConfigError([f"wallets.{name}: the account's master key is disabled: use its regular key"])
            elif account.regular_key != key.address:
                problem = "the seed does not belong to `address`, nor is it the account's regular key"
                raise ConfigError([f"wallets.{name}.seed_file: {problem} (check address, key_type and the file)"])


def new_channel_id(address: str, action: OpenChannel, number: int) -> ChannelId:
    """The id a Create under `number` gives its channel."""
    return ChannelId(channel_id_of(account_id(address), account_id(action.payee.account), number))


def load(settings: Settings) -> Keyring:
    """Derive every key that the settings name; some 10 ms each. Raises `ConfigError` with all problems."""
    problems: list[str] = []
    wallets: dict[str, KeyPair] = {}
    claims: dict[str, KeyPair] = {}
    signers: dict[str, ClaimSigner] = {}
    for name, wallet in settings.wallets.items():
        try:
            wallets[name], claims[name], retired = _derive(wallet)
            if wallet.role == "pay":
                signers |= {key.public_key: key.signer() for key in (claims[name], *retired)}
        except BadValue as error:
            problems.append(f"wallets.{name}: {error}")
    if problems:
        raise ConfigError(problems)
    addresses = {name: wallet.address for name, wallet in settings.wallets.items()}
    return Keyring(settings.ledger.network_id, wallets, claims, signers, addresses, _shared(settings.wallets))


def _shared(wallets: Mapping[str, WalletSettings]) -> list[str]:
    """A claim key that gets about costs what channels hold; one that signs transactions all that the account has."""
    spending = {wallet.seed.reveal(): name for name, wallet in wallets.items() if wallet.seed is not None}
    claims = ((name, wallet.claim_seed) for name, wallet in wallets.items() if wallet.role == "pay")
    return [
        f"wallets.{name}.claim_seed_file holds the seed of wallets.{spending[seed.reveal()]}.seed_file, so that whoever"
        " can sign claims can take all that the account has (`channeld keys new` makes one for claims only; list the"
        " old file in retired_claim_seed_files)"
        for name, seed in claims
        if seed is not None and seed.reveal() in spending
    ]


def _derive(wallet: WalletSettings) -> tuple[KeyPair, KeyPair, list[KeyPair]]:
    if wallet.seed is None:
        raise BadValue("seed_file", "was not read", "load the settings with secrets")
    key = derive(wallet.seed.reveal(), wallet.key_type)
    claim = key
    if wallet.claim_seed is not None:
        claim = derive(wallet.claim_seed.reveal(), wallet.claim_key_type or wallet.key_type)
    retired = [derive(seed.reveal(), "ed25519") for seed in wallet.retired_claim_seeds]
    retired += [derive(s.reveal(), "secp256k1") for s in wallet.retired_claim_seeds if not s.ed25519_only]
    return key, claim, retired


def mirror_wallets(settings: Settings, keyring: Keyring) -> list[Wallet]:
    """All wallets, as the mirror keeps them."""
    receiving = receivers(settings)
    return [
        Wallet(
            name,
            wallet.address,
            keyring.claim_keys[name].public_key if wallet.role == "pay" else "",
            pays=wallet.role == "pay",
            receives=name in receiving,
        )
        for name, wallet in settings.wallets.items()
    ]
