// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Bytes} from "@openzeppelin/contracts/utils/Bytes.sol";
import {Create2} from "@openzeppelin/contracts/utils/Create2.sol";
import {Memory} from "@openzeppelin/contracts/utils/Memory.sol";

/// @title A run's verifiers and stewards, kept as a contract's code
/// @notice One cold read for all of them, where storage would take one each. The code is never run: it begins with
///         STOP, then says how many of its members are verifiers; the rest are stewards. Before each address stands its
///         seat: whoever takes a verifier's place has a place of its own and that verifier's seat. The same people are
///         written once.
library Roster {
    using Memory for Memory.Slice;

    /// @dev Creation code that returns all that follows it: copies from byte 11 on.
    bytes private constant RETURN_THE_REST = hex"600B5981380380925939F3";
    uint256 private constant HEAD = 2;
    uint256 private constant MEMBER = 21;

    /// @notice Write a roster and return where it is. There are at most 255 verifiers.
    function write(address[] memory verifiers, address[] memory stewards) internal returns (address roster) {
        uint256 count = verifiers.length;
        bytes[] memory parts = new bytes[](1 + count + stewards.length);
        parts[0] = _head(count);
        for (uint256 i = 1; i < parts.length; ++i) {
            address member = i <= count ? verifiers[i - 1] : stewards[i - 1 - count];
            parts[i] = abi.encodePacked(uint8(i - 1), member);
        }
        return _write(Bytes.concat(parts));
    }

    /// @notice Write a roster with one verifier more, in the seat of the one at `place`, and return where it is.
    function extend(bytes memory code, uint256 place, address next) internal returns (address roster) {
        uint256 count = numVerifiers(code);
        uint256 end = HEAD + MEMBER * count;
        bytes memory added = abi.encodePacked(uint8(seatAt(code, place)), next);
        return _write(
            abi.encodePacked(_head(count + 1), Bytes.slice(code, HEAD, end), added, Bytes.slice(code, end))
        );
    }

    function _head(uint256 count) private pure returns (bytes memory) {
        return abi.encodePacked(RETURN_THE_REST, hex"00", uint8(count));
    }

    function _write(bytes memory creation) private returns (address roster) {
        // The address follows from the content, so what stands there already says the same.
        roster = Create2.computeAddress(0, keccak256(creation));
        // slither-disable-next-line unused-return -- the address was computed above
        if (roster.code.length == 0) Create2.deploy(0, 0, creation);
    }

    function numVerifiers(bytes memory code) internal pure returns (uint256) {
        return uint8(code[1]);
    }

    function numMembers(bytes memory code) internal pure returns (uint256) {
        return (code.length - HEAD) / MEMBER;
    }

    /// @notice The member at `place`: verifiers first, then stewards. Panics past the last.
    function memberAt(bytes memory code, uint256 place) internal pure returns (address) {
        return address(bytes20(Memory.asSlice(code).load(HEAD + MEMBER * place + 1)));
    }

    /// @notice The seat of the member at `place`. Panics past the last.
    function seatAt(bytes memory code, uint256 place) internal pure returns (uint256) {
        return uint8(code[HEAD + MEMBER * place]);
    }

    /// @notice All members, parted.
    function split(bytes memory code)
        internal
        pure
        returns (address[] memory verifiers, address[] memory stewards)
    {
        verifiers = new address[](numVerifiers(code));
        stewards = new address[](numMembers(code) - verifiers.length);
        for (uint256 i = 0; i < verifiers.length; ++i) {
            verifiers[i] = memberAt(code, i);
        }
        for (uint256 i = 0; i < stewards.length; ++i) {
            stewards[i] = memberAt(code, verifiers.length + i);
        }
    }
}
