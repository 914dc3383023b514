// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {EpochHash} from "../src/EpochHash.sol";
import {PositionalMerkle} from "../src/PositionalMerkle.sol";
import {IGate} from "../src/interfaces/IGate.sol";
import {IRunLedger} from "../src/interfaces/IRunLedger.sol";

// Money without one defence each: what `tests/adversarial` breaks before it fails to break the ledger.

/// @title Pays whoever shows an account leaf, and remembers nothing
contract PaysAgain {
    using SafeERC20 for IERC20;

    IERC20 private immutable _token;
    bytes32 private immutable _root;
    uint256 private immutable _count;

    constructor(IERC20 token, bytes32 root, uint256 count) {
        (_token, _root, _count) = (token, root, count);
    }

    function claim(IRunLedger.AccountProof calldata account) external {
        bytes32 leaf = EpochHash.account(account.worker, account.earned, account.lastNonce);
        require(PositionalMerkle.verify(_root, leaf, account.index, _count, account.proof), "not in the tree");
        _token.safeTransfer(account.worker, account.earned);
    }
}

/// @title Books what a depositor says it sent
contract TakesItsWord {
    using SafeERC20 for IERC20;

    IERC20 private immutable _token;
    mapping(address => uint256) public balanceOf;

    constructor(IERC20 token) {
        _token = token;
    }

    function deposit(uint256 amount) external {
        balanceOf[msg.sender] += amount;
        _token.safeTransferFrom(msg.sender, address(this), amount);
    }

    function withdraw() external {
        uint256 amount = balanceOf[msg.sender];
        balanceOf[msg.sender] = 0;
        _token.safeTransfer(msg.sender, amount);
    }
}

/// @title Asks for tokens and does not listen to the answer
contract IgnoresAnswers {
    IERC20 private immutable _token;
    mapping(address => uint256) public balanceOf;

    constructor(IERC20 token) {
        _token = token;
    }

    function deposit(uint256 amount) external {
        balanceOf[msg.sender] += amount;
        _token.transferFrom(msg.sender, address(this), amount);
    }
}

/// @title Pays everybody in one transaction
contract PaysAll {
    using SafeERC20 for IERC20;

    IERC20 private immutable _token;
    address[] private _workers;

    constructor(IERC20 token, address[] memory workers) {
        (_token, _workers) = (token, workers);
    }

    function payAll(uint256 amount) external {
        for (uint256 i = 0; i < _workers.length; ++i) {
            _token.safeTransfer(_workers[i], amount);
        }
    }
}

/// @title Sends first, writes afterwards, and lets itself be entered again
contract PaysFirst {
    using SafeERC20 for IERC20;

    IERC20 private immutable _token;
    mapping(address => uint256) public owed;

    constructor(IERC20 token) {
        _token = token;
    }

    function owe(address worker, uint256 amount) external {
        owed[worker] = amount;
    }

    function pay(address worker) external {
        _token.safeTransfer(worker, owed[worker]);
        owed[worker] = 0;
    }
}

/// @title Takes a deposit only with a permit that nobody has used
contract NeedsPermit {
    using SafeERC20 for IERC20;

    IERC20 private immutable _token;

    constructor(IERC20 token) {
        _token = token;
    }

    function deposit(uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external {
        IERC20Permit(address(_token)).permit(msg.sender, address(this), amount, deadline, v, r, s);
        _token.safeTransferFrom(msg.sender, address(this), amount);
    }
}

/// @title Gives a grant to whom a gate admits: asks with all its gas, believes the answer, and writes afterwards
contract AsksGate {
    using SafeERC20 for IERC20;

    uint256 public constant GRANT = 100;

    IERC20 private immutable _token;
    IGate private immutable _gate;
    mapping(address => bool) public isJoined;

    constructor(IERC20 token, IGate gate) {
        (_token, _gate) = (token, gate);
    }

    function joinRun(uint256 runId, bytes calldata evidence) external {
        require(!isJoined[msg.sender], "already joined");
        require(_gate.admit(runId, msg.sender, evidence), "not eligible");
        isJoined[msg.sender] = true;
        _token.safeTransfer(msg.sender, GRANT);
    }
}
