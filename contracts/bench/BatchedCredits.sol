// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title The naive design, batched: the operator credits many contributions in one transaction
/// @notice For `benchmarks.gas` only, never deployed for use. The operator alone says who earned what; the chain keeps
///         the credits and, as an event, each contribution. Nobody signs, nobody can dispute.
contract BatchedCredits {
    using SafeERC20 for IERC20;

    /// @param nonce Ascends per worker, so that nothing is credited twice.
    struct Credit {
        address worker;
        uint64 nonce;
        uint64 tokens;
        bytes32 payloadDigest;
    }

    struct Account {
        uint128 earned;
        uint64 lastNonce;
        uint64 tokens;
    }

    error NotOperator(address caller);
    error StaleNonce(address worker, uint64 given, uint64 last);
    error BudgetExceeded(uint256 cost, uint256 available);

    event Contributed(address indexed worker, uint64 nonce, uint64 tokens, bytes32 payloadDigest);

    IERC20 public immutable token;
    address public immutable operator;
    uint128 public immutable rate;
    uint128 public budget;
    uint128 public committed;
    mapping(address worker => Account) public accounts;
    mapping(address worker => uint256) public withdrawn;

    constructor(IERC20 token_, uint128 rate_) {
        (token, rate, operator) = (token_, rate_, msg.sender);
    }

    function fund(uint128 amount) external {
        budget += amount;
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    function credit(Credit[] calldata credits) external {
        if (msg.sender != operator) revert NotOperator(msg.sender);
        uint128 cost = 0;
        for (uint256 i = 0; i < credits.length; ++i) {
            Credit calldata given = credits[i];
            Account storage account = accounts[given.worker];
            if (given.nonce <= account.lastNonce) {
                revert StaleNonce(given.worker, given.nonce, account.lastNonce);
            }
            uint128 earned = uint128(given.tokens) * rate;
            cost += earned;
            account.earned += earned;
            account.lastNonce = given.nonce;
            account.tokens += given.tokens;
            emit Contributed(given.worker, given.nonce, given.tokens, given.payloadDigest);
        }
        if (cost > budget - committed) revert BudgetExceeded(cost, budget - committed);
        committed += cost;
    }

    function withdraw() external {
        uint256 amount = accounts[msg.sender].earned - withdrawn[msg.sender];
        withdrawn[msg.sender] += amount;
        token.safeTransfer(msg.sender, amount);
    }
}
