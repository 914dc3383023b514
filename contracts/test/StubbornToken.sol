// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title Changes an allowance only from zero, as USDT does, and has a permit of another shape, as DAI does
contract StubbornToken is ERC20("Stubborn", "NO") {
    bytes32 public constant DOMAIN_SEPARATOR = keccak256("not EIP-2612");
    mapping(address owner => uint256) public nonces;

    error AllowanceStands(uint256 allowance);

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function approve(address spender, uint256 amount) public override returns (bool) {
        uint256 standing = allowance(msg.sender, spender);
        if (standing != 0 && amount != 0) revert AllowanceStands(standing);
        return super.approve(spender, amount);
    }
}
