"""As many verifiers as there may be, all lying in every epoch that may be pending: can it be punished?"""

from dataclasses import astuple, dataclass

import pytest
from eth_account.signers.local import LocalAccount

from ledger.ledger import Ledger
from protocol.epoch import EpochHeader
from protocol.signing import sign
from tests.stage.epochs import Epoch
from tests.stage.ledger_lab import Lab
from tests.stage.terms import key
from tests.stage.world import SECRET, STAKE, refused

MOST = 64
PENDING = 8
BLOCK = 30_000_000
"""What a block holds on the main network, at the least, since 2021."""


@dataclass
class Crowd:
    """A run with `size` staked verifiers."""

    lab: Lab
    verifiers: list[LocalAccount]

    @classmethod
    def of(cls, lab: Lab, size: int) -> "Crowd":
        named = (key(f"crowd {n}") for n in range(size))
        verifiers = sorted(named, key=lambda account: int(account.address, 16))
        for verifier in verifiers:
            enlist(lab, verifier)
        params = lab.world.params(
            verifiers=tuple(account.address for account in verifiers), threshold=size
        )
        lab.world.run_id = lab.world.by("operator").create_run(params, 100_000, "spec")
        return cls(lab, verifiers)

    def post(self, epoch: Epoch, **lie: int) -> EpochHeader:
        self.lab.world.open()
        header = self.lab.header(epoch, **lie)
        digest = self.lab.domain.digest(header)
        signatures = [sign(bytes(verifier.key), digest) for verifier in self.verifiers]
        bitmap = (1 << len(self.verifiers)) - 1
        words = (astuple(header), SECRET, bitmap, signatures, "blob://epoch")
        self.lab.send(self.lab.ledger.functions.postEpoch(*words))
        return header

    def lie_and_be_proven(self, pending: int) -> int:
        """Lie in the first of so many epochs, prove it, and return the gas."""
        first = self.lab.epoch(alice=100)
        header = self.post(first, total=101)
        accounts = first.accounts
        for nonce in range(2, pending + 1):
            epoch = self.lab.epoch(*accounts, first_nonce=nonce, alice=1)
            self.post(epoch)
            accounts = epoch.accounts
        receipt = self.lab.send(self.lab.bad_edge(first, header))
        return int(receipt.gas_used)


def enlist(lab: Lab, account: LocalAccount) -> None:
    """Let somebody stake whom the world does not know."""
    lab.endow(account.address)
    ledger = Ledger(lab.world.node, lab.world.deployment, account)
    ledger.mint(account.address, STAKE)
    ledger.register(STAKE, account.address, account.address)


def test_the_worst_lie_is_punished_within_half_a_block(lab: Lab) -> None:
    crowd = Crowd.of(lab, MOST)
    gas = crowd.lie_and_be_proven(PENDING)
    stakes = [lab.world.by("stranger").stake_of(v.address) for v in crowd.verifiers]
    assert stakes == [0] * MOST
    assert lab.credit("stranger") == MOST * (STAKE // 4)
    assert gas < BLOCK // 2


def test_without_a_bound_enough_verifiers_could_not_be_punished(lab: Lab) -> None:
    with lab.world.undone():
        few = Crowd.of(lab, 4).lie_and_be_proven(1)
    many = Crowd.of(lab, 16).lie_and_be_proven(1)
    each = (many - few) / 12
    assert 64 * each < BLOCK / 4, "what is allowed is far from the bound"
    assert 10_000 * each > BLOCK, "what would be without one is not"


@pytest.mark.parametrize("size", [MOST + 1, 0])
def test_a_run_has_at_most_sixty_four_verifiers_and_at_least_one(lab: Lab, size: int) -> None:
    members = sorted((key(f"crowd {n}").address for n in range(size)), key=lambda a: int(a, 16))
    params = lab.world.params(verifiers=tuple(members), threshold=size)
    with refused("AmountTooLarge" if size else "BadThreshold"):
        lab.world.by("operator").create_run(params, 0, "spec")
