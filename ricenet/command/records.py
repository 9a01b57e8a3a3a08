"""The JSON files between the stages: one type each, with its reader and its writer.

A record's fields are its keys, in the order in which they are written. A file that was cut off, edited or written by
another version is refused by name, with the key that does not fit; nothing of its content is quoted.
"""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ricenet.command.atomic import replace_file
from ricenet.errors import InvalidInput


class Record(BaseModel):
    """Base of all records: immutable, with no keys but those declared.

    A key that may be missing has a default; it is written only where it was given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @classmethod
    def read(cls, path: Path, hint: str = "restore it, or make it again") -> Self:
        """Read `path`.

        Args:
            path: JSON; messages call it by its file name alone.
            hint: what the caller can do where the file cannot be used.

        Raises:
            InvalidInput: no such file (`record.missing`), or not a record of this type (`record.damaged`).
        """
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise InvalidInput(f"{path.name} is missing", hint, code="record.missing") from None
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidInput(
                f"{path.name} cannot be read: {_first_fault(error)}", hint, code="record.damaged"
            ) from None

    def as_json(self) -> str:
        """The text of the file: the keys that were given, in the order of their declaration."""
        return json.dumps(self.model_dump(mode="json", exclude_unset=True), indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Write `path` atomically."""
        replace_file(path, self.as_json())


def read_version(path: Path) -> object:
    """The `version` of a record, so that one of another version can be told from a damaged one; None without one."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content.get("version") if isinstance(content, dict) else None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # A key that nobody declared is not quoted either: it may be anything.
    keys = fault["loc"][:-1] if fault["type"] == "extra_forbidden" else fault["loc"]
    return ": ".join(filter(None, (".".join(map(str, keys)), fault["msg"])))
