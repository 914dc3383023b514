// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title Delivers one wei less than asked, as tokens with a fee do
contract FeeToken is ERC20("Fee", "FEE") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        super.transferFrom(from, to, amount);
        _burn(to, 1);
        return true;
    }
}

/// @title Calls a chosen target back during every transfer, as ERC-777 hooks would
contract ReentrantToken is ERC20("Reenter", "REENT") {
    address public target;
    bytes public data;
    bool public hasReentered;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function aim(address target_, bytes calldata data_) external {
        (target, data) = (target_, data_);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        (bool success,) = target.call(data);
        if (success) hasReentered = true;
        return super.transfer(to, amount);
    }
}

/// @title Announces a payment that nobody made, in the ledger's words
contract MimicToken is ERC20("Mimic", "MIM") {
    event Claimed(uint256 indexed runId, address indexed worker, address payout, uint256 amount, uint256 claimed);

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        emit Claimed(1, to, to, amount + 1, amount + 1);
        return super.transfer(to, amount);
    }
}
