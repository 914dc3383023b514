// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title A worthless token for development chains
/// @notice Anyone may mint any amount. Never give it to a run that is meant to pay.
contract TestToken is ERC20("Rollcall test credit", "RTEST"), ERC20Permit("Rollcall test credit") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}
