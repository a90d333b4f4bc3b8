from hypothesis import settings

# Time limits on single examples only measure how busy the machine is.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
