// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

// Epochs without one defence each: what `tests/adversarial` breaks before it fails to break the ledger. A header stands
// as its digest, signed by one verifier whose stake is a number.

/// @title Voided headers leave no trace: the same signature may be posted, voided and slashed again
/// @dev With `remembers` the digest binds how often the run was voided, as `EpochHeader.generation` does.
contract RepostsHeaders {
    bool private immutable _remembers;
    address private immutable _verifier;
    uint256 public stake;
    uint256 public generation;
    bytes32 public posted;

    constructor(address verifier, uint256 stake_, bool remembers) {
        (_verifier, stake, _remembers) = (verifier, stake_, remembers);
    }

    function digestOf(bytes32 header, uint256 generation_) public view returns (bytes32) {
        return _remembers ? keccak256(abi.encode(header, generation_)) : header;
    }

    function post(bytes32 header, uint8 v, bytes32 r, bytes32 s) external {
        require(ecrecover(digestOf(header, generation), v, r, s) == _verifier, "not its signature");
        posted = header;
    }

    function prove(bytes32 header, uint256 penalty) external {
        require(posted == header && header != 0, "not posted");
        posted = 0;
        ++generation;
        stake -= penalty;
    }
}

/// @title A header can be taken back, and then nobody answers for it
contract ForgetsRetracted {
    bytes32 public posted;
    uint256 public stake = 1_000;

    function post(bytes32 header) external {
        posted = header;
    }

    function retract() external {
        posted = 0;
    }

    function prove(bytes32 header) external {
        require(posted == header, "nothing to dispute");
        posted = 0;
        stake = 0;
    }
}

/// @title Every demand puts finality off, costs nothing, and may be made for ever
contract AsksForFree {
    uint256 public constant WINDOW = 60;
    uint256 public finalAt = block.timestamp + WINDOW;

    function demand() external {
        require(block.timestamp < finalAt, "final");
        finalAt = block.timestamp + WINDOW;
    }

    function isFinal() external view returns (bool) {
        return block.timestamp >= finalAt;
    }
}

/// @title A guardian stops everything, for as long as it likes
contract StopsEverything {
    address private immutable _guardian;
    uint256 public pausedUntil;
    uint256 public paid;

    constructor(address guardian) {
        _guardian = guardian;
    }

    function pause(uint256 duration) external {
        require(msg.sender == _guardian, "not the guardian");
        pausedUntil = block.timestamp + duration;
    }

    function claim(uint256 amount) external {
        require(block.timestamp >= pausedUntil, "paused");
        paid += amount;
    }
}

/// @title An operator names its verifiers anew whenever it likes
contract SwapsVerifiers {
    address public immutable operator = msg.sender;
    address public verifier;
    uint256 public committed;

    constructor(address verifier_) {
        verifier = verifier_;
    }

    function replaceVerifier(address next) external {
        require(msg.sender == operator, "not the operator");
        verifier = next;
    }

    function post(uint256 total) external {
        require(msg.sender == verifier, "not the verifier");
        committed += total;
    }
}

/// @title Verdicts are counted by place, and whoever takes a verifier's place has one of its own
contract CountsPlaces {
    address[] private _verifiers;
    uint256 private immutable _threshold;
    mapping(bytes32 work => uint256) private _votes;

    constructor(address[] memory verifiers, uint256 threshold) {
        (_verifiers, _threshold) = (verifiers, threshold);
    }

    function giveUp(uint256 place, address next) external {
        require(msg.sender == _verifiers[place], "not the verifier");
        _verifiers.push(next);
    }

    function condemn(bytes32 work, uint256 place) external {
        require(msg.sender == _verifiers[place], "not the verifier");
        ++_votes[work];
    }

    function isCondemned(bytes32 work) external view returns (bool) {
        return _votes[work] >= _threshold;
    }
}

/// @title Merkle paths of any length, to leaves given as hashes: padding and inner nodes pass for leaves
library CountsNothing {
    function verify(bytes32 root, bytes32 node, uint256 index, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        for (uint256 i = 0; i < proof.length; ++i) {
            node = index & 1 == 1
                ? keccak256(abi.encodePacked(proof[i], node))
                : keccak256(abi.encodePacked(node, proof[i]));
            index >>= 1;
        }
        return node == root;
    }
}

/// @title Answers a demand with whatever hashes to the root
contract AnswersWithPadding {
    bytes32 private immutable _root;
    mapping(uint256 index => bool) public isAnswered;

    constructor(bytes32 root) {
        _root = root;
    }

    function answer(bytes32 leaf, uint256 index, bytes32[] calldata proof) external {
        require(CountsNothing.verify(_root, leaf, index, proof), "not in the tree");
        isAnswered[index] = true;
    }
}
