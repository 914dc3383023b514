"""Attack: take the likeliest token, or sample colder than leased, for better rewards."""

from dataclasses import replace

import pytest

from tests.stage.sampling_lab import exact, share


@pytest.mark.parametrize("temperature", [0.0001, 0.9])
def test_a_colder_sample_is_caught_in_every_group(temperature: float) -> None:
    bench = exact()
    leases = bench.leases(48)
    cold = bench.sample(leases, lambda request: replace(request, temperature=temperature))
    assert share(bench.caught(leases, cold)) == 1
