// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IAttesterGate} from "../src/interfaces/IAttesterGate.sol";
import {ICouncil} from "../src/interfaces/ICouncil.sol";
import {IRunLedger} from "../src/interfaces/IRunLedger.sol";
import {World} from "./World.sol";

interface IRoles {
    function grantRole(bytes32 role, address account) external;
    function GUARDIAN() external view returns (bytes32);
}

/// @title What guardians, arbiters and attesters may do, and for how long
contract PowersTest is World {
    function setUp() public {
        build();
    }

    // ------------------------------------------------------------ the council

    function pause(address by, uint48 duration) internal {
        vm.prank(by);
        council.pause(duration, "reason");
    }

    function test_APauseIsBoundedAndNotRenewedWithinThirtyDays() public {
        vm.expectRevert();
        council.pause(1, "");
        vm.prank(guardian);
        vm.expectPartialRevert(ICouncil.PauseTooLong.selector);
        council.pause(7 days + 1, "");
        pause(guardian, 7 days);
        same(council.pausedUntil(), clock() + 7 days, "a week");
        later(7 days);
        vm.prank(guardian);
        vm.expectPartialRevert(ICouncil.PauseTooSoon.selector);
        council.pause(1, "");
        later(23 days - 1);
        vm.prank(guardian);
        vm.expectPartialRevert(ICouncil.PauseTooSoon.selector);
        council.pause(1, "");
        later(1);
        pause(guardian, 1);
    }

    function test_TwoGuardiansCannotTakeTurns() public {
        address second = who("second");
        IRoles roles = IRoles(address(council));
        roles.grantRole(roles.GUARDIAN(), second);
        pause(guardian, 7 days);
        later(7 days);
        vm.prank(second);
        vm.expectPartialRevert(ICouncil.PauseTooSoon.selector);
        council.pause(1, "");
    }

    function test_UnpausingDoesNotBringTheNextPauseCloser() public {
        pause(guardian, 7 days);
        later(1);
        vm.expectRevert();
        council.unpause();
        vm.prank(guardian);
        council.unpause();
        create(params(), 0);
        vm.prank(guardian);
        vm.expectPartialRevert(ICouncil.NotPaused.selector);
        council.unpause();
        vm.prank(guardian);
        vm.expectPartialRevert(ICouncil.PauseTooSoon.selector);
        council.pause(1, "");
    }

    function test_OnlyTheAdministratorAppoints() public {
        IRoles roles = IRoles(address(council));
        bytes32 role = roles.GUARDIAN();
        vm.prank(guardian);
        vm.expectRevert();
        roles.grantRole(role, stranger);
    }

    // ------------------------------------------------------------ the attester's gate

    function gated(bool onePerPerson) internal returns (IAttesterGate gate, uint256 runId) {
        address attester = who("attester");
        gate = IAttesterGate(
            vm.deployCode(
                "AttesterGate.sol:AttesterGate", abi.encode(ledger, attester, keccak256("adult"), onePerPerson)
            )
        );
        IRunLedger.RunParams memory p = params();
        p.gate = address(gate);
        runId = create(p, 0);
    }

    function evidence(IAttesterGate gate, uint256 runId, address worker, bytes32 nullifier, uint64 until)
        internal
        view
        returns (bytes memory)
    {
        bytes32 digest = gate.claimDigest(runId, worker, nullifier, until);
        return abi.encode(nullifier, until, signed(gate.attester(), digest));
    }

    function refused(uint256 runId, address worker, bytes memory shown) internal {
        vm.prank(worker);
        vm.expectPartialRevert(IRunLedger.NotEligible.selector);
        ledger.joinRun(runId, shown);
    }

    function joined(uint256 runId, address worker, bytes memory shown) internal {
        vm.prank(worker);
        ledger.joinRun(runId, shown);
        check(ledger.isJoined(runId, worker), "joined");
    }

    function test_AGateAdmitsWhomItsAttesterNamed() public {
        (IAttesterGate gate, uint256 runId) = gated(false);
        uint64 until = clock() + 10;
        bytes memory shown = evidence(gate, runId, workers[0], "person", until);
        refused(runId, workers[1], shown);
        refused(runId, workers[0], "");
        joined(runId, workers[0], shown);
        joined(runId, workers[1], evidence(gate, runId, workers[1], "person", until));
    }

    function test_AClaimExpiresAndIsRevoked() public {
        (IAttesterGate gate, uint256 runId) = gated(false);
        uint64 until = clock() + 10;
        bytes memory shown = evidence(gate, runId, workers[0], "person", until);
        bytes32 digest = gate.claimDigest(runId, workers[0], "person", until);
        later(10);
        uint256 start = vm.snapshotState();
        joined(runId, workers[0], shown);
        vm.revertToState(start);
        vm.expectPartialRevert(IAttesterGate.NotAttester.selector);
        gate.revoke(digest);
        address attester = gate.attester();
        vm.prank(attester);
        gate.revoke(digest);
        refused(runId, workers[0], shown);
        vm.revertToState(start);
        later(1);
        refused(runId, workers[0], shown);
    }

    function test_OnePersonHasOneAccount() public {
        (IAttesterGate gate, uint256 runId) = gated(true);
        uint64 until = clock() + 10;
        bytes memory shown = evidence(gate, runId, workers[0], "person", until);
        vm.expectPartialRevert(IAttesterGate.NotLedger.selector);
        gate.admit(runId, workers[0], shown);
        joined(runId, workers[0], shown);
        refused(runId, workers[1], evidence(gate, runId, workers[1], "person", until));
        joined(runId, workers[1], evidence(gate, runId, workers[1], "another", until));
    }

    function test_AGateCannotReachWhatWasEarned() public {
        (IAttesterGate gate, uint256 runId) = gated(false);
        joined(runId, workers[0], evidence(gate, runId, workers[0], "person", clock()));
        later(1);
        check(ledger.isJoined(runId, workers[0]), "joined for good");
    }
}
