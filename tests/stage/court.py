"""Who tells epochs at the deployed contracts, truly or with a lie, and the calls that dispute them.

The contracts are spoken to as web3 sees them, without our client: what is shown here holds for any
caller. Nothing here judges; the EVM does.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from eth_abi.abi import encode
from web3 import Web3
from web3.exceptions import ContractLogicError, ContractPanicError
from web3.logs import DISCARD

from ledger.artifact import artifact
from protocol.canonical import keccak256
from protocol.epoch import RetractEpoch
from protocol.rollout import Work
from protocol.signing import Domain, sign
from tests.stage.epochs import Call, Epoch, contribution, file_of, gflops_of
from tests.stage.terms import key
from tests.stage.world import SECRET, World

WORK, ACCOUNTS, OMISSION, ESCALATION = 1, 2, 3, 4
OPEN, ANSWERED, UPHELD, MOOT = 1, 2, 3, 4
NONE, PENDING, FINAL, RETRACTED = 0, 1, 2, 3


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
        return gflops_of(tokens, self.num_parameters)

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
        before: Epoch | None = None,
        **changes: Any,
    ) -> Epoch:
        """Return the true epoch of this (name, nonce, tokens) work, after the one before."""
        work = [self.work(name, nonce, tokens) for name, nonce, tokens in plan]
        names = {address(name): name for name, _, _ in plan}
        return self.tell_of([(w, self.signed(w, names[w.worker])) for w in work], before, **changes)

    def tell_of(
        self, signed: Iterable[tuple[Work, bytes]], before: Epoch | None = None, **changes: Any
    ) -> Epoch:
        """Return the epoch whose sums, trees and totals follow from this work, whatever it says."""
        file = file_of(
            self.world.run_id,
            [contribution(work, signature) for work, signature in signed],
            before.accounts if before else (),
            epoch=before.header.epoch + 1 if before else 0,
            prev_account_root=before.header.account_root if before else bytes(32),
        )
        return Epoch.of(file, before.accounts if before else ()).bend(**changes)

    # ------------------------------------------------------------ posting

    def open(self) -> None:
        call = self.ledger.functions.openEpoch(self.world.run_id, keccak256(SECRET))
        self.world.transact(call, "operator")

    def posting(self, told: Epoch, *names: str) -> Any:
        """Return the call that posts an epoch under these verifiers' signatures (v0 and v1)."""
        bitmap, signatures = self._quorum(told.header.struct_hash(), names)
        return self.ledger.functions.postEpoch(told.stated, SECRET, bitmap, signatures, "file://")

    def post(self, told: Epoch, *names: str) -> Epoch:
        self.world.transact(self.posting(told, *names))
        return told

    def retract(self, told: Epoch, *names: str) -> None:
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

    def stands(self, told: Epoch) -> int:
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


def _kind(part: dict[str, Any]) -> str:
    return str(part["type"])
