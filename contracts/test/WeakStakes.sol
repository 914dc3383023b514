// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

// Stakes without one defence each: what `tests/adversarial` breaks before it fails to break the registry.

/// @title A registry that can be staked in and slashed
abstract contract WeakStakes {
    using SafeERC20 for IERC20;

    IERC20 internal immutable _token;
    mapping(address => uint256) public stakeOf;

    constructor(IERC20 token) {
        _token = token;
    }

    function stake(uint256 amount) external {
        stakeOf[msg.sender] += amount;
        _token.safeTransferFrom(msg.sender, address(this), amount);
    }

    function _slash(address worker, uint256 amount) internal returns (uint256 taken) {
        taken = amount < stakeOf[worker] ? amount : stakeOf[worker];
        stakeOf[worker] -= taken;
    }
}

/// @title Stake leaves at once
contract LeavesAtOnce is WeakStakes {
    using SafeERC20 for IERC20;

    constructor(IERC20 token) WeakStakes(token) {}

    function unbond(uint256 amount) external {
        stakeOf[msg.sender] -= amount;
        _token.safeTransfer(msg.sender, amount);
    }

    function slash(address worker, uint256 amount) external returns (uint256) {
        return _slash(worker, amount);
    }
}

/// @title Whoever proves a fault gets all that it costs
contract PaysFinderAll is WeakStakes {
    using SafeERC20 for IERC20;

    constructor(IERC20 token) WeakStakes(token) {}

    function slash(address worker, uint256 amount, address finder) external {
        _token.safeTransfer(finder, _slash(worker, amount));
    }
}

/// @title Bonds are set aside from the stake they protect
contract BondsFromStake is WeakStakes {
    using SafeERC20 for IERC20;

    mapping(address => uint256) public bondOf;

    constructor(IERC20 token) WeakStakes(token) {}

    function dispute(uint256 bond) external {
        stakeOf[msg.sender] -= bond;
        bondOf[msg.sender] += bond;
    }

    function closeDispute() external {
        uint256 bond = bondOf[msg.sender];
        bondOf[msg.sender] = 0;
        _token.safeTransfer(msg.sender, bond);
    }

    function slash(address worker, uint256 amount) external returns (uint256) {
        return _slash(worker, amount);
    }
}

/// @title A revoked key has never spoken for anybody
contract ForgetsKeys {
    mapping(address => address) public ownerOf;

    function addSigner(address signer) external {
        ownerOf[signer] = msg.sender;
    }

    function revokeSigner(address signer) external {
        require(ownerOf[signer] == msg.sender, "not its owner");
        ownerOf[signer] = address(0);
    }

    function spokeFor(address signer, address worker, uint64) external view returns (bool) {
        return ownerOf[signer] == worker;
    }
}
