// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title Refuses some accounts, as regulated tokens do
contract ListToken is ERC20("Listed", "LIST") {
    mapping(address account => bool) public isBlocked;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setBlocked(address account, bool blocked) external {
        isBlocked[account] = blocked;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (isBlocked[from]) revert ERC20InvalidSender(from);
        if (isBlocked[to]) revert ERC20InvalidReceiver(to);
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

/// @title Calls a chosen target back during so many transfers, each within the one before
contract InsistentToken is ERC20("Insistent", "AGAIN") {
    address public target;
    bytes public data;
    uint256 public left;
    uint256 public numReentered;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function aim(address target_, bytes calldata data_, uint256 rounds) external {
        (target, data, left) = (target_, data_, rounds);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        if (left > 0) {
            --left;
            (bool success,) = target.call(data);
            if (success) ++numReentered;
        }
        return super.transfer(to, amount);
    }
}
