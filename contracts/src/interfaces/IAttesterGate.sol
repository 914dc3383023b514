// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IGate} from "./IGate.sol";

/// @title A gate that believes one attester
/// @notice Evidence is abi.encode(bytes32 nullifier, uint64 expiresAt, bytes signature), the signature being the
///         attester's (a key's, or a contract's by EIP-1271) over Claim(uint256 runId,address worker,bytes32 kind,
///         bytes32 nullifier,uint64 expiresAt) in the domain ("RollcallGate", "1", chain, this contract).
///         What was checked about a person stays with the attester: the chain sees the kind of claim and a nullifier.
/// @dev Not protected: an attester that lies, or that gives one person two nullifiers.
interface IAttesterGate is IGate {
    enum Refusal {
        None,
        NotAttested,
        Expired,
        Revoked,
        NullifierUsed
    }

    error ZeroAddress();
    error NotLedger(address caller);
    error NotAttester(address caller);

    event ClaimRevoked(bytes32 indexed claim);
    event NullifierSpent(uint256 indexed runId, bytes32 indexed nullifier, address indexed worker);

    /// @notice Withdraw a claim before it expires. Attester only. Who has joined stays joined: a gate refuses entry and
    ///         nothing else.
    function revoke(bytes32 claim) external;

    /// @notice Why `admit` would refuse this evidence now. Evidence that does not decode reverts.
    function refusalOf(uint256 runId, address worker, bytes calldata evidence) external view returns (Refusal);

    /// @notice The digest that the attester signs.
    function claimDigest(uint256 runId, address worker, bytes32 nullifier, uint64 expiresAt)
        external
        view
        returns (bytes32);

    function isRevoked(bytes32 claim) external view returns (bool);

    /// @notice Whether somebody joined this run with this nullifier. Always false unless `onePerPerson`.
    function isSpent(uint256 runId, bytes32 nullifier) external view returns (bool);

    function ledger() external view returns (address);

    function attester() external view returns (address);

    /// @notice What the attester vouches for: a digest of its text.
    function claimKind() external view returns (bytes32);

    /// @notice Whether each nullifier opens a run to one worker only.
    function onePerPerson() external view returns (bool);
}
