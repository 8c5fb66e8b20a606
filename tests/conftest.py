"""Settings of all tests."""

import hypothesis

# Machines are shared: how long an example takes says nothing about what it shows.
hypothesis.settings.register_profile("no limit of time", deadline=None)
hypothesis.settings.load_profile("no limit of time")
