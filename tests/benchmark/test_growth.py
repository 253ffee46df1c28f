import numpy as np
import pytest

from mmplugins.benchmark.growth import fit_growth

SIZES = [side**2 for side in (256, 384, 512, 768)]


@pytest.mark.parametrize("exponent", [1.0, 1.4, 2.0])
def test_exponent_is_found_under_noise_and_drift(exponent):
    random = np.random.default_rng(0)
    machine = np.exp(np.cumsum(random.normal(0, 0.1, 15)))
    times = {
        pixels: dict(enumerate(pixels**exponent * machine * random.lognormal(0, 0.02, 15)))
        for pixels in SIZES
    }
    growth = fit_growth(times)
    low, high = growth["low"], growth["high"]
    assert low < exponent < high and high - low < 0.1
    assert growth["sizes"] == SIZES and growth["rounds"] == 15
    every = [
        np.polyfit(np.log(SIZES), np.log([times[p][r] for p in SIZES]), 1)[0]
        for r in times[SIZES[0]]
    ]
    assert growth["exponent"] == pytest.approx(np.median(every))


def test_two_sizes_or_no_common_round_give_no_fit():
    assert fit_growth({1: {0: 1.0}, 4: {0: 4.0}}) is None
    assert fit_growth({1: {0: 1.0}, 4: {1: 4.0}, 9: {2: 9.0}}) is None
    growth = fit_growth({1: {0: 1.0, 1: 9.0}, 4: {0: 4.0}, 9: {0: 9.0}})
    assert growth["exponent"] == pytest.approx(1)
