"""Fill the reporting checklists for the article about a study: claim.md and tripod_ai.md.

Items that a program can know are filled with the facts of this run (ricenet.evaluation.facts); the rest is marked for
people. What is asked and answered stands in checklists.yaml. Text that comes from folders and tables is escaped.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import yaml

from ricenet.command.atomic import replace_file
from ricenet.display.markdown import escaped
from ricenet.evaluation.facts import read_facts
from ricenet.evaluation.summary import SummaryRecord
from ricenet.training.run_record import RunRecord

NOTICE = """\
> **Research use only.** ricenet is no medical device. Nothing here shows that a model is valid for patients.
>
> *Filled* means that an answer is stated, not that it is adequate. Read each one, correct it, and copy it into the
> official form: its wording counts, the items are paraphrased here."""

OPTIONAL = "partial_cohort"  # the fact that a sentence asks for itself: it reads otherwise without


@dataclass(frozen=True)
class Item:
    """One item: what it asks, our answer's sentences (templates), what only people know, where ricenet differs."""

    number: str
    section: str
    subject: str
    asked: str
    answer: tuple[str, ...] = ()
    people: str = ""
    differs: str = ""
    applies: str = ""


@dataclass(frozen=True)
class Checklist:
    """A published checklist.

    Attributes:
        file: what its filled form is called.
        source: where it was published.
        note: what a reader of ours has to know first.
        unknown: fact -> what to say where an item is left open because it is not known.
    """

    file: str
    name: str
    title: str
    source: str
    note: str
    items: tuple[Item, ...]
    unknown: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """An item's answer in Markdown, empty where there is none; `missing`: the facts that its first sentence lacks."""

    item: Item
    text: str
    missing: tuple[str, ...]

    @property
    def state(self) -> str:
        """`filled`, `in part` (people have to add to it) or `for people`."""
        if not self.text:
            return "for people"
        return "in part" if self.item.people else "filled"


def write_checklists(summary: SummaryRecord, records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Write each checklist, filled as far as it goes, into `folder`.

    Args:
        summary: of ricenet.evaluate; what a half-finished grid lacks may be absent or None.
        records: run.json of every finished run.

    Returns:
        The files, in the order of checklists.yaml; the same input gives the same bytes.
    """
    facts = read_facts(summary, records)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for checklist in read_checklists():
        replace_file(folder / checklist.file, fill(checklist, facts))
        paths.append(folder / checklist.file)
    return paths


def read_checklists() -> list[Checklist]:
    """The checklists of checklists.yaml."""
    return list(_checklists())


@cache
def _checklists() -> tuple[Checklist, ...]:
    content = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return tuple(
        Checklist(**{**checklist, "items": tuple(map(_item, checklist["items"])), "unknown": content["unknown"]})
        for checklist in content["checklists"]
    )


def _item(row: Mapping[str, Any]) -> Item:
    return Item(**{**row, "number": str(row["number"]), "answer": tuple(row.get("answer", ()))})


def fill(checklist: Checklist, facts: Mapping[str, Any]) -> str:
    """Write the checklist as Markdown, its answers filled with `facts` (ricenet.evaluation.facts.read_facts)."""
    items = answers(checklist, facts)
    lines = [f"# {checklist.name}: {checklist.title}", "", checklist.source, "", NOTICE, "", _count(items), ""]
    if "unfinished" in facts:
        lines += [f"**The grid is not finished: {escaped(facts['unfinished'])}.**", ""]
    lines += [checklist.note, ""]
    section = ""
    for answer in items:
        if answer.item.section != section:
            section = answer.item.section
            lines += [f"## {section}", ""]
        lines += _paragraphs(answer, checklist.unknown)
    return "\n".join(lines).rstrip() + "\n"


def answers(checklist: Checklist, facts: Mapping[str, Any]) -> list[Answer]:
    """Each item's answer: the sentences whose facts are all known; without the first of them none."""
    filled = []
    for item in checklist.items:
        lacking = [needed(sentence) - facts.keys() for sentence in item.answer]
        missing = tuple(sorted(lacking[0])) if lacking else ()
        whole = [sentence for sentence, lacks in zip(item.answer, lacking, strict=True) if not (missing or lacks)]
        text = "\n\n".join(_template(sentence).render(facts).strip() for sentence in whole)
        filled.append(Answer(item, text, missing))
    return filled


@cache
def needed(sentence: str) -> frozenset[str]:
    """The names of the facts without which a sentence of checklists.yaml cannot stand."""
    return frozenset(jinja2.meta.find_undeclared_variables(_environment().parse(sentence))) - {OPTIONAL}


@cache
def _template(sentence: str) -> jinja2.Template:
    return _environment().from_string(sentence)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(undefined=jinja2.StrictUndefined, finalize=escaped, trim_blocks=True, lstrip_blocks=True)


def _count(answers: Sequence[Answer]) -> str:
    counts = Counter(answer.state for answer in answers)
    people = [answer.item.number for answer in answers if answer.state == "for people"]
    return (
        f"**{counts['filled']} of {len(answers)} items are filled by ricenet, {counts['in part']} in part, "
        f"{len(people)} are left to people** ({', '.join(people)}). "
        "What the authors have to write stands in square brackets."
    )


def _paragraphs(answer: Answer, unknown: Mapping[str, str]) -> list[str]:
    item = answer.item
    applies = f" ({item.applies})" if item.applies else ""
    lines = [f"### {item.number}. {item.subject} ({answer.state})", "", f"*Asked{applies}: {item.asked}*", ""]
    if answer.text:
        lines += [answer.text, ""]
    if answer.text and item.differs:
        lines += [f"Different in ricenet: {item.differs}", ""]
    if answer.state != "filled":
        lines += [f"**[to be written by the authors: {item.people or item.asked}]**", ""]
    why = dict.fromkeys(unknown[fact] for fact in answer.missing if fact in unknown)
    if why:
        lines += [f"Not filled by ricenet: {'; '.join(why)}.", ""]
    return lines
