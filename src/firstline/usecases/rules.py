"""The rules in force: built-in packs and own ones, read again without a restart."""

from collections.abc import Callable
from dataclasses import dataclass, field

from firstline.core.rules import CompiledRules, Rule, RuleBook

ReadRules = Callable[[], tuple[Rule, ...]]


@dataclass(slots=True)
class RulesInForce:
    """Builds the rule book and keeps the last good one.

    Attributes:
        built_in: the shipped packs.
        read_own: reads the own packs; raises ValueError with a message for people.
        problem: why the newest own packs are not in force; None when they are.
    """

    built_in: CompiledRules
    read_own: ReadRules | None = None
    problem: str | None = None
    _own: tuple[Rule, ...] = field(default=())

    def load(self) -> RuleBook:
        """The first book.

        Raises: ValueError when the own packs are invalid.
        """
        self._own = self.read_own() if self.read_own else ()
        return RuleBook(self._own, self.built_in)

    def reload(self) -> RuleBook | None:
        """A new book when the own packs have changed and are valid; None otherwise, with `problem` saying why."""
        if self.read_own is None:
            return None
        try:
            own = self.read_own()
            if own == self._own:
                self.problem = None
                return None
            book = RuleBook(own, self.built_in)
        except ValueError as error:
            self.problem = str(error)
            return None
        self._own = own
        self.problem = None
        return book
