// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IRunLedger} from "../src/interfaces/IRunLedger.sol";
import {Account, EpochFile, EpochFiles} from "./EpochFiles.sol";
import {World} from "./World.sol";

/// @notice One change to an honest epoch. The first group changes one field of a leaf and nothing else, the second one
///         field of the header, the third the accounts; the last are consistent epochs about false work.
enum Lie {
    None,
    // a field of a leaf
    RunId,
    Worker,
    Nonce,
    Payload,
    Policy,
    SubmittedAt,
    Tokens,
    Gflops,
    SignatureHash,
    Units,
    WorkerSum,
    EpochSum,
    TokenSum,
    GflopSum,
    // a field of the header
    WorkRoot,
    AccountRoot,
    WorkCount,
    AccountCount,
    Total,
    HeaderTokens,
    HeaderGflops,
    // an account
    AccountWorker,
    AccountEarned,
    AccountNonce,
    AccountMissing,
    AccountMadeUp,
    AccountsSwapped,
    // work that is consistently false
    LeavesSwapped,
    NonceRepeated,
    NonceZero,
    NonceStale,
    PayloadRepeated,
    Unowed,
    Future,
    Unsigned
}

/// @title Telling every lie, and proving each from the published file
abstract contract Prover is World {
    uint8 internal constant NUM_LIES = uint8(type(Lie).max) + 1;

    /// @notice Tell `lie` about leaf or account `i`; false where this epoch has no place for it.
    /// @param by What the field differs by, not zero.
    function tamper(EpochFile memory file, Lie lie, uint256 i, uint64 by) internal view returns (bool) {
        if (lie >= Lie.LeavesSwapped) return falsify(file, lie, i);
        if (lie >= Lie.AccountWorker) return tamperAccounts(file, lie, i, by);
        if (lie >= Lie.WorkRoot) return tamperHeader(file, lie, by);
        if (file.leaves.length == 0) return false;
        tamperLeaf(file.leaves[i % file.leaves.length], lie, by);
        EpochFiles.plant(file);
        return true;
    }

    function tamperLeaf(IRunLedger.WorkLeaf memory value, Lie lie, uint64 by) internal pure {
        if (lie == Lie.RunId) value.runId ^= by;
        if (lie == Lie.Worker) value.worker = address(uint160(value.worker) ^ by);
        if (lie == Lie.Nonce) value.nonce ^= by;
        if (lie == Lie.Payload) value.payloadDigest = keccak256(abi.encode(value.payloadDigest, by));
        if (lie == Lie.Policy) value.policyVersion ^= by;
        if (lie == Lie.SubmittedAt) value.submittedAt ^= by;
        if (lie == Lie.Tokens) value.tokens ^= by;
        if (lie == Lie.Gflops) value.gflops ^= by;
        if (lie == Lie.SignatureHash) value.signatureHash = keccak256(abi.encode(by));
        if (lie == Lie.Units) value.units ^= by;
        if (lie == Lie.WorkerSum) value.workerSum ^= by;
        if (lie == Lie.EpochSum) value.epochSum ^= by;
        if (lie == Lie.TokenSum) value.tokenSum ^= by;
        if (lie == Lie.GflopSum) value.gflopSum ^= by;
    }

    /// @dev Counts that the ledger itself refuses are no lie that stands.
    function tamperHeader(EpochFile memory file, Lie lie, uint64 by) internal pure returns (bool) {
        IRunLedger.EpochHeader memory header = file.header;
        // An empty epoch may say nothing at all, so the ledger refuses each of these.
        if (header.workCount == 0) return false;
        unchecked {
            if (lie == Lie.WorkRoot) header.workRoot = keccak256(abi.encode(header.workRoot, by));
            if (lie == Lie.AccountRoot) header.accountRoot = keccak256(abi.encode(header.accountRoot, by));
            if (lie == Lie.WorkCount) header.workCount += 1 + uint32(by % 1000);
            if (lie == Lie.AccountCount) {
                if (header.accountCount <= file.before.length) return false;
                header.accountCount -= 1;
            }
            if (lie == Lie.Total) header.total = (header.total + by) % 100_000;
            if (lie == Lie.HeaderTokens) header.tokens += by;
            if (lie == Lie.HeaderGflops) header.gflops += by;
        }
        return true;
    }

    function tamperAccounts(EpochFile memory file, Lie lie, uint256 i, uint64 by) internal pure returns (bool) {
        uint256 count = file.accounts.length;
        if (count == 0 || file.leaves.length == 0) return false;
        i %= count;
        Account memory account = file.accounts[i];
        if (lie == Lie.AccountWorker) account.worker = address(uint160(account.worker) ^ uint160(by));
        if (lie == Lie.AccountEarned) account.earned = account.earned > by ? account.earned - by : by;
        if (lie == Lie.AccountNonce) account.lastNonce ^= by;
        if (lie == Lie.AccountsSwapped) {
            if (count < 2) return false;
            uint256 j = (i + 1) % count;
            (file.accounts[i], file.accounts[j]) = (file.accounts[j], file.accounts[i]);
        }
        if (lie == Lie.AccountMissing) {
            // The ledger refuses fewer accounts than before.
            if (count == file.before.length) return false;
            file.accounts = without(file.accounts, i);
        }
        if (lie == Lie.AccountMadeUp) {
            // The ledger refuses more new accounts than works.
            if (count >= file.before.length + file.leaves.length) return false;
            file.accounts = with(file.accounts, Account(address(uint160(account.worker) + 1), by, 1), i + 1);
        }
        EpochFiles.close(file);
        return true;
    }

    /// @dev All sums and accounts follow from the false work, so that nothing but the work itself is wrong.
    function falsify(EpochFile memory file, Lie lie, uint256 i) internal view returns (bool) {
        uint256 count = file.leaves.length;
        if (count == 0) return false;
        i %= count;
        IRunLedger.WorkLeaf memory value = file.leaves[i];
        if (lie == Lie.LeavesSwapped) {
            if (count < 2) return false;
            EpochFiles.swap(file, i, (i + 1) % count);
            resettle(file);
            return true;
        }
        if (lie == Lie.NonceRepeated) {
            if (i == 0 || file.leaves[i - 1].worker != value.worker) return false;
            value.nonce = file.leaves[i - 1].nonce;
        }
        if (lie == Lie.NonceZero) {
            if (i > 0 && file.leaves[i - 1].worker == value.worker) return false;
            value.nonce = 0;
        }
        if (lie == Lie.NonceStale) {
            (bool found, uint256 place) = find(file.before, value.worker);
            if (!found || (i > 0 && file.leaves[i - 1].worker == value.worker)) return false;
            value.nonce = file.before[place].lastNonce;
        }
        if (lie == Lie.PayloadRepeated) {
            if (count < 2) return false;
            value.payloadDigest = file.leaves[(i + 1) % count].payloadDigest;
        }
        if (lie == Lie.Unowed) {
            // A second before anything began is owed by no run that was halted since; the caller sees to it.
            if (ledger.isOwed(value.runId, clock())) return false;
            value.submittedAt = clock();
        }
        if (lie == Lie.Future) value.submittedAt = clock() + 1;
        if (lie == Lie.Unsigned) {
            file.signatures[i] = signed(stranger, digestOf(EpochFiles.workHash(value)));
            value.signatureHash = keccak256(file.signatures[i]);
        } else {
            sign(file, i);
        }
        resettle(file);
        return true;
    }

    function resettle(EpochFile memory file) internal pure {
        EpochFiles.sum(file.leaves);
        file.accounts = EpochFiles.carried(file);
        EpochFiles.close(file);
    }

    // ------------------------------------------------------------ proofs

    /// @notice Whether only an unanswered demand shows it: a leaf that leads nowhere cannot be opened by a prover.
    function needsDemand(Lie lie) internal pure returns (bool) {
        return lie == Lie.SignatureHash || lie == Lie.WorkRoot || lie == Lie.AccountRoot || lie == Lie.WorkCount
            || lie == Lie.AccountCount;
    }

    /// @notice Send the proof of the lie told about leaf or account `i`.
    function prove(EpochFile memory file, EpochFile memory honest, Lie lie, uint256 i) internal {
        if (lie >= Lie.AccountWorker && lie <= Lie.AccountsSwapped) return proveAccounts(file, honest);
        if (lie == Lie.AccountCount && file.header.accountCount == 0) return proveNoAccounts(file);
        if (needsDemand(lie)) return proveByDemand(file, lie, i);
        if (lie >= Lie.WorkRoot && lie < Lie.AccountWorker) {
            return disputes.proveBadEdge(file.header, openWork(file, file.leaves.length - 1));
        }
        uint256 count = file.leaves.length;
        i %= count;
        if (lie == Lie.NonceStale) {
            (, uint256 place) = find(file.before, file.leaves[i].worker);
            IRunLedger.AccountProof memory before = EpochFiles.open(file.before, place);
            return disputes.proveStaleNonce(file.header, openWork(file, i), before);
        }
        if (lie == Lie.PayloadRepeated) {
            uint256 j = (i + 1) % count;
            return disputes.proveDuplicate(file.header, openWork(file, i), file.header, openWork(file, j));
        }
        if (lie >= Lie.WorkerSum && lie <= Lie.GflopSum || lie == Lie.NonceRepeated) return proveSums(file, i);
        if (lie == Lie.LeavesSwapped) return proveOrder(file);
        disputes.proveBadLeaf(file.header, openWork(file, i), signatureFor(file, lie, i));
    }

    /// @dev Faults of the leaf alone need no signature; showing one anyway must not be asked for.
    function signatureFor(EpochFile memory file, Lie lie, uint256 i) internal pure returns (bytes memory) {
        bool isSigners = lie == Lie.Worker || lie == Lie.Nonce || lie == Lie.Payload || lie == Lie.Policy
            || lie == Lie.SubmittedAt || lie == Lie.Unsigned;
        return isSigners ? file.signatures[i] : bytes("");
    }

    function proveSums(EpochFile memory file, uint256 i) internal {
        if (i == 0) disputes.proveBadEdge(file.header, openWork(file, 0));
        else disputes.proveBadPair(file.header, openWork(file, i - 1), openWork(file, i));
    }

    function proveOrder(EpochFile memory file) internal {
        uint256 i = 1;
        while (EpochFiles.ascend(file.leaves[i - 1], file.leaves[i])) ++i;
        disputes.proveBadPair(file.header, openWork(file, i - 1), openWork(file, i));
    }

    /// @notice Bad order where there is any; else the account of whoever's differs from the honest file.
    function proveAccounts(EpochFile memory file, EpochFile memory honest) internal {
        for (uint256 i = 1; i < file.accounts.length; ++i) {
            if (file.accounts[i - 1].worker < file.accounts[i].worker) continue;
            return disputes.proveAccountOrder(
                file.header, EpochFiles.open(file.accounts, i - 1), EpochFiles.open(file.accounts, i)
            );
        }
        address worker = wronged(file.accounts, honest.accounts);
        if (worker == address(0)) worker = wronged(honest.accounts, file.accounts);
        disputes.proveBadAccount(
            file.header,
            worker,
            accountWitness(file.before, worker),
            workWitness(file, worker),
            accountWitness(file.accounts, worker)
        );
    }

    /// @dev Of an epoch that states no account none can be demanded; but whoever worked lacks one.
    function proveNoAccounts(EpochFile memory file) internal {
        address worker = file.leaves[0].worker;
        IRunLedger.AccountProof[] memory nothing = new IRunLedger.AccountProof[](0);
        disputes.proveBadAccount(file.header, worker, nothing, workWitness(file, worker), nothing);
    }

    function proveByDemand(EpochFile memory file, Lie lie, uint256 i) internal {
        uint32[] memory indices = new uint32[](1);
        IDisputes.DisputeKind tree = IDisputes.DisputeKind.Work;
        if (lie == Lie.SignatureHash) indices[0] = uint32(i % file.leaves.length);
        if (lie == Lie.WorkCount) indices[0] = file.header.workCount - 1;
        if (lie == Lie.AccountRoot || lie == Lie.AccountCount) tree = IDisputes.DisputeKind.Accounts;
        vm.prank(stranger);
        bytes32 disputeId = disputes.demand(file.header, tree, indices);
        later(RESPONSE);
        disputes.expire(disputeId);
    }

    // ------------------------------------------------------------ witnesses

    /// @notice The worker's account, or the gap where it would stand.
    function accountWitness(Account[] memory accounts, address worker)
        internal
        pure
        returns (IRunLedger.AccountProof[] memory witness)
    {
        (bool found, uint256 place) = find(accounts, worker);
        bool hasLeft = !found && place > 0;
        bool hasRight = place < accounts.length;
        witness = new IRunLedger.AccountProof[]((hasLeft ? 1 : 0) + (hasRight ? 1 : 0));
        if (hasLeft) witness[0] = EpochFiles.open(accounts, place - 1);
        if (hasRight) witness[witness.length - 1] = EpochFiles.open(accounts, place);
    }

    /// @notice The worker's last leaf with the one after it, or the gap where it would stand.
    function workWitness(EpochFile memory file, address worker)
        internal
        pure
        returns (IDisputes.WorkProof[] memory witness)
    {
        uint256 next = 0;
        while (next < file.leaves.length && file.leaves[next].worker <= worker) ++next;
        bool hasLeft = next > 0;
        bool hasRight = next < file.leaves.length;
        witness = new IDisputes.WorkProof[]((hasLeft ? 1 : 0) + (hasRight ? 1 : 0));
        if (hasLeft) witness[0] = openWork(file, next - 1);
        if (hasRight) witness[witness.length - 1] = openWork(file, next);
    }

    /// @notice Where the worker's account stands, or would.
    function find(Account[] memory accounts, address worker) internal pure returns (bool found, uint256 place) {
        while (place < accounts.length && accounts[place].worker < worker) ++place;
        found = place < accounts.length && accounts[place].worker == worker;
    }

    /// @notice The first worker of `mine` that `theirs` lacks or states otherwise.
    function wronged(Account[] memory mine, Account[] memory theirs) internal pure returns (address) {
        for (uint256 i = 0; i < mine.length; ++i) {
            (bool found, uint256 place) = find(theirs, mine[i].worker);
            if (!found || keccak256(abi.encode(mine[i])) != keccak256(abi.encode(theirs[place]))) {
                return mine[i].worker;
            }
        }
        return address(0);
    }

    function without(Account[] memory accounts, uint256 place) internal pure returns (Account[] memory rest) {
        rest = new Account[](accounts.length - 1);
        for (uint256 i = 0; i < rest.length; ++i) rest[i] = accounts[i < place ? i : i + 1];
    }

    function with(Account[] memory accounts, Account memory made, uint256 place)
        internal
        pure
        returns (Account[] memory all)
    {
        all = new Account[](accounts.length + 1);
        for (uint256 i = 0; i < all.length; ++i) {
            all[i] = i < place ? accounts[i] : i == place ? made : accounts[i - 1];
        }
    }
}
