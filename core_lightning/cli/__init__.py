"""The command line: parsing, early checks, prompt preview, one line for every error."""
