// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IRunLedger} from "./interfaces/IRunLedger.sol";

/// @title What a run's parameters and an epoch's header must say, whoever signed them
library RunRules {
    uint256 internal constant MAX_MEMBERS = 64;
    uint256 internal constant MAX_WINDOW = 30 days;
    /// @dev A demand's bond is a hundredth of it for each leaf, and must not be nothing.
    uint256 internal constant MIN_STAKE = 100;
    /// @dev Digests below it would be some operator's address as a word, and share its meter.
    uint256 internal constant MIN_DIGEST = 1 << 160;

    /// @dev What anybody can examine within a window, and a search by demands narrows down in four rounds.
    uint256 internal constant MAX_WORK = 1 << 20;
    uint256 internal constant MAX_ACCOUNTS = 1 << 24;

    function checkParams(
        IRunLedger.RunParams calldata params,
        uint256 numRuns,
        uint256 unbondPeriod,
        uint256 minWindow
    ) internal pure {
        if (params.token == address(0)) revert IRunLedger.ZeroAddress();
        // Without parameters every leaf weighs nothing, and no cap is ever reached.
        if (params.rate == 0 || params.numParameters == 0) revert IRunLedger.ZeroAmount();
        if (params.minStake < MIN_STAKE) revert IRunLedger.AmountTooSmall(params.minStake, MIN_STAKE);
        if (uint256(params.baseModel) < MIN_DIGEST) {
            revert IRunLedger.AmountTooSmall(uint256(params.baseModel), MIN_DIGEST);
        }
        if (params.parentRun > numRuns) revert IRunLedger.NoSuchRun(params.parentRun);
        // Stake outlasts the time in which its owner's fraud can be shown, twice over: an epoch waits once before it is
        // disputed and once after the answer.
        uint256 most = (unbondPeriod - 1) / 2;
        _checkWindow(params.challengeWindow, minWindow, most < MAX_WINDOW ? most : MAX_WINDOW);
        _checkWindow(params.settleWindow, minWindow, MAX_WINDOW);
        _checkWindow(params.resumeDelay, minWindow, MAX_WINDOW);
        _checkWindow(params.permitPeriod, minWindow, MAX_WINDOW);
        _checkMembers(params.verifiers);
        _checkMembers(params.stewards);
        // More than half: two quorums that disagree then share a verifier.
        uint256 count = params.verifiers.length;
        if (params.threshold > count || uint256(params.threshold) * 2 <= count) {
            revert IRunLedger.BadThreshold(params.threshold, count);
        }
        count = params.stewards.length;
        if (params.stewardThreshold > count || (params.stewardThreshold == 0) != (count == 0)) {
            revert IRunLedger.BadThreshold(params.stewardThreshold, count);
        }
    }

    /// @dev What can be seen without a leaf. An epoch of no work says nothing new, or it could not be proven false.
    function checkTrees(IRunLedger.EpochHeader calldata header, bytes32 rootBefore, uint32 accountsBefore)
        internal
        pure
    {
        if (header.workCount > MAX_WORK) revert IRunLedger.AmountTooLarge(header.workCount, MAX_WORK);
        if (header.accountCount > MAX_ACCOUNTS) {
            revert IRunLedger.AmountTooLarge(header.accountCount, MAX_ACCOUNTS);
        }
        if (header.prevAccountRoot != rootBefore) {
            revert IRunLedger.WrongPreviousRoot(header.prevAccountRoot, rootBefore);
        }
        bool saysNothing = header.workRoot == 0 && header.total == 0 && header.tokens == 0
            && header.gflops == 0 && header.accountRoot == rootBefore;
        if (
            header.accountCount < accountsBefore
                || uint256(header.accountCount) > uint256(accountsBefore) + header.workCount
                || (header.workCount == 0 && !saysNothing)
        ) revert IRunLedger.InconsistentCounts(header.workCount, header.accountCount, accountsBefore);
    }

    /// @dev The largest `base * 2^k` that lies above `before` and not above `reached`; zero where there is none.
    function crossed(uint128 base, uint128 before, uint128 reached)
        internal
        pure
        returns (uint128 threshold)
    {
        if (base == 0 || reached < base) return 0;
        threshold = base << uint8(Math.log2(reached / base));
        if (threshold <= before) return 0;
    }

    function _checkWindow(uint256 given, uint256 least, uint256 most) private pure {
        if (given < least || given > most) revert IRunLedger.BadWindow(given, least, most);
    }

    function _checkMembers(address[] calldata members) private pure {
        if (members.length > MAX_MEMBERS) revert IRunLedger.AmountTooLarge(members.length, MAX_MEMBERS);
        address before = address(0);
        for (uint256 i = 0; i < members.length; ++i) {
            if (members[i] <= before) revert IRunLedger.NotAscending(before, members[i]);
            before = members[i];
        }
    }
}
