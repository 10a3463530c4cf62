"""What argparse says of wrong arguments of a command, in the reader's language. Standard library only."""

import re
import string
import sys

from helpers.language import say, to_say
from helpers.terminal import CommandParser

# Argparse's own sentences, which the standard library has in English only. Those for a type of a value name
# the types that the course's commands use.
SENTENCES = (
    to_say("the following arguments are required: {names}"),
    to_say("unrecognized arguments: {words}"),
    to_say("argument {name}: expected one argument"),
    to_say("argument {name}: invalid choice: {value} (choose from {choices})"),
    to_say("argument {name}: invalid int value: {value}"),
    to_say("argument {name}: invalid float value: {value}"),
    to_say("argument {name}: ignored explicit argument {value}"),
    to_say("ambiguous option: {option} could match {matches}"),
)


def pattern_of(sentence: str) -> re.Pattern:
    """A pattern that finds what stands in the fields of a sentence, by the names of the fields."""
    pattern = ""
    for text, name, _form, _conversion in string.Formatter().parse(sentence):
        pattern += re.escape(text)
        if name is not None:
            pattern += f"(?P<{name}>.*)"
    return re.compile(pattern, re.DOTALL)


def in_words(message: str) -> str:
    """A message of argparse in the reader's language; one that is not known stays as it is."""
    for sentence in SENTENCES:
        found = pattern_of(sentence).fullmatch(message)
        if found:
            return say(sentence, **found.groupdict())
    return message


class ArgumentParser(CommandParser):
    """The arguments of a command; its help and its refusals are in the reader's language."""

    def error(self, message: str) -> None:
        """As argparse does it: usage and sentence on stderr, exit code 2."""
        self.print_usage(sys.stderr)
        self.exit(2, say("{command}: error: {message}\n", command=self.prog, message=in_words(message)))
