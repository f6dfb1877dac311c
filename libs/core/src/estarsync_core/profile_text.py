"""A profile's YAML text as plain data that knows its lines, so that a problem can name the place to mend."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from estarsync_core.errors import ConfigurationError

Place: TypeAlias = tuple[int | str, ...]
"""The keys and positions that lead to a value."""

_MOST_VALUES = 100_000  # far more than any profile; a few aliases of aliases soon make more


@dataclass(frozen=True, slots=True)
class Text:
    """A document and where its values stand."""

    data: dict[str, Any]
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of a value, or of the nearest value around it; lines count from 1."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read_text(text: str, origin: str) -> Text:
    """The document. Keys are text as written, so that `1:` and `"1":` are the same key.

    Args:
        text: YAML; an empty one is an empty document.
        origin: what to call it in messages, such as its file name.

    Raises:
        ConfigurationError: where it is not YAML or no map of keys, or where a key stands twice.
    """
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:
        raise ConfigurationError([f"{origin}: not YAML: {error}"]) from error
    try:
        node = loader.get_single_node()
        if node is None:
            return Text({}, {})
        reader = _Reader(loader, origin)
        data = reader.plain(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{origin}:{mark.line + 1}" if mark else origin
        raise ConfigurationError([f"{where}: not YAML: {error.problem or error.context}"]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError([f"{origin}: not YAML: {error}"]) from error
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise ConfigurationError([f"{origin}:1: must be a map of keys, as the default profile is"])
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return Text(data, reader.lines)


class _Reader:
    def __init__(self, loader: yaml.SafeLoader, origin: str) -> None:
        self._loader = loader
        self._origin = origin
        self._values = 0
        self.lines: dict[Place, int] = {}
        self.problems: list[str] = []

    def plain(self, node: yaml.Node, place: Place) -> Any:  # noqa: ANN401 - whatever YAML holds
        self._values += 1
        if self._values > _MOST_VALUES:
            raise yaml.YAMLError("it has too many values: do aliases repeat each other?")
        match node:
            case yaml.MappingNode():
                return self._map(node, place)
            case yaml.SequenceNode():
                values = []
                for index, child in enumerate(node.value):
                    self.lines[*place, index] = child.start_mark.line + 1
                    values.append(self.plain(child, (*place, index)))
                return values
            case _:
                return self._loader.construct_object(node)

    def _map(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        own: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in own:
                line = key_node.start_mark.line + 1
                self.problems.append(
                    f"{self._origin}:{line}: {key_node.value}: stands twice in the same map: keep one"
                )
            own.add(key_node.value)
        self._loader.flatten_mapping(node)
        values: dict[str, Any] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"{self._origin}:{line}: a key must be a word, not a list or a map")
                continue
            at = (*place, key_node.value)
            self.lines[at] = line
            values[key_node.value] = self.plain(child, at)
        return values
