// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";

/// @title Stakes, hot keys and payout addresses; documented in IStakeRegistry
contract StakeRegistry is IStakeRegistry, EIP712, ReentrancyGuardTransient, Multicall {
    using SafeERC20 for IERC20;

    struct Signer {
        address owner;
        uint64 until;
    }

    bytes32 private constant DELEGATE_TYPE = keccak256("Delegate(address owner,address signer)");

    /// @dev Only a development chain goes near this; a market asks for seven days.
    uint64 public constant MIN_UNBOND_PERIOD = 1 seconds;
    /// @dev Far from 100: a cheat that finds itself must still lose most of its stake.
    uint256 public constant BOUNTY_PERCENT = 25;

    address public immutable token;
    address public immutable treasury;
    address public immutable slasher;
    uint64 public immutable unbondPeriod;
    uint64 public immutable revokeDelay;

    mapping(address worker => Account) private _accounts;
    mapping(address key => Signer) private _signers;
    mapping(address account => uint256) public creditOf;
    uint256 public bonds;

    constructor(
        address token_,
        address treasury_,
        address slasher_,
        uint64 unbondPeriod_,
        uint64 revokeDelay_
    ) EIP712("RollcallStake", "1") {
        if (token_ == address(0) || treasury_ == address(0) || slasher_ == address(0)) {
            revert ZeroAddress();
        }
        if (unbondPeriod_ < MIN_UNBOND_PERIOD) revert UnbondPeriodTooShort(unbondPeriod_, MIN_UNBOND_PERIOD);
        token = token_;
        treasury = treasury_;
        slasher = slasher_;
        unbondPeriod = unbondPeriod_;
        revokeDelay = revokeDelay_;
    }

    modifier onlySlasher() {
        if (msg.sender != slasher) revert NotSlasher(msg.sender);
        _;
    }

    modifier onlyRegistered() {
        if (!isRegistered(msg.sender)) revert NotRegistered(msg.sender);
        _;
    }

    function register(uint256 amount, address signer, address payout, bytes calldata consent)
        external
        nonReentrant
    {
        if (isRegistered(msg.sender)) revert AlreadyRegistered(msg.sender);
        if (payout == address(0)) revert ZeroAddress();
        _accounts[msg.sender].payout = payout;
        _bind(signer, consent);
        emit Registered(msg.sender, signer, payout);
        if (amount > 0) _deposit(amount);
    }

    function stake(uint256 amount) external nonReentrant onlyRegistered {
        if (amount == 0) revert ZeroAmount();
        _deposit(amount);
    }

    function addSigner(address signer, bytes calldata consent) external onlyRegistered {
        _bind(signer, consent);
    }

    function revokeSigner(address signer) external {
        Signer storage record = _signers[signer];
        if (record.owner != msg.sender) revert SignerNotOwned(signer, msg.sender);
        if (record.until != type(uint64).max) revert SignerAlreadyRevoked(signer, record.until);
        record.until = uint64(block.timestamp) + revokeDelay;
        emit SignerRevoked(msg.sender, signer, record.until);
    }

    function setPayout(address payout) external onlyRegistered {
        if (payout == address(0)) revert ZeroAddress();
        _accounts[msg.sender].payout = payout;
        emit PayoutSet(msg.sender, payout);
    }

    function unbond(uint256 amount) external {
        Account storage account = _accounts[msg.sender];
        if (amount == 0) revert ZeroAmount();
        if (amount > account.stake) revert NotEnoughStake(account.stake, amount);
        account.stake -= uint128(amount);
        account.unbonding += uint128(amount);
        account.unlockAt = uint64(block.timestamp) + unbondPeriod;
        emit Unbonding(msg.sender, amount, account.unlockAt);
    }

    function withdrawStake() external nonReentrant {
        Account storage account = _accounts[msg.sender];
        if (account.unbonding == 0) revert ZeroAmount();
        if (block.timestamp < account.unlockAt) {
            revert StillUnbonding(account.unlockAt, uint64(block.timestamp));
        }
        uint128 kept = account.locked > account.stake ? account.locked - account.stake : 0;
        if (kept >= account.unbonding) revert StakeLocked(account.locked, account.stake + account.unbonding);
        uint128 amount = account.unbonding - kept;
        account.unbonding = kept;
        emit StakeWithdrawn(msg.sender, amount);
        IERC20(token).safeTransfer(msg.sender, amount);
    }

    function withdrawCredit() external nonReentrant {
        uint256 amount = creditOf[msg.sender];
        if (amount == 0) revert ZeroAmount();
        creditOf[msg.sender] = 0;
        emit CreditWithdrawn(msg.sender, amount);
        IERC20(token).safeTransfer(msg.sender, amount);
    }

    function selfPermit(uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external {
        try IERC20Permit(token).permit(msg.sender, address(this), value, deadline, v, r, s) {} catch {}
    }

    function hold(address worker, uint128 amount) external onlySlasher returns (uint128 held) {
        Account storage account = _accounts[worker];
        // Holds overlap: a cheat could otherwise have its stake held by a run of its own, for nothing.
        held = _upTo(amount, account);
        account.locked += held;
        emit StakeHeld(worker, held);
    }

    function release(address worker, uint128 held) external onlySlasher {
        _accounts[worker].locked -= held;
        emit StakeReleased(worker, held);
    }

    function slash(address worker, uint128 held, address finder) external onlySlasher {
        Account storage account = _accounts[worker];
        account.locked -= held;
        _take(worker, _upTo(held, account), finder);
    }

    function seize(address worker, uint128 amount, address finder)
        external
        onlySlasher
        returns (uint128 taken)
    {
        taken = _upTo(amount, _accounts[worker]);
        if (taken > 0) _take(worker, taken, finder);
    }

    function postBond(address from, uint128 amount) external onlySlasher nonReentrant {
        bonds += amount;
        emit BondPosted(from, amount);
        _pull(from, amount);
    }

    function returnBond(address to, uint128 amount) external onlySlasher {
        bonds -= amount;
        creditOf[to] += amount;
        emit BondReturned(to, amount);
    }

    function forfeitBond(uint128 amount, address finder) external onlySlasher {
        bonds -= amount;
        emit BondForfeited(amount, finder, _share(amount, finder));
    }

    function ownerOf(address signer) public view returns (address) {
        Signer storage record = _signers[signer];
        return block.timestamp < record.until ? record.owner : address(0);
    }

    function signerOf(address signer) external view returns (address owner, uint64 until) {
        Signer storage record = _signers[signer];
        return (record.owner, record.until);
    }

    function standingOf(address signer) external view returns (address owner, uint256 bonded) {
        owner = ownerOf(signer);
        bonded = _accounts[owner].stake;
    }

    function spokeFor(address signer, address worker, uint64 dated) external view returns (bool) {
        // A signature that recovers to nobody speaks for nobody, not even for a leaf that names nobody.
        if (signer == address(0)) return false;
        Signer storage record = _signers[signer];
        return signer == worker || (record.owner == worker && dated < record.until);
    }

    function stakeOf(address worker) external view returns (uint256) {
        return _accounts[worker].stake;
    }

    function accountOf(address worker) external view returns (Account memory) {
        return _accounts[worker];
    }

    function isRegistered(address worker) public view returns (bool) {
        return _accounts[worker].payout != address(0);
    }

    function payoutOf(address worker) external view returns (address) {
        address payout = _accounts[worker].payout;
        return payout == address(0) ? worker : payout;
    }

    function consentDigest(address owner, address signer) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(DELEGATE_TYPE, owner, signer)));
    }

    function _bind(address signer, bytes calldata consent) private {
        if (signer == address(0)) revert ZeroAddress();
        if (_signers[signer].owner != address(0)) revert SignerTaken(signer, _signers[signer].owner);
        if (signer != msg.sender) {
            // slither-disable-next-line unused-return -- a signature that fails recovers to nobody, who is refused below
            (address consenting,,) = ECDSA.tryRecover(consentDigest(msg.sender, signer), consent);
            if (consenting != signer) revert ConsentMissing(signer, msg.sender);
        }
        _signers[signer] = Signer(msg.sender, type(uint64).max);
        emit SignerAdded(msg.sender, signer);
    }

    /// @dev The effect precedes the transfer.
    function _deposit(uint256 amount) private {
        Account storage account = _accounts[msg.sender];
        if (amount > type(uint128).max - account.stake - account.unbonding) {
            revert NotEnoughStake(type(uint128).max, amount);
        }
        account.stake += uint128(amount);
        emit Staked(msg.sender, amount, account.stake);
        _pull(msg.sender, amount);
    }

    /// @dev A token that delivers less than asked is refused: the shortfall would be somebody else's.
    function _pull(address from, uint256 amount) private {
        uint256 before = IERC20(token).balanceOf(address(this));
        // slither-disable-next-line arbitrary-send-erc20 -- `from` is msg.sender, or whoever opened the dispute whose bond this is
        IERC20(token).safeTransferFrom(from, address(this), amount);
        uint256 received = IERC20(token).balanceOf(address(this)) - before;
        if (received != amount) revert TransferMismatch(amount, received);
    }

    /// @dev Who is condemned first is paid first; what another hold then lacks was taken.
    function _upTo(uint128 amount, Account storage account) private view returns (uint128) {
        uint128 all = account.stake + account.unbonding;
        return amount < all ? amount : all;
    }

    /// @dev What is bonded goes first: what is left of it counts towards minimum stakes.
    function _take(address worker, uint128 amount, address finder) private {
        Account storage account = _accounts[worker];
        uint128 bonded = amount < account.stake ? amount : account.stake;
        account.stake -= bonded;
        account.unbonding -= amount - bonded;
        emit Slashed(worker, amount, finder, _share(amount, finder));
    }

    /// @dev Credits the finder's part and the treasury's; returns the finder's.
    function _share(uint256 amount, address finder) private returns (uint256 bounty) {
        bounty = finder == address(0) ? 0 : (amount * BOUNTY_PERCENT) / 100;
        if (bounty > 0) creditOf[finder] += bounty;
        creditOf[treasury] += amount - bounty;
    }
}
