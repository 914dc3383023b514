"""Attack the ledger with real leaves, signatures and calls, on a real EVM.

Calls the contracts as an attacker would, not through the typed client, which refuses some of it first.
"""

from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.logs import DISCARD

from protocol.epoch import AccountLeaf, EpochHeader
from protocol.signing import Domain, Signable, sign
from tests.stage.epochs import Epoch, epoch_of
from tests.stage.world import SECRET, WINDOW, World

QUORUM = ("v0", "v1")


class Lab:
    """The contracts' world, its contracts as web3 sees them, and what the run has posted.

    Example: `epoch, header = lab.post(lab.epoch(alice=100))`
    """

    def __init__(self, world: World) -> None:
        self.world = world
        at = world.deployment
        self.registry = self.at("StakeRegistry", at.registry)
        self.ledger = self.at("RunLedger", at.ledger)
        self.disputes = self.at("Disputes", at.disputes)
        self.token = self.at("TestToken", at.token)
        self.domain = Domain(at.chain_id, at.ledger)

    # ------------------------------------------------------------ people and money

    def person(self, name: str) -> LocalAccount:
        return self.world.people[name]

    def address(self, name: str) -> str:
        return self.world.address(name)

    def balance(self, who: str) -> int:
        """Return a person's or a contract's tokens."""
        address = self.address(who) if who in self.world.people else who
        return int(self.token.functions.balanceOf(address).call())

    def stake(self, name: str) -> int:
        """Return what a person has at stake: bonded or leaving."""
        account = self.world.by("stranger").stake_account(self.address(name))
        return account.stake + account.unbonding

    def credit(self, name: str) -> int:
        """Return the bounties and returned bonds a person may withdraw."""
        return self.world.by("stranger").stake_credit(self.address(name))

    def give(self, to: str, amount: int, token: Any = None) -> None:
        """Mint tokens to a person or a contract."""
        address = self.address(to) if to in self.world.people else to
        self.send((token or self.token).functions.mint(address, amount))

    def allow(self, name: str, spender: Any, amount: int, token: Any = None) -> None:
        """Give a person tokens that `spender` may pull."""
        self.give(name, amount, token)
        call = (token or self.token).functions.approve(spender.address, amount)
        self.send(call, name)

    # ------------------------------------------------------------ contracts

    def at(self, name: str, address: str) -> Any:
        return self.world.node.contract(name, address)

    def weak(self, name: str, *args: Any, by: str = "stranger") -> Any:
        """Deploy one of the contracts that lack a defence, or a hostile one."""
        return self.world.contract(name, *args, by=by)

    def send(self, call: Any, by: str = "stranger") -> Any:
        """Send a call; raise the contract's refusal."""
        return self.world.transact(call, by)

    def spend(self, call: Any, by: str, gas: int) -> tuple[bool, int]:
        """Send a call with so much gas whether or not it will succeed; return how it went."""
        data = Web3.to_bytes(hexstr=call._encode_transaction_data())
        receipt = self._raw(by, {"to": call.address, "data": data, "value": 0, "gas": gas})
        return receipt["status"] == 1, int(receipt["gasUsed"])

    def endow(self, address: str) -> None:
        """Give an account that the world does not know a little of the chain's own coin."""
        self._raw("stranger", {"to": address, "data": b"", "value": 10**18, "gas": 21_000})

    def _raw(self, by: str, fields: dict[str, Any]) -> Any:
        eth, account = self.world.w3.eth, self.person(by)
        fees = {"maxFeePerGas": 2 * eth.gas_price, "maxPriorityFeePerGas": 0}
        nonce = {"nonce": eth.get_transaction_count(account.address), "chainId": eth.chain_id}
        signed = account.sign_transaction({**fields, **fees, **nonce})
        return eth.get_transaction_receipt(eth.send_raw_transaction(signed.raw_transaction))

    # ------------------------------------------------------------ epochs

    def epoch(
        self, *before: AccountLeaf, first_nonce: int = 1, **tokens: int | Sequence[int]
    ) -> Epoch:
        """Return an honest epoch: for each person the tokens of one work, or of several, dated now."""
        works = [
            (self.person(name), first_nonce + n, count)
            for name, counts in tokens.items()
            for n, count in enumerate([counts] if isinstance(counts, int) else counts)
        ]
        return epoch_of(
            self.domain,
            self.world.run_id,
            works,
            at=int(self.world.chain.head.header.timestamp),
            before=before,
            salt=first_nonce.to_bytes(8, "big"),
            num_parameters=self.run().num_parameters,
        )

    def run(self) -> Any:
        return self.world.by("stranger").run(self.world.run_id)

    def header(self, epoch: Epoch, **lie: Any) -> EpochHeader:
        """Return the header that posts `epoch` next, with one lie or none."""
        run = self.run()
        root = bytes(32)
        if run.num_posted:
            before = self.world.by("stranger").epoch(self.world.run_id, run.num_posted - 1)
            root = before.account_root
        place = {
            "epoch": run.num_posted,
            "generation": run.generation,
            "prev_account_root": root,
        }
        return replace(epoch.header, **place | lie)

    def post(self, epoch: Epoch, *signers: str, **lie: Any) -> EpochHeader:
        """Open and post an epoch under these verifiers' signatures."""
        header = self.header(epoch, **lie)
        if self.run().num_opened <= header.epoch:
            self.world.open()
        self.send(self.posting(header, *(signers or QUORUM)))
        return header

    def posting(self, header: EpochHeader, *signers: str) -> Any:
        """Return the call that posts a header under these verifiers' signatures."""
        bitmap, signatures = self.signed(header, *(signers or QUORUM))
        return self.ledger.functions.postEpoch(
            astuple(header), SECRET, bitmap, signatures, "blob://epoch"
        )

    def signed(self, message: Signable, *signers: str) -> tuple[int, list[bytes]]:
        """Return verifiers' signatures by place (v0 has the first), as every quorum is given."""
        digest = self.domain.digest(message)
        ordered = sorted(signers or QUORUM)
        bitmap = sum(1 << int(name[1:]) for name in ordered)
        return bitmap, [sign(bytes(self.person(name).key), digest) for name in ordered]

    def finalise(self, seconds: int = WINDOW) -> None:
        self.world.wait(seconds)
        self.send(self.ledger.functions.advance(self.world.run_id))

    def claim(self, name: str, number: int, epoch: Epoch, by: str = "stranger") -> int:
        """Have a person paid by a final epoch; return what arrived."""
        payout = self.world.by(by).payout_of(self.address(name))
        before = self.balance(payout)
        index = [leaf.worker for leaf in epoch.accounts].index(self.address(name))
        proof = epoch.account(index)
        self.send(self.ledger.functions.claim(self.world.run_id, number, proof), by)
        return self.balance(payout) - before

    # ------------------------------------------------------------ proofs and disputes

    def padded(self) -> tuple[Epoch, EpochHeader]:
        """Post an epoch whose header pays for more than its one leaf earned."""
        epoch = self.epoch(alice=100)
        return epoch, self.post(epoch, total=150)

    def bad_edge(self, epoch: Epoch, header: EpochHeader) -> Any:
        """Return the call that proves the padding."""
        last = epoch.work(len(epoch.leaves) - 1)
        return self.disputes.functions.proveBadEdge(astuple(header), last)

    def dispute_id(self, receipt: Any) -> bytes:
        """Return the dispute that a transaction opened."""
        [event] = self.disputes.events.Disputed().process_receipt(
            {"logs": receipt.logs}, errors=DISCARD
        )
        return bytes(event["args"]["disputeId"])
