"""Verifiers in league with the trainer that post what the orchestrator did not write, and those that show it to be false."""

from audit.published import Published
from protocol.canonical import content_digest, keccak256
from protocol.epoch import EpochHeader, RetractEpoch, header_of, uri_of
from protocol.messages import EpochFile
from tests.stage.place import Place


def proposed(place: Place, epoch: int) -> EpochFile:
    """Return the file that is to be signed or was, with the epoch's secret in it."""
    info = place.epoch(epoch)
    return EpochFile.from_canonical(place.get(f"/v1/blobs/0x{info.file.hex()}").content)


def post(place: Place, file: EpochFile, *signers: str, publish: bool = True) -> EpochHeader:
    """Post a file's epoch under these verifiers' signatures, past the orchestrator."""
    data = file.canonical()
    header = header_of(file, data)
    digest = content_digest(data)
    if publish:
        place.upload(data)
    signed = place.services.chain.domain.digest(header)
    signatures = {place.ground.address(name): place.party(name).sign(signed) for name in signers}
    ledger = place.ground.by(signers[0])
    ledger.post_epoch(header, file.secret, signatures, uri_of(digest))
    return header


def prove_first_leaf_false(place: Place, file: EpochFile) -> None:
    """Show, as a stranger, that the file's first group is paid other units than its tokens."""
    told = Published.of(file)
    opened = told.under(told.header(keccak256(file.canonical())))
    place.ground.by("stranger").prove_bad_leaf(opened.header, opened.work_at(0))


def retract(place: Place, epoch: int, *signers: str) -> None:
    """Take a pending epoch and all later ones back, as a quorum may."""
    state = place.ground.by("stranger").run(place.run_id)
    stands = place.ground.by("stranger").epoch(place.run_id, epoch)
    message = RetractEpoch(place.run_id, epoch, state.generation, stands.header_hash)
    digest = place.services.chain.domain.digest(message)
    signatures = {place.ground.address(name): place.party(name).sign(digest) for name in signers}
    place.ground.by(signers[0]).retract_epoch(place.run_id, epoch, signatures)


def stake_again(place: Place, *names: str) -> None:
    """Bring people that were slashed back to where everybody began."""
    from tests.stage.ground import STAKE

    for name in names:
        ledger, address = place.ground.by(name), place.ground.address(name)
        missing = 2 * STAKE - ledger.stake_of(address)
        if missing > 0:
            ledger.mint(address, missing)
            ledger.stake(missing)
