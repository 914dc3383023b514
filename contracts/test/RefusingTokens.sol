// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title Refuses some accounts, as regulated tokens do
contract ListToken is ERC20("Listed", "LIST") {
    error Blocked(address account);

    mapping(address account => bool) public isBlocked;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setBlocked(address account, bool blocked) external {
        isBlocked[account] = blocked;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (isBlocked[from]) revert Blocked(from);
        if (isBlocked[to]) revert Blocked(to);
        super._update(from, to, amount);
    }
}

/// @title Says no instead of reverting, and moves nothing, as some old tokens do
contract SilentToken is ERC20("Silent", "SHH") {
    bool public isOff;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function turnOff(bool off) external {
        isOff = off;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        return !isOff && super.transfer(to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        return !isOff && super.transferFrom(from, to, amount);
    }
}
