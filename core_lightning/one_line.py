"""One clear line out of an error: the parser's reports say everything they tried, a user needs the one thing to mend."""

from __future__ import annotations

import re

#: Lines about the attempts of a union of types, and echoes of whole configs.
_NOISE = re.compile(
    r"(- )?(Does not validate against any|Subtypes:|Errors:|Expected a <class 'NoneType'>|Given value|Problem with given"
    r" class_path)"
)


def one_line(error: BaseException) -> str:
    """The setting an error is about and what is wrong with it.

    >>> one_line(ValueError("rounds.k is 0; a cold round needs 1 or more traces"))
    'rounds.k is 0; a cold round needs 1 or more traces'
    """
    keys, messages = [], []
    for raw in str(error).splitlines():
        line = raw.strip()
        if key := re.fullmatch(r'(?:- )?Parser key "(.+)":', line):
            keys.append(key.group(1))
        elif line and not _NOISE.match(line):
            messages.append(line.removeprefix("- "))
    message = messages[0] if messages else type(error).__name__
    return f"{'.'.join(keys)}: {message}" if keys else message
