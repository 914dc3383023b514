// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// The council's administrator is OpenZeppelin's, unchanged; imported so that its artifact stands beside ours.
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
