"""A second program with one key is noticed by the nonces that it was leased."""

from structlog.testing import capture_logs

from rollout_worker.nonces import MANY_GAPS, NonceGaps


def test_two_programs_on_one_key_are_noticed_and_a_lost_answer_is_not() -> None:
    alone, shared = NonceGaps(), NonceGaps()
    with capture_logs() as said:
        for first in (1, 5, 13, 17):  # one answer was lost
            alone.saw(range(first, first + 4))
        alone.saw([])
    assert said == []
    with capture_logs() as said:
        for n in range(2 * MANY_GAPS):
            shared.saw(range(1 + 8 * n, 5 + 8 * n))
    [line] = said
    assert line["event"] == "another program leases with this key"
    assert line["nonces_elsewhere"] == "21 to 24"
