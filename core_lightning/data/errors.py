"""The one exception of the data package."""


class DataError(ValueError):
    """The data is missing, malformed or not what the settings say it is; the message is one line and names the mend."""
