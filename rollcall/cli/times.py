"""Seconds as people read them: durations in two units, moments as a date and a distance."""

from datetime import UTC, datetime

UNITS = (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
FAR = 253_402_300_799
"""The last second of the year 9999; any later time is "never"."""


def duration(seconds: int) -> str:
    """Return a duration in its two largest units.

    Example: duration(93_784) == "1 day 2 h"
    """
    parts = []
    rest = max(0, seconds)
    for name, size in UNITS:
        count, rest = divmod(rest, size)
        if count:
            plural = "s" if name == "day" and count > 1 else ""
            parts.append(f"{count} {name}{plural}")
        elif parts:
            break  # "1 day 5 s" would claim a precision that nobody asked for
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"


def moment(at: int, now: int) -> str:
    """Return chain time `at` as a date, and how far from `now` it is.

    Example: "2027-01-15 08:00:00 UTC, in 2 h"
    """
    if at > FAR:
        return "never"
    date = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if at == now:
        return f"{date}, now"
    return f"{date}, in {duration(at - now)}" if at > now else f"{date}, {duration(now - at)} ago"
