// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Stakes, hot keys and payout addresses
/// @notice An identity is a cold address. It stakes one ERC-20, delegates hot keys that sign its work, and
///         names the address that receives its earnings. Stake leaves only after `unbondPeriod` and stays
///         slashable until then.
/// @dev There is no owner and no administrator. The only privileged caller is `slasher`, fixed at
///      construction, and it reaches stake and the bonds of its own disputes only: never earnings, never credits.
///      Not protected: one stake backs every run its owner joins; tokens that rebase.
interface IStakeRegistry {
    /// @param stake Bonded and counted towards minimum stakes.
    /// @param unbonding Leaving: counted nowhere, still slashable.
    /// @param locked Held for slashes that are proposed but not decided; cannot be withdrawn. Holds overlap, so it may
    ///        exceed the rest.
    /// @param unlockAt When `unbonding` may be withdrawn, in seconds.
    struct Account {
        uint128 stake;
        uint128 unbonding;
        uint128 locked;
        uint64 unlockAt;
        address payout;
    }

    error ZeroAddress();
    error ZeroAmount();
    error UnbondPeriodTooShort(uint64 given, uint64 minimum);
    error NotRegistered(address worker);
    error AlreadyRegistered(address worker);
    error SignerTaken(address signer, address owner);
    error ConsentMissing(address signer, address owner);
    error SignerNotOwned(address signer, address caller);
    error SignerAlreadyRevoked(address signer, uint64 effectiveAt);
    error NotEnoughStake(uint256 have, uint256 asked);
    error StillUnbonding(uint64 until, uint64 nowAt);
    error StakeLocked(uint256 locked, uint256 staked);
    error TransferMismatch(uint256 expected, uint256 received);
    error NotSlasher(address caller);

    event Registered(address indexed worker, address indexed signer, address payout);
    event Staked(address indexed worker, uint256 amount, uint256 stake);
    event SignerAdded(address indexed worker, address indexed signer);
    event SignerRevoked(address indexed worker, address indexed signer, uint64 effectiveAt);
    event PayoutSet(address indexed worker, address payout);
    event Unbonding(address indexed worker, uint256 amount, uint64 unlockAt);
    event StakeWithdrawn(address indexed worker, uint256 amount);
    event StakeHeld(address indexed worker, uint256 amount);
    event StakeReleased(address indexed worker, uint256 amount);
    event Slashed(address indexed worker, uint256 amount, address indexed finder, uint256 bounty);
    event BondPosted(address indexed from, uint256 amount);
    event BondReturned(address indexed to, uint256 amount);
    event BondForfeited(uint256 amount, address indexed finder, uint256 bounty);
    event CreditWithdrawn(address indexed account, uint256 amount);

    /// @notice Become an identity, staking `amount` (which may be zero) with one hot key.
    /// @param signer The hot key; the caller itself where one key does both.
    /// @param payout Where earnings go.
    /// @param consent The signer's EIP-712 signature over Delegate(owner, signer); empty when the signer is
    ///        the caller. Without it, anyone could bind a stranger's key to themselves first.
    function register(uint256 amount, address signer, address payout, bytes calldata consent) external;

    /// @notice Add `amount` to the caller's stake.
    function stake(uint256 amount) external;

    /// @notice Delegate one more hot key, with its consent. A key belongs to one identity for ever.
    function addSigner(address signer, bytes calldata consent) external;

    /// @notice Withdraw a hot key. It stays valid for `revokeDelay`, so that a worker cannot make its own
    ///         accepted work unverifiable after the fact.
    function revokeSigner(address signer) external;

    /// @notice Change where the caller's earnings go.
    function setPayout(address payout) external;

    /// @notice Start withdrawing `amount`. A further call restarts the wait for everything unbonding.
    function unbond(uint256 amount) external;

    /// @notice Withdraw what has unbonded and is not locked.
    function withdrawStake() external;

    /// @notice Spend an EIP-2612 permit of the staking token for this registry, within a `multicall`. Ignored where it
    ///         fails: somebody may have sent it first, and the allowance decides anyway.
    function selfPermit(uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Withdraw the caller's credit: returned bonds, bounties, and slashed stake for the treasury.
    function withdrawCredit() external;

    /// @notice Hold up to `amount` of a worker's stake for a proposed slash; returns what was held.
    function hold(address worker, uint128 amount) external returns (uint128 held);

    /// @notice Give back what `hold` held.
    function release(address worker, uint128 held) external;

    /// @notice Take what `hold` held. `BOUNTY_PERCENT` is credited to `finder`, the rest to the treasury; all of it to
    ///         the treasury where `finder` is zero. Never all to a finder: slashing oneself would be free.
    function slash(address worker, uint128 held, address finder) external;

    /// @notice Take up to `amount` at once, held or not, and share it as `slash` does; returns what was taken.
    function seize(address worker, uint128 amount, address finder) external returns (uint128 taken);

    /// @notice Pull a dispute's bond from `from`, who approved it.
    function postBond(address from, uint128 amount) external;

    /// @notice Credit a bond back.
    function returnBond(address to, uint128 amount) external;

    /// @notice Take a bond: `BOUNTY_PERCENT` to `finder`, the rest to the treasury.
    function forfeitBond(uint128 amount, address finder) external;

    /// @notice The identity that `signer` signs for now, or zero.
    function ownerOf(address signer) external view returns (address owner);

    /// @notice The identity `signer` ever signed for, and when that ends (the maximum when it does not).
    function signerOf(address signer) external view returns (address owner, uint64 until);

    /// @notice Who `signer` signs for now (zero for nobody) and that identity's bonded stake: a quorum's question.
    function standingOf(address signer) external view returns (address owner, uint256 stake);

    /// @notice Whether `signer` spoke for `worker` at the time `dated`: it is the worker, or its hot key, not revoked
    ///         before then. A key that was revoked later still counts, or a worker could void the epoch that holds its
    ///         own work.
    function spokeFor(address signer, address worker, uint64 dated) external view returns (bool);

    /// @notice Bonds of open disputes. Always: token balance >= stakes + credits + bonds.
    function bonds() external view returns (uint256);

    /// @notice Bonded stake, without what is unbonding.
    function stakeOf(address worker) external view returns (uint256);

    function accountOf(address worker) external view returns (Account memory);

    function isRegistered(address worker) external view returns (bool);

    /// @notice Where a worker's earnings go: its payout address, or itself when it never registered.
    function payoutOf(address worker) external view returns (address);

    function creditOf(address account) external view returns (uint256);

    function token() external view returns (address);

    function treasury() external view returns (address);

    function slasher() external view returns (address);

    function unbondPeriod() external view returns (uint64);

    function revokeDelay() external view returns (uint64);

    /// @notice The EIP-712 digest a hot key signs to consent to `owner`.
    function consentDigest(address owner, address signer) external view returns (bytes32);
}
