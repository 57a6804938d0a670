"""What answers and references are called in the files that people have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .records import Fields, Records, RecordSource, read_records

IDS = ("question_id", "id", "image_id")

# The first two always mean the model; the others may be the truth or the question beside it.
_MODEL = ("prediction", "response")
_PERHAPS_MODEL = ("text", "answer", "caption")
_LISTS = ("answers", "captions", "references")


class Keyed(NamedTuple):
    """Values by sample.

    Attributes:
        records: where they come from.
        values: {id: value}, in the order of the records.
        at: {id: number of its record}.
    """

    records: Records
    values: dict[str, Any]
    at: dict[str, int]


def read_answers(source: RecordSource) -> Keyed:
    """The model's answers, {id: text}; a list of texts, one a turn, has the ids id#1, id#2, ...

    Errors: those of `read_records`; DataError for an id or text that is missing, ambiguous, of
    another type or there twice.
    """
    records = read_records(source, "answers")
    answers = Keyed(records, {}, {})
    for index, fields in enumerate(records.fields):
        key = _answer_key(records, index, fields)
        value = fields[key]
        if isinstance(value, list):
            _add_turns(answers, index, [_text(records, index, key, turn) for turn in value])
        else:
            _add(answers, index, id_of(records, index), _text(records, index, key, value))
    return answers


def read_references(source: RecordSource, keys: tuple[str, ...]) -> Keyed:
    """The truths, {id: list of texts}; of a key "box" what stands there.

    Args:
        source: where the references are.
        keys: the names under which a record may hold its truth; it holds one of them.

    Every turn of a conversation is a sample of its own: id#1, id#2, ... where there are several.
    Captions with an image_id, as COCO lists them, are gathered by image.

    Errors: as `read_answers`.
    """
    records = read_records(source, "references")
    truths = Keyed(records, {}, {})
    for index, fields in enumerate(records.fields):
        key = _truth_key(records, index, keys)
        if key == "conversations":
            _add_turns(truths, index, [[turn] for turn in _turns(records, index)])
        elif key == "caption" and "image_id" in fields:
            text = _text(records, index, key, fields[key])
            truths.values.setdefault(id_of(records, index), []).append(text)
            truths.at.setdefault(id_of(records, index), index)
        else:
            _add(truths, index, id_of(records, index), _truth(records, index, key))
    return truths


def id_of(records: Records, index: int) -> str:
    """The id of a record; a whole number is as good as its text.

    Errors: DataError.
    """
    fields = records.fields[index]
    # The id of a caption in COCO's list is that of the sentence.
    by_image = "caption" in fields and "image_id" in fields
    key = "image_id" if by_image else next((key for key in IDS if key in fields), None)
    if key is None:
        raise records.fault(index, f"no id; expected one of {', '.join(IDS)}")
    value = fields[key]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise records.fault(index, f"{key}: expected a text or a whole number")
    if "\0" in value:
        raise records.fault(index, f"{key}: an id has no NUL in it")
    return value if value.isascii() else _text(records, index, key, value)


def _answer_key(records: Records, index: int, fields: Fields) -> str:
    found = [key for key in _MODEL if key in fields]
    found = found or [key for key in _PERHAPS_MODEL if key in fields]
    if not found:
        names = ", ".join((*_PERHAPS_MODEL, *_MODEL))
        raise records.fault(index, f"no answer; expected one of {names}")
    if len(found) > 1:
        raise records.fault(index, f'both "{found[0]}" and "{found[1]}": which is the answer?')
    return found[0]


def _truth_key(records: Records, index: int, keys: tuple[str, ...]) -> str:
    found = [key for key in keys if key in records.fields[index]]
    if not found:
        raise records.fault(index, f"no truth; expected one of {', '.join(keys)}")
    if len(found) > 1:
        raise records.fault(index, f'both "{found[0]}" and "{found[1]}": which is the truth?')
    return found[0]


def _truth(records: Records, index: int, key: str) -> Any:
    value = records.fields[index][key]
    if key == "box":
        return [value]
    if key not in _LISTS:
        return [_text(records, index, key, value)]
    if not isinstance(value, list) or not value:
        raise records.fault(index, f"{key}: expected a list of texts")
    return [_text(records, index, key, _of_person(item)) for item in value]


def _of_person(item: Any) -> Any:
    """VQA's files say for each answer how sure its author was, too."""
    return item["answer"] if isinstance(item, dict) and "answer" in item else item


def _turns(records: Records, index: int) -> Iterator[str]:
    turns = records.fields[index]["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise records.fault(index, "conversations: expected a list of turns")
    found = False
    for turn in turns:
        if turn.get("from") == "gpt":
            found = True
            yield _text(records, index, "conversations: value", turn.get("value"))
    if not found:
        raise records.fault(index, 'conversations: no turn is from "gpt"')


def _text(records: Records, index: int, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise records.fault(index, f"{key}: expected a text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise records.fault(index, f"{key}: half a character (a lone surrogate)") from None
    return value


def _add_turns(keyed: Keyed, index: int, values: list[Any]) -> None:
    sample = id_of(keyed.records, index)
    if not values:
        raise keyed.records.fault(index, "no answer: the list is empty")
    for number, value in enumerate(values, 1):
        _add(keyed, index, f"{sample}#{number}" if len(values) > 1 else sample, value)


def _add(keyed: Keyed, index: int, sample: str, value: Any) -> None:
    if sample in keyed.values:
        before = keyed.records.place(keyed.at[sample])
        raise keyed.records.fault(index, f"id {sample} stands in {before} already")
    keyed.values[sample] = value
    keyed.at[sample] = index
