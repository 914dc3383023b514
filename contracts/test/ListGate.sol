// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IGate} from "../src/interfaces/IGate.sol";

/// @title Admits whoever knows a word
contract ListGate is IGate {
    bytes32 private immutable _wordHash;

    constructor(bytes32 wordHash) {
        _wordHash = wordHash;
    }

    function admit(uint256, address, bytes calldata evidence) external view returns (bool) {
        return keccak256(evidence) == _wordHash;
    }
}
