"""Epochs whose leaves are really signed, told truly or with a lie, and the calls that dispute them.

The contracts are spoken to as web3 sees them, without our client: what is shown here holds for any
caller. Nothing here judges; the EVM does.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import Any

from eth_abi.abi import encode
from web3 import Web3
from web3.exceptions import ContractLogicError, ContractPanicError
from web3.logs import DISCARD

from ledger.artifact import artifact
from protocol.canonical import keccak256
from protocol.epoch import AccountLeaf, EpochHeader, RetractEpoch, WorkLeaf
from protocol.merkle import Tree
from protocol.rollout import Work
from protocol.signing import Domain, sign
from tests.stage.terms import key
from tests.stage.world import SECRET, World

GIGA = 10**9
WORK, ACCOUNTS, OMISSION, ESCALATION = 1, 2, 3, 4
OPEN, ANSWERED, UPHELD, MOOT = 1, 2, 3, 4
NONE, PENDING, FINAL, RETRACTED = 0, 1, 2, 3
UNSUMMED: dict[str, Any] = dict.fromkeys(("worker_sum", "epoch_sum", "token_sum", "gflop_sum"), 0)
Call = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Told:
    """An epoch as a quorum tells it: its header, its trees, and every signature by its hash."""

    header: EpochHeader
    leaves: tuple[WorkLeaf, ...]
    accounts: tuple[AccountLeaf, ...]
    before: tuple[AccountLeaf, ...]
    signatures: Mapping[bytes, bytes]

    @cached_property
    def trees(self) -> tuple[Tree, Tree, Tree]:
        lists = (self.leaves, self.accounts, self.before)
        work, accounts, before = (Tree([leaf.digest() for leaf in leaves]) for leaves in lists)
        return work, accounts, before

    @property
    def stated(self) -> tuple[Any, ...]:
        return astuple(self.header)

    def work(self, index: int) -> tuple[Any, ...]:
        """Return the contract's `WorkProof` of one leaf."""
        return astuple(self.leaves[index]), index, self.trees[0].proof(index)

    def account(self, index: int) -> tuple[Any, ...]:
        return *astuple(self.accounts[index]), index, self.trees[1].proof(index)

    def account_before(self, index: int) -> tuple[Any, ...]:
        return *astuple(self.before[index]), index, self.trees[2].proof(index)

    def signature(self, index: int) -> bytes:
        """Return the leaf's signature; its worker's, for a leaf whose hash names none."""
        return self.signatures.get(self.leaves[index].signature_hash, b"\1" * 65)

    # ------------------------------------------------------------ lying

    def with_header(self, **changes: Any) -> "Told":
        return replace(self, header=replace(self.header, **changes))

    def with_leaves(self, leaves: Iterable[WorkLeaf], **changes: Any) -> "Told":
        """Return the epoch over other leaves; the header names their tree and nothing else new."""
        leaves = tuple(leaves)
        root = Tree([leaf.digest() for leaf in leaves]).root
        header = replace(self.header, work_root=root, work_count=len(leaves))
        return replace(self, leaves=leaves, header=replace(header, **changes))

    def with_leaf(self, index: int, **changes: Any) -> "Told":
        leaves = list(self.leaves)
        leaves[index] = replace(leaves[index], **changes)
        return self.with_leaves(leaves)

    def with_accounts(self, accounts: Iterable[AccountLeaf]) -> "Told":
        accounts = tuple(accounts)
        root = Tree([leaf.digest() for leaf in accounts]).root
        header = replace(self.header, account_root=root, account_count=len(accounts))
        return replace(self, accounts=accounts, header=header)

    # ------------------------------------------------------------ witnesses

    def account_witness(self, worker: str) -> list[tuple[Any, ...]]:
        known = self.accounts[: self.header.account_count]
        return [self.account(index) for index in _around(_workers(known), worker)]

    def before_witness(self, worker: str) -> list[tuple[Any, ...]]:
        return [self.account_before(index) for index in _around(_workers(self.before), worker)]

    def work_witness(self, worker: str) -> list[tuple[Any, ...]]:
        """Return the worker's last leaf with the next one, or the gap where its leaves would be."""
        workers = _workers(self.leaves[: self.header.work_count])
        mine = [index for index, other in enumerate(workers) if other == int(worker, 16)]
        if not mine:
            return [self.work(index) for index in _around(workers, worker)]
        return [self.work(i) for i in (mine[-1], mine[-1] + 1) if i < len(workers)]

    def work_around(self, worker: str, nonce: int) -> list[tuple[Any, ...]]:
        """Return the neighbours between which this work would stand."""
        keys = [(int(leaf.worker, 16), leaf.nonce) for leaf in self.leaves]
        at = sum(other < (int(worker, 16), nonce) for other in keys)
        return [self.work(index) for index in (at - 1, at) if 0 <= index < len(keys)]

    def bad_account(self, worker: str) -> Call:
        """Return the proof that a worker's account is wrong, with the witnesses that fit."""
        witnesses = (
            self.before_witness(worker),
            self.work_witness(worker),
            self.account_witness(worker),
        )
        return "proveBadAccount", (self.stated, worker, *witnesses)


class Court:
    """The deployed contracts, a run, and who tells epochs in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        place = world.deployment
        self.ledger = self._at("RunLedger", place.ledger)
        self.disputes = self._at("Disputes", place.disputes)
        self.registry = self._at("StakeRegistry", place.registry)
        self.token = self._at("TestToken", place.token)
        self.domain = Domain(place.chain_id, place.ledger)
        self.separator = bytes(self.ledger.functions.domainSeparator().call())
        run, *_ = self.ledger.functions.runOf(world.run_id).call()
        self.num_parameters = int(run.numParameters)
        self.min_stake = int(run.minStake)

    def _at(self, name: str, address: str) -> Any:
        return self.world.w3.eth.contract(
            address=Web3.to_checksum_address(address), abi=artifact(name).abi, decode_tuples=True
        )

    @property
    def now(self) -> int:
        return int(self.world.chain.head.header.timestamp)

    def gflops(self, tokens: int) -> int:
        return -(-2 * self.num_parameters * tokens // GIGA)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Undo what happens within, also where it fails: a shrinking example starts from the same."""
        height, now = self.world.chain.head.number, self.world.clock.now
        try:
            yield
        finally:
            self.world.chain.rewind(height)
            self.world.clock.now = now

    # ------------------------------------------------------------ telling

    def work(self, name: str, nonce: int, tokens: int, **changes: Any) -> Work:
        """Return the work of one group, as its worker signs it."""
        fields: dict[str, Any] = {
            "run_id": self.world.run_id,
            "worker": address(name),
            "nonce": nonce,
            "payload_digest": keccak256(f"{name} {nonce}".encode()),
            "policy_version": 1,
            "submitted_at": self.now,
            "tokens": tokens,
            "gflops": self.gflops(tokens),
        }
        return Work.model_validate(fields | changes)

    def signed(self, work: Work, by: str) -> bytes:
        return sign(bytes(key(by).key), self.domain.digest(work))

    def tell(
        self,
        plan: Sequence[tuple[str, int, int]],
        before: Told | None = None,
        **changes: Any,
    ) -> Told:
        """Return the true epoch of this (name, nonce, tokens) work, after the one before."""
        work = [self.work(name, nonce, tokens) for name, nonce, tokens in plan]
        names = {address(name): name for name, _, _ in plan}
        return self.tell_of([(w, self.signed(w, names[w.worker])) for w in work], before, **changes)

    def tell_of(
        self, signed: Iterable[tuple[Work, bytes]], before: Told | None = None, **changes: Any
    ) -> Told:
        """Return the epoch whose sums, trees and totals follow from this work, whatever it says."""
        ordered = sorted(signed, key=lambda pair: (int(pair[0].worker, 16), pair[0].nonce))
        leaves = summed(
            WorkLeaf(
                **work.__dict__,
                signature_hash=keccak256(signature),
                units=work.tokens,
                **UNSUMMED,
            )
            for work, signature in ordered
        )
        accounts = {leaf.worker: leaf for leaf in (before.accounts if before else ())}
        for leaf in leaves:
            had = accounts.get(leaf.worker, AccountLeaf(leaf.worker, 0, 0))
            accounts[leaf.worker] = AccountLeaf(leaf.worker, had.earned + leaf.units, leaf.nonce)
        last = leaves[-1] if leaves else None
        header = EpochHeader(
            run_id=self.world.run_id,
            epoch=before.header.epoch + 1 if before else 0,
            generation=0,
            prev_account_root=before.header.account_root if before else bytes(32),
            work_root=Tree([leaf.digest() for leaf in leaves]).root,
            account_root=bytes(32),
            work_count=len(leaves),
            account_count=0,
            total=last.epoch_sum if last else 0,
            tokens=last.token_sum if last else 0,
            gflops=last.gflop_sum if last else 0,
            data_hash=keccak256(b"data"),
        )
        signatures = {keccak256(signature): signature for _, signature in ordered}
        told = Told(header, leaves, (), before.accounts if before else (), signatures)
        ascending = sorted(accounts.values(), key=lambda leaf: int(leaf.worker, 16))
        return told.with_accounts(ascending).with_header(**changes)

    # ------------------------------------------------------------ posting

    def open(self) -> None:
        call = self.ledger.functions.openEpoch(self.world.run_id, keccak256(SECRET))
        self.world.transact(call, "operator")

    def posting(self, told: Told, *names: str) -> Any:
        """Return the call that posts an epoch under these verifiers' signatures (v0 and v1)."""
        bitmap, signatures = self._quorum(told.header.struct_hash(), names)
        return self.ledger.functions.postEpoch(told.stated, SECRET, bitmap, signatures, "file://")

    def post(self, told: Told, *names: str) -> Told:
        self.world.transact(self.posting(told, *names))
        return told

    def retract(self, told: Told, *names: str) -> None:
        header = told.header
        words = RetractEpoch(header.run_id, header.epoch, header.generation, header.struct_hash())
        bitmap, signatures = self._quorum(words.struct_hash(), names)
        call = self.ledger.functions.retractEpoch(header.run_id, header.epoch, bitmap, signatures)
        self.world.transact(call)

    def _quorum(self, struct_hash: bytes, names: Sequence[str]) -> tuple[int, list[bytes]]:
        signers = sorted(names or ("v0", "v1"))
        bitmap = sum(1 << int(name[1:]) for name in signers)
        return bitmap, [self._sign(struct_hash, name) for name in signers]

    def _sign(self, struct_hash: bytes, name: str) -> bytes:
        digest = keccak256(b"\x19\x01" + self.separator + struct_hash)
        return sign(bytes(self.world.people[name].key), digest)

    def stands(self, told: Told) -> int:
        """Return the header's `Posting`."""
        header = told.header
        call = self.ledger.functions.postingOf(header.run_id, header.epoch, header.struct_hash())
        return int(call.call()[0])

    # ------------------------------------------------------------ asking and doing

    def refusal(self, call: Call, by: str = "stranger") -> str | None:
        """Return the name of the error that a call to Disputes meets now; None when it is taken."""
        name, arguments = call
        try:
            self.disputes.functions[name](*arguments).call({"from": self.world.address(by)})
        except ContractLogicError as error:
            return self._named(str(error.data))
        except ContractPanicError as error:
            return f"Panic {error}"
        return None

    def _named(self, data: str) -> str:
        return self._errors.get(data[:10], data)

    @cached_property
    def _errors(self) -> dict[str, str]:
        found = {}
        for name in ("Disputes", "RunLedger", "StakeRegistry"):
            for entry in artifact(name).abi:
                if entry["type"] == "error":
                    kinds = ",".join(_kind(part) for part in entry["inputs"])
                    selector = Web3.to_hex(keccak256(f"{entry['name']}({kinds})".encode())[:4])
                    found[selector] = entry["name"]
        return found

    def takes(self, call: Call) -> bool:
        return self.refusal(call) is None

    def do(self, name: str, *arguments: Any, by: str = "stranger") -> Any:
        """Send a call to Disputes."""
        return self.world.transact(self.disputes.functions[name](*arguments), by)

    def said(self, event: str, receipt: Any) -> list[Any]:
        """Return the arguments of each such event of Disputes in a transaction."""
        logs = {"logs": receipt.logs}
        found = self.disputes.events[event]().process_receipt(logs, errors=DISCARD)
        return [entry["args"] for entry in found]

    def disputed(self, name: str, *arguments: Any, by: str = "stranger") -> bytes:
        """Send a call that opens a dispute under a bond, and return the dispute's id."""
        [opened] = self.said("Disputed", self.do(name, *arguments, by=by))
        return bytes(opened["disputeId"])

    def dispute(self, dispute_id: bytes) -> Any:
        return self.disputes.functions.disputeOf(dispute_id).call()

    def fund(self, name: str, amount: int = 10**6) -> None:
        """Give somebody tokens and let the registry pull bonds of them."""
        self.world.transact(self.token.functions.mint(self.world.address(name), amount), name)
        approve = self.token.functions.approve(self.registry.address, amount)
        self.world.transact(approve, name)

    def stake(self, name: str) -> int:
        return int(self.registry.functions.stakeOf(self.world.address(name)).call())

    def credit(self, name: str) -> int:
        return int(self.registry.functions.creditOf(self.world.address(name)).call())

    # ------------------------------------------------------------ receipts

    def receipt(self, work: Work, received_at: int, by: str = "operator") -> tuple[Any, bytes]:
        """Return the contract's `Receipt` of accepted work and the operator's signature."""
        kinds = "Receipt(uint256 runId,address worker,uint64 nonce,bytes32 workDigest,"
        kinds += "uint64 receivedAt,bytes32 rejectionDigest)"
        words = encode(
            ["bytes32", "uint256", "address", "uint64", "bytes32", "uint64", "bytes32"],
            [
                *(keccak256(kinds.encode()), work.run_id, work.worker, work.nonce),
                *(self.domain.digest(work), received_at, keccak256(b"")),
            ],
        )
        return (tuple(work.__dict__.values()), received_at), self._sign(keccak256(words), by)


def address(name: str) -> str:
    return str(key(name).address)


def summed(leaves: Iterable[WorkLeaf]) -> tuple[WorkLeaf, ...]:
    """Return the leaves with the four running sums that follow from them."""
    done: list[WorkLeaf] = []
    for leaf in leaves:
        last = done[-1] if done else None
        mine = last.worker_sum if last and last.worker == leaf.worker else 0
        done.append(
            replace(
                leaf,
                worker_sum=mine + leaf.units,
                epoch_sum=(last.epoch_sum if last else 0) + leaf.units,
                token_sum=(last.token_sum if last else 0) + leaf.tokens,
                gflop_sum=(last.gflop_sum if last else 0) + leaf.gflops,
            )
        )
    return tuple(done)


def _workers(leaves: Sequence[WorkLeaf] | Sequence[AccountLeaf]) -> list[int]:
    return [int(leaf.worker, 16) for leaf in leaves]


def _around(workers: Sequence[int], worker: str) -> list[int]:
    """Return where a worker stands, or the neighbours between which it would."""
    sought = int(worker, 16)
    if sought in workers:
        return [workers.index(sought)]
    at = sum(other < sought for other in workers)
    return [index for index in (at - 1, at) if 0 <= index < len(workers)]


def _kind(part: dict[str, Any]) -> str:
    return str(part["type"])
