// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRunLedger} from "../src/interfaces/IRunLedger.sol";
import {Tree} from "./Tree.sol";

/// @notice What a worker has earned in a run so far.
struct Account {
    address worker;
    uint128 earned;
    uint64 lastNonce;
}

/// @notice An epoch as it is published: every leaf with its signature, every account, the header they lead to.
struct EpochFile {
    IRunLedger.EpochHeader header;
    IRunLedger.WorkLeaf[] leaves;
    bytes[] signatures;
    Account[] accounts;
    Account[] before;
}

/// @title Writing epochs as an honest settlement does
/// @notice Hashes are spelled out here from `protocol/wire.md`; nothing is taken from the contracts' library.
library EpochFiles {
    bytes32 internal constant WORK = keccak256(
        "Work(uint256 runId,address worker,uint64 nonce,bytes32 payloadDigest,uint64 policyVersion,uint64 submittedAt,uint64 tokens,uint64 gflops)"
    );
    bytes32 internal constant WORK_LEAF = keccak256(
        "WorkLeaf(uint256 runId,address worker,uint64 nonce,bytes32 payloadDigest,uint64 policyVersion,uint64 submittedAt,uint64 tokens,uint64 gflops,bytes32 signatureHash,uint128 units,uint128 workerSum,uint128 epochSum,uint64 tokenSum,uint64 gflopSum)"
    );
    bytes32 internal constant ACCOUNT = keccak256("Account(address worker,uint128 earned,uint64 lastNonce)");
    bytes32 internal constant HEADER = keccak256(
        "EpochHeader(uint256 runId,uint32 epoch,uint64 generation,bytes32 prevAccountRoot,bytes32 workRoot,bytes32 accountRoot,uint32 workCount,uint32 accountCount,uint128 total,uint64 tokens,uint64 gflops,bytes32 dataHash)"
    );

    // ------------------------------------------------------------ writing

    /// @notice Sort the leaves, form their sums, carry the accounts on, and fill in the header. The caller has
    ///         filled the leaves' own fields, `before`, and who and when the header is.
    function settle(EpochFile memory file) internal pure {
        sort(file);
        sum(file.leaves);
        file.accounts = carried(file);
        close(file);
    }

    /// @notice Fill in what the header says of the leaves and accounts as they now stand.
    function close(EpochFile memory file) internal pure {
        IRunLedger.EpochHeader memory header = file.header;
        uint256 count = file.leaves.length;
        header.prevAccountRoot = Tree.root(accountHashes(file.before));
        header.workCount = uint32(count);
        header.accountCount = uint32(file.accounts.length);
        if (count > 0) {
            header.total = file.leaves[count - 1].epochSum;
            header.tokens = file.leaves[count - 1].tokenSum;
            header.gflops = file.leaves[count - 1].gflopSum;
        }
        plant(file);
    }

    /// @notice Set the header's roots to those of the leaves and accounts as they now stand.
    function plant(EpochFile memory file) internal pure {
        file.header.workRoot = Tree.root(leafHashes(file.leaves));
        file.header.accountRoot = Tree.root(accountHashes(file.accounts));
    }

    function sort(EpochFile memory file) internal pure {
        for (uint256 i = 1; i < file.leaves.length; ++i) {
            for (uint256 j = i; j > 0 && !ascend(file.leaves[j - 1], file.leaves[j]); --j) swap(file, j - 1, j);
        }
    }

    function swap(EpochFile memory file, uint256 i, uint256 j) internal pure {
        (file.leaves[i], file.leaves[j]) = (file.leaves[j], file.leaves[i]);
        (file.signatures[i], file.signatures[j]) = (file.signatures[j], file.signatures[i]);
    }

    function ascend(IRunLedger.WorkLeaf memory left, IRunLedger.WorkLeaf memory right)
        internal
        pure
        returns (bool)
    {
        return left.worker < right.worker || (left.worker == right.worker && left.nonce < right.nonce);
    }

    function sum(IRunLedger.WorkLeaf[] memory leaves) internal pure {
        for (uint256 i = 0; i < leaves.length; ++i) {
            IRunLedger.WorkLeaf memory leaf = leaves[i];
            (leaf.workerSum, leaf.epochSum, leaf.tokenSum, leaf.gflopSum) =
                (leaf.units, leaf.units, leaf.tokens, leaf.gflops);
            if (i == 0) continue;
            if (leaves[i - 1].worker == leaf.worker) leaf.workerSum += leaves[i - 1].workerSum;
            leaf.epochSum += leaves[i - 1].epochSum;
            leaf.tokenSum += leaves[i - 1].tokenSum;
            leaf.gflopSum += leaves[i - 1].gflopSum;
        }
    }

    /// @notice The accounts before, plus each worker's last sum and nonce.
    function carried(EpochFile memory file) internal pure returns (Account[] memory accounts) {
        Account[] memory all = new Account[](file.before.length + file.leaves.length);
        uint256 count = file.before.length;
        for (uint256 i = 0; i < count; ++i) {
            all[i] = Account(file.before[i].worker, file.before[i].earned, file.before[i].lastNonce);
        }
        for (uint256 i = 0; i < file.leaves.length; ++i) {
            IRunLedger.WorkLeaf memory leaf = file.leaves[i];
            uint256 place = 0;
            while (place < count && all[place].worker != leaf.worker) ++place;
            if (place == count) all[count++].worker = leaf.worker;
            all[place].earned += leaf.units;
            all[place].lastNonce = leaf.nonce;
        }
        accounts = new Account[](count);
        for (uint256 i = 0; i < count; ++i) {
            uint256 j = i;
            for (; j > 0 && accounts[j - 1].worker > all[i].worker; --j) accounts[j] = accounts[j - 1];
            accounts[j] = all[i];
        }
    }

    // ------------------------------------------------------------ hashes and openings

    function leafHashes(IRunLedger.WorkLeaf[] memory leaves) internal pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[](leaves.length);
        for (uint256 i = 0; i < leaves.length; ++i) hashes[i] = keccak256(abi.encode(WORK_LEAF, leaves[i]));
    }

    function accountHashes(Account[] memory accounts) internal pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[](accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) hashes[i] = keccak256(abi.encode(ACCOUNT, accounts[i]));
    }

    function headerHash(IRunLedger.EpochHeader memory header) internal pure returns (bytes32) {
        return keccak256(abi.encode(HEADER, header));
    }

    /// @notice What the worker signs.
    function workHash(IRunLedger.WorkLeaf memory leaf) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                WORK,
                leaf.runId,
                leaf.worker,
                leaf.nonce,
                leaf.payloadDigest,
                leaf.policyVersion,
                leaf.submittedAt,
                leaf.tokens,
                leaf.gflops
            )
        );
    }

    /// @notice One account with its path.
    function open(Account[] memory accounts, uint256 index)
        internal
        pure
        returns (IRunLedger.AccountProof memory)
    {
        Account memory account = accounts[index];
        return IRunLedger.AccountProof(
            account.worker, account.earned, account.lastNonce, index, Tree.proof(accountHashes(accounts), index)
        );
    }
}
