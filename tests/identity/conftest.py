from hypothesis import settings

# How long an example takes says nothing here: machines that run tests are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
