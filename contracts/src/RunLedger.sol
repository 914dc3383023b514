// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {EpochHash} from "./EpochHash.sol";
import {PositionalMerkle} from "./PositionalMerkle.sol";
import {Roster} from "./Roster.sol";
import {RunBase} from "./RunBase.sol";
import {RunEpochs} from "./RunEpochs.sol";
import {RunRules} from "./RunRules.sol";
import {RunSteering} from "./RunSteering.sol";
import {IGate} from "./interfaces/IGate.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";

/// @title Runs, escrow, epochs and claims; documented in IRunLedger
/// @dev One ledger in five files: RunBase (storage, guards, quorums), RunFinality, RunEpochs, RunSteering (deployed
///      apart, because together they pass the size that the EVM allows), and here everything that calls foreign code:
///      tokens and gates. Each of those functions is nonReentrant and calls last.
contract RunLedger is RunEpochs, ReentrancyGuardTransient, Multicall {
    using SafeERC20 for IERC20;

    uint256 public constant GATE_GAS = 500_000;

    /// @notice The code that steering functions are delegated to.
    address public immutable steering;

    constructor(
        address registry_,
        address disputes_,
        address council_,
        uint32 minWindow_,
        uint128 warnGflops_
    ) RunBase(registry_, disputes_, council_, minWindow_, warnGflops_) {
        steering = address(new RunSteering(registry_, disputes_, council_, minWindow_, warnGflops_));
    }

    // ------------------------------------------------------------------ money and people coming in

    function createRun(RunParams calldata params, uint256 budget, string calldata specURI)
        external
        nonReentrant
        whenUnpaused
        returns (uint256 runId)
    {
        RunRules.checkParams(params, numRuns, IStakeRegistry(registry).unbondPeriod(), minWindow);
        runId = ++numRuns;
        Run storage run = _runs[runId];
        run.operator = msg.sender;
        run.status = Status.Active;
        run.threshold = params.threshold;
        run.stewardThreshold = params.stewardThreshold;
        run.challengeWindow = params.challengeWindow;
        run.settleWindow = params.settleWindow;
        run.token = params.token;
        run.resumeDelay = params.resumeDelay;
        run.permitPeriod = params.permitPeriod;
        run.roster = Roster.write(params.verifiers, params.stewards);
        run.rate = params.rate;
        run.minStake = params.minStake;
        run.computeCap = params.computeCap;
        run.numParameters = params.numParameters;
        run.specHash = params.specHash;
        run.baseModel = params.baseModel;
        if (params.gate != address(0)) run.gate = params.gate;
        emit RunCreated(
            runId,
            msg.sender,
            params.baseModel,
            params.token,
            params.specHash,
            params.computeCap,
            params.parentRun,
            specURI,
            params.licence,
            params.intendedUse
        );
        _permit(runId, run);
        if (budget > 0) _fund(runId, run, budget);
    }

    function fundRun(uint256 runId, uint256 amount) external nonReentrant whenUnpaused {
        Run storage run = _requireRun(runId);
        if (run.status != Status.Active && run.status != Status.Halted) {
            revert WrongStatus(runId, run.status);
        }
        if (amount == 0) revert ZeroAmount();
        _fund(runId, run, amount);
    }

    function selfPermit(address token, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
    {
        try IERC20Permit(token).permit(msg.sender, address(this), value, deadline, v, r, s) {} catch {}
    }

    function joinRun(uint256 runId, bytes calldata evidence) external nonReentrant whenUnpaused {
        Run storage run = _requireLive(runId);
        if (isJoined[runId][msg.sender]) revert AlreadyJoined(runId, msg.sender);
        if (!IStakeRegistry(registry).isRegistered(msg.sender)) revert NotRegistered(msg.sender);
        _requireStake(msg.sender, run.minStake);
        isJoined[runId][msg.sender] = true;
        emit WorkerJoined(runId, msg.sender);
        address gate = run.gate;
        if (gate != address(0) && !_admits(gate, runId, evidence)) revert NotEligible(msg.sender);
    }

    // ------------------------------------------------------------------ money going out, which no pause reaches

    function claim(uint256 runId, uint32 epoch, AccountProof calldata account) external nonReentrant {
        Run storage run = _requireRun(runId);
        if (epoch >= run.numFinal) _advance(runId, run);
        if (epoch >= run.numFinal) revert EpochNotFinal(epoch, run.numFinal);
        Epoch storage stated = _epochs[runId][epoch];
        bytes32 leaf = EpochHash.account(account.worker, account.earned, account.lastNonce);
        if (!PositionalMerkle.verify(
                stated.accountRoot, leaf, account.index, stated.accountCount, account.proof
            )) {
            revert BadProof(account.worker, account.index);
        }
        uint256 earned = uint256(account.earned) * run.rate;
        uint256 claimed = claimedOf[runId][account.worker];
        if (earned <= claimed) revert NothingToClaim(earned, claimed);
        uint256 amount = earned - claimed;
        // Whatever the roots say, a run never pays more than its final epochs committed.
        if (amount > run.finalised - run.claimed) {
            revert ClaimExceedsFinal(run.claimed + amount, run.finalised);
        }

        claimedOf[runId][account.worker] = earned;
        run.claimed += uint128(amount);
        address payout = IStakeRegistry(registry).payoutOf(account.worker);
        emit Claimed(runId, account.worker, payout, amount, earned);
        IERC20(run.token).safeTransfer(payout, amount);
    }

    function withdrawCredit(address token) external nonReentrant {
        uint256 amount = creditOf[msg.sender][token];
        if (amount == 0) revert NoCredit(msg.sender);
        creditOf[msg.sender][token] = 0;
        emit CreditWithdrawn(msg.sender, token, amount);
        IERC20(token).safeTransfer(msg.sender, amount);
    }

    // ------------------------------------------------------------------ steering

    function renewPermit(uint256) external {
        _steer();
    }

    function lapseRun(uint256) external {
        _steer();
    }

    function haltRun(uint256, bytes32) external {
        _steer();
    }

    function resumeRun(uint256) external {
        _steer();
    }

    function stopRun(uint256) external {
        _steer();
    }

    function closeRun(uint256) external {
        _steer();
    }

    function creditUncommitted(uint256, address, uint256) external {
        _steer();
    }

    function retractEpoch(uint256, uint32, uint256, bytes[] calldata) external {
        _steer();
    }

    function proposeReplacement(uint256, uint8, address) external {
        _steer();
    }

    function replaceVerifier(uint256) external {
        _steer();
    }

    // ------------------------------------------------------------------ reading

    function requireQuorum(uint256 runId, bytes32 digest, uint256 signerBitmap, bytes[] calldata signatures)
        external
        view
    {
        _requireQuorum(_requireRun(runId), digest, signerBitmap, signatures);
    }

    function runOf(uint256 runId)
        external
        view
        returns (Run memory run, address[] memory verifiers, address[] memory stewards)
    {
        run = _requireRun(runId);
        (verifiers, stewards) = Roster.split(run.roster.code);
    }

    function verifierAt(uint256 runId, uint256 index) external view returns (address verifier, uint256 seat) {
        bytes memory roster = _requireRun(runId).roster.code;
        if (index >= Roster.numVerifiers(roster)) revert NoSuchVerifier(index);
        return (Roster.memberAt(roster, index), Roster.seatAt(roster, index));
    }

    function replacementOf(uint256 runId) external view returns (Replacement memory) {
        return _replacements[runId];
    }

    function minStakeOf(uint256 runId) external view returns (uint128) {
        return _requireRun(runId).minStake;
    }

    function numParametersOf(uint256 runId) external view returns (uint48) {
        return _requireRun(runId).numParameters;
    }

    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    // ------------------------------------------------------------------ rules

    /// @dev The same call, on this storage, by the other half of the code. Its refusals come through.
    function _steer() private {
        // slither-disable-next-line unused-return -- none of these functions returns anything
        Address.functionDelegateCall(steering, msg.data);
    }

    /// @dev Bounded gas, no return data beyond one word, and any failure is a refusal. An account without code, or an
    ///      answer that is no boolean, reverts without a reason: a refusal too.
    function _admits(address gate, uint256 runId, bytes calldata evidence) private returns (bool) {
        try IGate(gate).admit{gas: GATE_GAS}(runId, msg.sender, evidence) returns (bool admitted) {
            return admitted;
        } catch {
            return false;
        }
    }

    /// @dev The effect precedes the transfer; a token that delivers less than asked reverts it.
    function _fund(uint256 runId, Run storage run, uint256 amount) private {
        uint256 most = type(uint128).max - run.budget;
        if (amount > most) revert AmountTooLarge(amount, most);
        run.budget += uint128(amount);
        emit RunFunded(runId, msg.sender, amount, run.budget);
        uint256 before = IERC20(run.token).balanceOf(address(this));
        IERC20(run.token).safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = IERC20(run.token).balanceOf(address(this)) - before;
        if (received != amount) revert TransferMismatch(amount, received);
    }
}
