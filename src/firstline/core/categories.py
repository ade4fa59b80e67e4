"""Categories of an account's own: what they are called, what they mean, and examples of them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from firstline.core.taxonomy import FALLBACK_CATEGORY, Category, Priority

MAX_CATEGORIES: Final = 50
MAX_EXAMPLES: Final = 200
"""Of one category."""

MAX_EXAMPLES_IN_ALL: Final = 5_000
MAX_NAME: Final = 64
MAX_DESCRIPTION: Final = 1_000
MAX_EXAMPLE: Final = 5_000


@dataclass(frozen=True, slots=True)
class OwnCategory:
    """A category as an account defines it.

    Attributes:
        name: 1–64 characters; `Other` is always there and cannot be defined.
        description: what belongs to it, in any supported language; may be empty.
        priority: what a ticket of this category starts at.
        examples: messages that belong to it.
    """

    name: str
    description: str
    priority: Priority
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CategorySet:
    """All categories of an account; immutable, named by its content."""

    categories: tuple[OwnCategory, ...]

    @property
    def version(self) -> str:
        """The first 16 hex digits of SHA-256 over the content."""
        return hashlib.sha256(json.dumps(to_data(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def taxonomy(self) -> tuple[Category, ...]:
        """Names and priorities, with the fallback at the end."""
        own = tuple(Category(category.name, category.priority) for category in self.categories)
        return (*own, Category(FALLBACK_CATEGORY, Priority.MEDIUM))


class CategoriesInvalid(ValueError):
    """A set that cannot be used.

    Attributes:
        field: what is at fault, such as `categories[3].name`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


def check(found: CategorySet) -> None:
    """Raises: CategoriesInvalid at the first bound that the set breaks."""
    if not 2 <= len(found.categories) <= MAX_CATEGORIES:
        raise CategoriesInvalid(
            "categories", f"must hold 2 to {MAX_CATEGORIES} categories; these are {len(found.categories)}"
        )
    names: set[str] = set()
    for number, category in enumerate(found.categories):
        field = f"categories[{number}]"
        name = category.name.strip()
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            raise CategoriesInvalid(f"{field}.name", f"must have 1 to {MAX_NAME} printable characters")
        if name.casefold() == FALLBACK_CATEGORY.casefold():
            raise CategoriesInvalid(f"{field}.name", f"must not be {FALLBACK_CATEGORY}, which every account has")
        if name.casefold() in names:
            raise CategoriesInvalid(f"{field}.name", "occurs twice")
        names.add(name.casefold())
        if len(category.description) > MAX_DESCRIPTION:
            raise CategoriesInvalid(f"{field}.description", f"must have at most {MAX_DESCRIPTION} characters")
        if len(category.examples) > MAX_EXAMPLES:
            raise CategoriesInvalid(f"{field}.examples", f"must be at most {MAX_EXAMPLES}")
        for place, example in enumerate(category.examples):
            if not len(example.strip()) >= 1 or len(example) > MAX_EXAMPLE:
                raise CategoriesInvalid(f"{field}.examples[{place}]", f"must have 1 to {MAX_EXAMPLE} characters")
    total = sum(len(category.examples) for category in found.categories)
    if total > MAX_EXAMPLES_IN_ALL:
        raise CategoriesInvalid(
            "categories", f"must have at most {MAX_EXAMPLES_IN_ALL} examples in all; these are {total}"
        )


def to_data(found: CategorySet) -> list[dict[str, Any]]:
    """Plain data, for the store and the answers."""
    return [
        {
            "name": category.name,
            "description": category.description,
            "priority": category.priority.value,
            "examples": list(category.examples),
        }
        for category in found.categories
    ]


def from_data(data: Sequence[Mapping[str, Any]]) -> CategorySet:
    """The inverse of `to_data`."""
    return CategorySet(
        tuple(
            OwnCategory(entry["name"], entry["description"], Priority(entry["priority"]), tuple(entry["examples"]))
            for entry in data
        )
    )
