"""What ``--help`` says first: how a command is called, and what it does; its settings follow."""

from __future__ import annotations

from typing import Any

PROGRAM = "python -m core_lightning"

#: How each command is called, and what it does.
COMMANDS = {
    "fit": (
        "--config FILE [--config FILE ...] [--SETTING VALUE ...]",
        "Train a team. To go on with a run: fit --run RUN.",
    ),
    "validate": (
        "--run RUN [--SETTING VALUE ...]",
        "Evaluate a run on its validation problems; the run stays as it is, the results go to RUN/evaluations/.",
    ),
    "test": (
        "--run RUN [--SETTING VALUE ...]",
        "Evaluate a run on its test problems; the run stays as it is, the results go to RUN/evaluations/.",
    ),
    "predict": (
        "--run RUN [--data.predict_path FILE]",
        "Write every peer's answers to the test problems, or to the questions of a file, one JSON line each.",
    ),
    "preview": (
        "--config FILE | --run RUN [--problems N]",
        "Show rendered prompts of some training problems with their token counts; no model is loaded.",
    ),
    "ask": (
        '"QUESTION" --run RUN [--rescue] [--texts] [--answer ANSWER]',
        "Ask a trained team one question: every peer's answers, and the majority's.",
    ),
    "export": (
        "--run RUN [--merge] [--push OWNER/NAME] [--peer PEER]",
        "Merge the adapters of a run into their bases, or push them to the model hub.",
    ),
}

_ALL = """Small language models train together and teach each other to reason.

A run is a folder, and --run RUN stands for its config and its last checkpoint. One more command needs no config:
compare RUN RUN, paired differences of two runs with intervals."""


def parser_texts(commands: list[str]) -> dict[str, Any]:
    """Settings of the program's parser, and by name of its commands' parsers.

    Args:
        commands: Those that are described.
    """
    texts: dict[str, Any] = {"usage": f"{PROGRAM} COMMAND ...", "description": _ALL}
    for name in commands:
        usage, description = COMMANDS[name]
        texts[name] = {"usage": f"{PROGRAM} {name} {usage}".replace("%", "%%"), "description": description}
    return texts
