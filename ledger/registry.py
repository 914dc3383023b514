"""`StakeRegistry` in Python: stakes, hot keys, payouts, and what is credited there."""

from eth_account.signers.local import LocalAccount

from ledger.calls import NO_ADDRESS, Door
from ledger.node import MinedTransaction
from ledger.state import StakeState


class Stakes(Door):
    """The registry's functions. Amounts are in wei of the staking token."""

    def register(
        self, amount: int, signer: str, payout: str, consent: bytes = b""
    ) -> MinedTransaction:
        """Become an identity; `consent` is needed unless the signer is this account."""
        call = self._registry.functions.register(amount, signer, payout, consent)
        return self._deposit(self.deployment.token, amount, self._registry, call)

    def stake(self, amount: int) -> MinedTransaction:
        """Add to this account's stake."""
        call = self._registry.functions.stake(amount)
        return self._deposit(self.deployment.token, amount, self._registry, call)

    def add_signer(self, signer: str, consent: bytes) -> MinedTransaction:
        """Delegate a hot key."""
        return self._send(self._registry.functions.addSigner(signer, consent))

    def revoke_signer(self, signer: str) -> MinedTransaction:
        """Withdraw a hot key, effective after the registry's delay."""
        return self._send(self._registry.functions.revokeSigner(signer))

    def set_payout(self, payout: str) -> MinedTransaction:
        """Change where this account's earnings go."""
        return self._send(self._registry.functions.setPayout(payout))

    def unbond(self, amount: int) -> MinedTransaction:
        """Start withdrawing stake."""
        return self._send(self._registry.functions.unbond(amount))

    def withdraw_stake(self) -> MinedTransaction:
        """Withdraw what has unbonded."""
        return self._send(self._registry.functions.withdrawStake())

    def withdraw_stake_credit(self) -> MinedTransaction:
        """Withdraw returned bonds, bounties, and slashed stake credited to this account."""
        return self._send(self._registry.functions.withdrawCredit())

    def sign_consent(self, signer: LocalAccount, owner: str) -> bytes:
        """Return the hot key's consent to work for `owner`."""
        digest = self.consent_digest(owner, signer.address)
        return bytes(signer.unsafe_sign_hash(digest).signature)

    def consent_digest(self, owner: str, signer: str) -> bytes:
        """Return what a hot key signs to consent to `owner`."""
        return bytes(self._call(self._registry.functions.consentDigest(owner, signer)))

    def owner_of(self, signer: str) -> str | None:
        """Return the identity a hot key signs for now."""
        owner = str(self._call(self._registry.functions.ownerOf(signer)))
        return None if owner == NO_ADDRESS else owner

    def signer_of(self, signer: str) -> tuple[str, int] | None:
        """Return the identity a hot key ever signed for, and when that ends; None for any other key."""
        owner, until = self._call(self._registry.functions.signerOf(signer))
        return None if owner == NO_ADDRESS else (str(owner), int(until))

    def stake_of(self, worker: str) -> int:
        """Return bonded stake."""
        return int(self._call(self._registry.functions.stakeOf(worker)))

    def stake_account(self, worker: str) -> StakeState:
        """Return stake, what is unbonding, what is locked, and the payout address."""
        return self._call(
            self._registry.functions.accountOf(worker), lambda found: StakeState(*found)
        )

    def is_registered(self, worker: str) -> bool:
        """Return whether an identity exists."""
        return bool(self._call(self._registry.functions.isRegistered(worker)))

    def payout_of(self, worker: str) -> str:
        """Return where a worker's earnings go."""
        return str(self._call(self._registry.functions.payoutOf(worker)))

    def stake_credit(self, account: str) -> int:
        """Return returned bonds, bounties and slashed stake that `account` may withdraw."""
        return int(self._call(self._registry.functions.creditOf(account)))
