"""The tests. A machine under load is no reason to fail: hypothesis measures no time here."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
