// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title The naive design: every contribution is a transaction
/// @notice For `benchmarks.gas` only, never deployed for use. The worker submits each contribution to the chain, which
///         keeps its record and books what it earns at once. As lean as that design gets: one record of three words,
///         one account of two, no verifier, no dispute, no signature to check.
contract EachOnChain {
    using SafeERC20 for IERC20;

    /// @dev Packed into three words.
    struct Contribution {
        bytes32 payloadDigest;
        address worker;
        uint64 nonce;
        uint64 tokens;
        uint64 gflops;
        uint64 policyVersion;
        uint48 submittedAt;
    }

    struct Account {
        uint128 earned;
        uint128 withdrawn;
        uint64 lastNonce;
        uint64 tokens;
        uint64 gflops;
    }

    error StaleNonce(uint64 given, uint64 last);
    error BudgetExceeded(uint256 cost, uint256 available);

    event Contributed(uint256 indexed id, address indexed worker, bytes32 payloadDigest, uint64 tokens);

    IERC20 public immutable token;
    uint128 public immutable rate;
    uint128 public budget;
    uint128 public committed;
    uint256 public numContributions;
    mapping(uint256 id => Contribution) public contributions;
    mapping(address worker => Account) public accounts;

    constructor(IERC20 token_, uint128 rate_) {
        (token, rate) = (token_, rate_);
    }

    function fund(uint128 amount) external {
        budget += amount;
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    function contribute(bytes32 payloadDigest, uint64 nonce, uint64 policyVersion, uint64 tokens, uint64 gflops)
        external
    {
        Account storage account = accounts[msg.sender];
        if (nonce <= account.lastNonce) revert StaleNonce(nonce, account.lastNonce);
        uint128 cost = uint128(tokens) * rate;
        if (cost > budget - committed) revert BudgetExceeded(cost, budget - committed);
        committed += cost;
        account.earned += cost;
        account.lastNonce = nonce;
        account.tokens += tokens;
        account.gflops += gflops;
        uint256 id = numContributions++;
        contributions[id] = Contribution(
            payloadDigest, msg.sender, nonce, tokens, gflops, policyVersion, uint48(block.timestamp)
        );
        emit Contributed(id, msg.sender, payloadDigest, tokens);
    }

    function withdraw() external {
        Account storage account = accounts[msg.sender];
        uint128 amount = account.earned - account.withdrawn;
        account.withdrawn = account.earned;
        token.safeTransfer(msg.sender, amount);
    }
}
