"""What is wrong with a profile, a line each: where it stands, which key it is, and what to do."""

from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from estarsync_core.profile_text import Place, Text

_NEVER_QUOTED = {"site"}  # somebody may have put a password where its reference belongs
_LONGEST_QUOTE = 60


def described(error: ValidationError, own: Text, origin: str, model: type[BaseModel]) -> list[str]:
    """Every problem as `file:line: key: what is wrong, and what to do`, each once, in the order of the lines.

    Args:
        error: pydantic's.
        own: the document as the person wrote it, without what it was laid over.
        origin: its name.
        model: what it was to become.
    """
    lines = {}
    for detail in error.errors():
        place = _place(detail, own.data)
        what = _what(detail, place, model)
        line = own.line(place)
        lines[f"{origin}:{line}: {'.'.join(map(str, place)) or 'the profile'}: {what}"] = line
    return sorted(lines, key=lambda text: lines[text])


def _place(detail: ErrorDetails, data: object) -> Place:
    """The keys that lead there, without pydantic's own words for alternatives."""
    place: Place | None = detail.get("ctx", {}).get("place")
    if place is not None:
        return place
    known: list[int | str] = []
    steps = list(detail["loc"])
    for number, step in enumerate(steps):
        inside = _step(data, step)
        if inside is not None:
            data = inside[0]
            known.append(step)
        elif data is None or detail["type"] == "missing":
            return (*known, *steps[number:])  # the rest stands in the default profile, or nowhere
    return tuple(known or steps)


def _step(data: object, step: int | str) -> tuple[object] | None:
    if isinstance(data, dict) and step in data:
        return (data[step],)
    if isinstance(data, list) and isinstance(step, int) and step < len(data):
        return (data[step],)
    return None


def _what(detail: ErrorDetails, place: Place, model: type[BaseModel]) -> str:
    if detail["type"] == "missing":
        return "is missing: add it"
    if detail["type"] == "extra_forbidden":
        return _unknown(str(place[-1]), sorted(_keys(model, place[:-1])))
    if detail["loc"][-1:] == ("[key]",):
        return f"is no key here: {_plain(detail['msg'])}"
    given = detail["input"]
    quoted = ""
    if isinstance(given, str | int | float) and place[0] not in _NEVER_QUOTED:
        text = repr(given)
        quoted = "" if len(text) > _LONGEST_QUOTE or text in detail["msg"] else f", not {text}"
    return _plain(detail["msg"]) + quoted


def _plain(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message.replace("Input should be", "must be").replace("valid dictionary or instance of", "map of")


def _unknown(key: str, known: list[str]) -> str:
    near = get_close_matches(key, known, n=1)
    advice = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"is an unknown key: {advice}"


def _keys(model: type[BaseModel] | None, place: Place) -> set[str]:
    """The keys that a place may hold."""
    for step in place:
        field = model.model_fields.get(str(step)) if model else None
        if field is not None:
            model = _model_in(field.annotation)
    return set(model.model_fields) if model else set()


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
