"""A failure is said at once, then rarely, and once that it is over."""

from structlog.testing import capture_logs

from client.voice import Voice


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_failure_is_said_at_once_then_rarely_and_once_that_it_is_over() -> None:
    clock = Clock()
    voice = Voice("orchestrator", again=60.0, clock=clock, at="http://market:8100")
    with capture_logs() as said:
        voice.well()
        for clock.now in (0.0, 1.0, 59.0, 60.0, 61.0):
            voice.failed(OSError("connection refused"))
        clock.now = 70.0
        voice.well()
        voice.well()
    assert [line["event"] for line in said] == [
        *["orchestrator does not answer: trying again"] * 2,
        "orchestrator answers again",
    ]
    assert {line["at"] for line in said} == {"http://market:8100"}
    assert (said[0]["reason"], said[-1]["after"]) == ("connection refused", "70 s")


def test_what_is_over_within_its_patience_is_never_said() -> None:
    clock = Clock()
    voice = Voice("orchestrator", clock=clock)
    with capture_logs() as said:
        for clock.now in (0.0, 9.9):
            voice.failed(OSError("busy"), patience=10.0)
        voice.well()
        clock.now = 20.0
        voice.failed(OSError("busy"), patience=10.0)
        assert said == []
        clock.now = 30.0
        voice.failed(OSError("busy"), patience=10.0)
    assert len(said) == 1
