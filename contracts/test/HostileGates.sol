// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

import {IGate} from "../src/interfaces/IGate.sol";

/// @title Joins again as the worker it is asked about: gate and worker in one, as any contract may be
contract ReenteringGate is IGate {
    uint256 public numAsked;
    uint256 public numRefused;
    uint256 private immutable _rounds;

    constructor(uint256 rounds) {
        _rounds = rounds;
    }

    /// @notice Call `target`, as the worker.
    function act(address target, bytes calldata data) external {
        Address.functionCall(target, data);
    }

    function admit(uint256 runId, address, bytes calldata evidence) external returns (bool) {
        if (++numAsked < _rounds) {
            (bool success,) = msg.sender.call(abi.encodeWithSignature("joinRun(uint256,bytes)", runId, evidence));
            if (!success) ++numRefused;
        }
        return true;
    }
}

/// @title Burns all the gas it is given
contract BurningGate is IGate {
    function admit(uint256, address, bytes calldata) external pure returns (bool) {
        for (uint256 i = 0;; ++i) {}
        return true;
    }
}

/// @title Answers with so much data that copying it would cost the caller dear
contract BombGate {
    fallback(bytes calldata) external returns (bytes memory) {
        return new bytes(200_000);
    }
}
