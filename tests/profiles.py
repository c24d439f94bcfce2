"""How hard hypothesis tries. Derandomized: a run of the tests is the same run every time; FMRD_HYPOTHESIS=thorough
looks further and at random, for the nightly hunt.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("fast", max_examples=60, stateful_step_count=40, derandomize=True, deadline=None)
settings.register_profile(
    "thorough",
    max_examples=2000,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def load() -> None:
    settings.load_profile(os.environ.get("FMRD_HYPOTHESIS", "fast"))
