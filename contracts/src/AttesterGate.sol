// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {IAttesterGate} from "./interfaces/IAttesterGate.sol";

/// @title A gate that believes one attester; documented in IAttesterGate
contract AttesterGate is IAttesterGate, EIP712 {
    bytes32 private constant CLAIM =
        keccak256("Claim(uint256 runId,address worker,bytes32 kind,bytes32 nullifier,uint64 expiresAt)");

    address public immutable ledger;
    address public immutable attester;
    bytes32 public immutable claimKind;
    bool public immutable onePerPerson;

    mapping(bytes32 claim => bool) public isRevoked;
    mapping(uint256 runId => mapping(bytes32 nullifier => bool)) public isSpent;

    constructor(address ledger_, address attester_, bytes32 claimKind_, bool onePerPerson_)
        EIP712("RollcallGate", "1")
    {
        if (ledger_ == address(0) || attester_ == address(0)) revert ZeroAddress();
        ledger = ledger_;
        attester = attester_;
        claimKind = claimKind_;
        onePerPerson = onePerPerson_;
    }

    function admit(uint256 runId, address worker, bytes calldata evidence) external returns (bool) {
        // Anyone else could spend a nullifier that its owner has yet to use.
        if (msg.sender != ledger) revert NotLedger(msg.sender);
        if (refusalOf(runId, worker, evidence) != Refusal.None) return false;
        if (!onePerPerson) return true;
        (bytes32 nullifier,,) = abi.decode(evidence, (bytes32, uint64, bytes));
        isSpent[runId][nullifier] = true;
        emit NullifierSpent(runId, nullifier, worker);
        return true;
    }

    function revoke(bytes32 claim) external {
        if (msg.sender != attester) revert NotAttester(msg.sender);
        isRevoked[claim] = true;
        emit ClaimRevoked(claim);
    }

    function refusalOf(uint256 runId, address worker, bytes calldata evidence) public view returns (Refusal) {
        (bytes32 nullifier, uint64 expiresAt, bytes memory signature) =
            abi.decode(evidence, (bytes32, uint64, bytes));
        bytes32 claim = claimDigest(runId, worker, nullifier, expiresAt);
        if (!SignatureChecker.isValidSignatureNow(attester, claim, signature)) return Refusal.NotAttested;
        if (block.timestamp > expiresAt) return Refusal.Expired;
        if (isRevoked[claim]) return Refusal.Revoked;
        if (onePerPerson && isSpent[runId][nullifier]) return Refusal.NullifierUsed;
        return Refusal.None;
    }

    function claimDigest(uint256 runId, address worker, bytes32 nullifier, uint64 expiresAt)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(keccak256(abi.encode(CLAIM, runId, worker, claimKind, nullifier, expiresAt)));
    }
}
