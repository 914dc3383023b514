// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {World} from "./World.sol";

/// @title Stakes that leave late, and keys that belong to one identity
contract RegistryTest is World {
    address internal worker;

    function setUp() public {
        build();
        worker = workers[0];
    }

    function test_StakeLeavesAfterTheUnbondPeriodOnly() public {
        vm.prank(worker);
        vm.expectPartialRevert(IStakeRegistry.NotEnoughStake.selector);
        registry.unbond(STAKE + 1);
        vm.prank(worker);
        registry.unbond(STAKE);
        same(registry.stakeOf(worker), 0, "counts no more");
        later(UNBOND - 1);
        vm.prank(worker);
        vm.expectPartialRevert(IStakeRegistry.StillUnbonding.selector);
        registry.withdrawStake();
        later(1);
        vm.prank(worker);
        registry.withdrawStake();
        same(token.balanceOf(worker), uint256(STAKE) * 100, "back");
    }

    function test_UnbondingMoreRestartsTheWaitForAll() public {
        vm.prank(worker);
        registry.unbond(1);
        later(UNBOND - 1);
        vm.prank(worker);
        registry.unbond(1);
        later(1);
        vm.prank(worker);
        vm.expectPartialRevert(IStakeRegistry.StillUnbonding.selector);
        registry.withdrawStake();
    }

    function testFuzz_WhatComesInGoesOut(uint128 first, uint128 second, uint256 part) public {
        first = uint128(bound(first, 1, 1e30));
        second = uint128(bound(second, 1, 1e30));
        token.mint(worker, uint256(first) + second);
        uint256 before = token.balanceOf(worker);
        vm.prank(worker);
        registry.stake(first);
        vm.prank(worker);
        registry.stake(second);
        part = bound(part, 1, uint256(STAKE) + first + second);
        vm.prank(worker);
        registry.unbond(part);
        later(UNBOND);
        vm.prank(worker);
        registry.withdrawStake();
        same(token.balanceOf(worker), before - first - second + part, "out");
        same(registry.stakeOf(worker), uint256(STAKE) + first + second - part, "left");
    }

    function test_AKeyNeedsItsOwnConsentAndBelongsToOneIdentity() public {
        address hot = who("hot");
        bytes memory consent = signed(hot, registry.consentDigest(worker, hot));
        vm.prank(workers[1]);
        vm.expectPartialRevert(IStakeRegistry.ConsentMissing.selector);
        registry.addSigner(hot, consent);
        vm.prank(worker);
        registry.addSigner(hot, consent);
        check(registry.ownerOf(hot) == worker, "the worker's");
        consent = signed(hot, registry.consentDigest(workers[1], hot));
        vm.prank(workers[1]);
        vm.expectPartialRevert(IStakeRegistry.SignerTaken.selector);
        registry.addSigner(hot, consent);
    }

    function test_ARevokedKeySpeaksUntilTheDelayHasPassed() public {
        vm.prank(workers[1]);
        vm.expectPartialRevert(IStakeRegistry.SignerNotOwned.selector);
        registry.revokeSigner(worker);
        vm.prank(worker);
        registry.revokeSigner(worker);
        uint64 until = clock() + REVOKE;
        later(REVOKE - 1);
        check(registry.ownerOf(worker) == worker, "still");
        later(1);
        check(registry.ownerOf(worker) == address(0), "no more");
        vm.prank(worker);
        vm.expectPartialRevert(IStakeRegistry.SignerAlreadyRevoked.selector);
        registry.revokeSigner(worker);
        check(!registry.spokeFor(address(0), address(0), clock()), "nobody speaks for nobody");
        (, uint64 stated) = registry.signerOf(worker);
        same(stated, until, "until");
    }

    function test_OnlyDisputesReachesStakeAndBonds() public {
        bytes4 refusal = IStakeRegistry.NotSlasher.selector;
        vm.expectPartialRevert(refusal);
        registry.hold(worker, 1);
        vm.expectPartialRevert(refusal);
        registry.release(worker, 0);
        vm.expectPartialRevert(refusal);
        registry.slash(worker, 0, address(this));
        vm.expectPartialRevert(refusal);
        registry.seize(worker, 1, address(this));
        vm.expectPartialRevert(refusal);
        registry.postBond(worker, 1);
        vm.expectPartialRevert(refusal);
        registry.returnBond(address(this), 0);
        vm.expectPartialRevert(refusal);
        registry.forfeitBond(0, address(this));
    }

    function test_HoldsOverlapAndSlashingTakesBondedStakeFirst() public {
        vm.prank(worker);
        registry.unbond(STAKE / 4);
        vm.prank(address(disputes));
        same(registry.hold(worker, STAKE / 2), STAKE / 2, "as asked");
        vm.prank(address(disputes));
        same(registry.hold(worker, STAKE * 2), STAKE, "no more than there is, held already or not");
        vm.prank(address(disputes));
        registry.slash(worker, STAKE / 2, address(0));
        same(registry.stakeOf(worker), STAKE / 4, "what is bonded goes first");
        same(registry.creditOf(treasury), STAKE / 2, "all to the treasury without a finder");
        vm.prank(address(disputes));
        registry.slash(worker, STAKE, stranger);
        IStakeRegistry.Account memory account = registry.accountOf(worker);
        same(account.stake + account.unbonding + account.locked, 0, "nothing left, and nothing taken twice");
        same(registry.creditOf(stranger), STAKE / 8, "a quarter");
        same(registry.creditOf(treasury), STAKE * 7 / 8, "the rest");
        vm.prank(stranger);
        registry.withdrawCredit();
        vm.prank(stranger);
        vm.expectPartialRevert(IStakeRegistry.ZeroAmount.selector);
        registry.withdrawCredit();
    }
}
