"""`rollcall audit` over HTTP and a real chain: truth holds, every lie is told and, where it can be, proven."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from web3 import Web3

from audit.epoch import EpochReport
from audit.history import Fate, Posted
from audit.run import check_pay
from orchestrator.services import Services
from protocol.canonical import content_digest, keccak256
from protocol.messages import EpochFile
from protocol.user_error import UserError
from tests.orchestrator.test_settling import earn, final
from tests.stage.auditor import Auditor
from tests.stage.epochs import padded
from tests.stage.lying import post, proposed, stake_again
from tests.stage.place import Place


def test_an_honest_market_holds(auditor: Auditor) -> None:
    place = auditor.place
    earn(place, count=2)
    earn(place, "bob")
    final(place, 0)
    file = earn_and_claim(place)
    holds, printed = auditor.audit()
    assert holds, printed
    assert "nothing differs" in printed
    assert not auditor.proof.exists()
    rows = [line.split("│")[1:-1] for line in printed.splitlines() if line.startswith("│")]
    first, second = ([cell.strip() for cell in row] for row in rows)
    assert first[1:4] == ["0", "final", "3"]
    assert first[5:9] == ["ok", "3/3", "3/3", "3/3"]
    assert second[9] == "100%", "alice claimed all of it"
    assert len(file.contributions) == 1
    assert auditor.audit(most_submissions=0)[0]


def earn_and_claim(place: Place) -> EpochFile:
    """Have alice work in the second epoch, and be paid for both."""
    from protocol.epoch import AccountLeaf, account_tree

    earn(place)
    file = final(place, 1)
    leaves = [AccountLeaf(a.worker, a.earned, a.last_nonce) for a in file.accounts]
    index = [leaf.worker for leaf in leaves].index(place.ground.address("alice"))
    proof = account_tree(leaves).proof(index)
    place.ground.by("stranger").claim(place.run_id, 1, leaves[index], index, proof)
    return file


def lie(place: Place) -> None:
    """Have the quorum post the first epoch with a million units too many."""
    earn(place, count=2)
    place.tick(seconds=11)
    place.tick()
    post(place, padded(proposed(place, 0)), "v0")


def test_a_padded_epoch_is_told_and_its_proof_is_ready_for_any_wallet(auditor: Auditor) -> None:
    place = auditor.place
    lie(place)
    holds, printed = auditor.audit()
    assert not holds
    assert "pays 1000" in printed
    proof = json.loads(auditor.proof.read_text())
    deployment = place.ground.deployment
    assert (proof["to"], proof["chainId"]) == (deployment.disputes, deployment.chain_id)
    assert (proof["method"], proof["value"]) == ("proveBadLeaf", "0x0")
    assert proof["arguments"][0]["epoch"] == 0
    generation = place.ground.by("stranger").run(place.run_id).generation
    sender = place.ground.by("stranger")._require_sender()
    sender.send(proof["to"], Web3.to_bytes(hexstr=proof["data"]))
    state = place.ground.by("stranger").run(place.run_id)
    assert (state.generation, state.num_posted) == (generation + 1, 0)
    stake_again(place, "v0")


def test_the_proof_is_sent_where_asked(auditor: Auditor) -> None:
    place = auditor.place
    lie(place)
    holds, printed = auditor.audit(key=bytes(place.ground.people["stranger"].key))
    assert not holds
    assert "sent" in printed
    assert place.ground.by("stranger").run(place.run_id).num_posted == 0
    stake_again(place, "v0")


def test_seeds_that_were_chosen_are_told(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The orchestrator draws leases from another secret than the one it committed to."""
    with monkeypatch.context() as lying:
        lying.setattr(Services, "secret", lambda *_: keccak256(b"a secret it likes better"))
        earn(auditor.place)
    final(auditor.place, 0)
    holds, printed = auditor.audit()
    assert not holds
    assert "were chosen, not drawn" in printed
    assert "0/1" in printed


def test_a_file_that_is_gone_is_told(auditor: Auditor, tmp_path: Path) -> None:
    place = auditor.place
    earn(place)
    file = final(place, 0)
    digest = content_digest(file.canonical()).hex()
    (tmp_path / "blobs" / digest[:2] / digest).unlink()
    holds, printed = auditor.audit()
    assert not holds
    assert "the file is not published" in printed


def test_pay_is_held_against_what_final_epochs_earned(auditor: Auditor) -> None:
    place = auditor.place
    state = replace(
        place.ground.by("stranger").run(place.run_id),
        rate=10,
        committed=50,
        finalised=50,
        claimed=70,
    )
    posted = Posted(
        *(place.run_id, 0, 0, bytes(32), bytes(32), bytes(32), "", bytes(32), 50, 0, "0x"),
        fate=Fate.FINAL,
    )
    report = EpochReport(posted)
    earned, [too_much] = check_pay([report], {0: {"alice": 5}}, {"alice": 70}, state=state)
    assert earned == {"alice": 5}
    assert "alice was paid 70" in too_much
    assert report.claimed == 50
    honest = replace(state, claimed=30)
    assert check_pay([report], {0: {"alice": 5}}, {"alice": 30}, state=honest)[1] == []
    assert report.claimed == 30
    earned, [hidden] = check_pay([report], {}, {"alice": 30}, state=honest)
    assert earned == {}
    assert "not published" in hidden
    _, wrong = check_pay([report], {0: {"alice": 5}}, {}, state=honest)
    assert len(wrong) == 1, "claimed 30 on chain"


def test_mistakes_are_one_line_with_a_remedy(auditor: Auditor) -> None:
    with pytest.raises(UserError, match=r"no chain answers at http://127.0.0.1:1: check --rpc"):
        auditor.audit(rpc="http://127.0.0.1:1")
    with pytest.raises(UserError, match="no deployment file"):
        auditor.audit(deployment=auditor.folder / "nowhere.json")
    with pytest.raises(UserError, match=r"serves no run 999; it serves: .*\d"):
        auditor.audit(run_id=999)
    auditor.front.shutdown()
    auditor.front.server_close()
    with pytest.raises(UserError, match="no orchestrator answers"):
        auditor.audit()
