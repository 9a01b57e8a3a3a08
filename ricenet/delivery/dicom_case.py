"""Choose the images and the treatment of one case of a DICOM delivery; where that fails, tell how far it came.

The record (ricenet.cohort.ingest_record) says what was chosen, summed and rejected and why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from ricenet.cohort.choices import NO_SERIES
from ricenet.cohort.ingest_record import ImageRecord, PassedOver, SelectionRecord, StructuresRecord, TreatmentRecord
from ricenet.cohort.label_table import LabelRow
from ricenet.command.schemas import IntakeConfig, RuleConfig, StructureRuleConfig
from ricenet.delivery.patient_doses import CHOOSE, CaseContext, PatientDoses, number_objects
from ricenet.delivery.roles import (
    Choice,
    Timeline,
    Undecided,
    check_pattern,
    check_rules,
    choose,
    describe_series,
    series_key,
)
from ricenet.delivery.rt_objects import (
    RtObjects,
    Unreadable,
    describe_rt_objects,
    no_dose_problem,
    planning_series,
    read_rt_objects,
)
from ricenet.delivery.rtobject import rt_key
from ricenet.delivery.rtstruct import check_structure_rules, read_structures
from ricenet.delivery.series import PatientFiles, Series
from ricenet.delivery.series_names import Wording
from ricenet.delivery.treatment import Treatment, sum_treatment
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.images.dose_limits import DoseLimits, limits_from, preset
from ricenet.images.volume import Volume

MRIS = ("post", "event")
NO_DOSE = "rd: not in the delivery"  # a flag of a partial cohort's case
DOSE_TYPES = ("PHYSICAL", "EFFECTIVE")


@dataclass(frozen=True)
class IntakeSettings:
    """What decides the content of a case: the keys of conf/ingest.yaml.

    Attributes:
        rules: of the series' roles.
        wording: how descriptions are read.
        event_tolerance_days: around the event's date.
        dose: whether a case must have one.
        alpha_beta: Gy, of EQD2; None: physical dose.
        dose_limits: of a treatment's physical dose.
        structures: which structures of the plan's RTSTRUCT become masks, and under which names.
        dose_type: PHYSICAL or EFFECTIVE: which dose of an ion plan counts that has both.
        post: whether a case must have a post-OP MRI; False: nobody looks for one.
        partial: whether a case may lack the post-OP MRI or the dose that was not delivered.
    """

    rules: tuple[RuleConfig, ...]
    wording: Wording
    event_tolerance_days: int
    dose: bool
    alpha_beta: float | None
    dose_limits: DoseLimits = field(default_factory=preset)
    structures: tuple[StructureRuleConfig, ...] = ()
    dose_type: str = "PHYSICAL"
    post: bool = True
    partial: bool = False


def intake_settings(cfg: IntakeConfig, dose: bool, post: bool = True, partial: bool = False) -> IntakeSettings:
    """Turn the config into arguments.

    Args:
        dose, post, partial: as in IntakeSettings.

    Raises:
        WrongUsage: a rule, a pattern or a limit is invalid.
    """
    check_rules(cfg.rules)
    check_structure_rules(cfg.structures)
    for name in ("contrast_in_description", "no_contrast_in_description", "never"):
        check_pattern(name, getattr(cfg, name))
    wording = Wording(cfg.contrast_in_description, cfg.never, cfg.no_contrast_in_description, cfg.trust_agent)
    limits = limits_from(cfg.dose_limits)
    if cfg.dose_type not in DOSE_TYPES:
        raise WrongUsage(f"dose_type: expected {' | '.join(DOSE_TYPES)}, got {cfg.dose_type!r}")
    return IntakeSettings(
        tuple(cfg.rules),
        wording,
        cfg.event_tolerance_days,
        dose,
        cfg.alpha_beta,
        limits,
        tuple(cfg.structures),
        cfg.dose_type,
        post,
        partial,
    )


class DicomCase:
    """What was decided of one case so far; where it is refused, `record` tells that much.

    The event's date decides which doses count, their plans when radiotherapy began, and that which MRI is the event:
    where the label table gives no date of the event, it is looked for first, and the doses are chosen with its date.
    """

    def __init__(self, label: LabelRow, files: PatientFiles, settings: IntakeSettings, key: bytes) -> None:
        self.label, self.files, self.settings, self.key = label, files, settings, key
        self.objects = RtObjects()
        self.patient: PatientDoses | None = None
        self.treatment: Treatment | None = None
        self.chosen: dict[str, Choice] = {}
        self.undecided: dict[str, list[str]] = {}
        self.missing: dict[str, str] = {}  # of a partial cohort: role -> flag
        self.structures_record: StructuresRecord | None = None
        self.structure_flags: list[str] = []
        self.times = self._timeline(())

    @property
    def dose_roles(self) -> list[str]:
        """rd, rd_2, ... in the order of the treatment's parts."""
        parts = [] if self.treatment is None else self.treatment.parts
        return [f"rd{_suffix(number)}" for number in range(len(parts))]

    def choose(self) -> None:
        """Read the RT objects, choose the treatment and the images.

        Raises:
            InvalidInput: something is missing or ambiguous.
        """
        self.objects = read_rt_objects(self.files, doses=self.settings.dose)
        self.times = self._timeline(self._planned())
        by_rules = self._event_of_the_rules()
        event = self.label.event_date or by_rules
        self._choose_by(event)
        taken = self.chosen["event"].series.date
        if self.label.event_date is None and taken is not None and taken != event:
            self._choose_by(taken)

    def _choose_by(self, event: date | None) -> None:
        if self.settings.dose:
            problem = no_dose_problem(self.objects, self.files.doses, self.key)
            if problem is not None and not self._may_lack_dose(problem):
                raise problem
        if self.settings.dose and "rd" not in self.missing:
            self.patient = number_objects(self.objects.doses, self.objects.plans, self._context(event))
            self.treatment = sum_treatment(self.patient, self.settings.alpha_beta, self.settings.dose_limits)
            self.times = self._timeline(self._counted_dates(self.treatment))
        self.chosen = self._images()

    def _may_lack_dose(self, problem: InvalidInput) -> bool:
        """Whether no dose was delivered, and the case of a partial cohort comes in without it."""
        named = self.label.doses or self.label.plans
        if self.settings.partial and problem.code == "dose.missing" and not named:
            self.missing["rd"] = NO_DOSE
        return "rd" in self.missing

    def _without_post(self, problem: InvalidInput, event: Series) -> InvalidInput | None:
        """None where a case of a partial cohort comes in without a post-OP MRI; else the problem.

        Where nobody knows when radiotherapy began, any MRI before the event may be it.
        """
        named = self.label.post_date is not None or "post" in self.label.choice
        if not self.settings.partial or problem.code != "role.missing" or named:
            return problem
        before = [
            each
            for each in self.files.series
            if each.modality == "MR"
            and each.uid != event.uid
            and (each.date is None or event.date is None or each.date < event.date)
        ]
        if self.times.radiotherapy is None and before:
            hint = f"fill in radiotherapy_start or post_date: there are MRIs before the event; or {problem.hint}"
            return InvalidInput(problem.message, hint, code=problem.code)
        self.missing["post"] = f"{problem.message}: the case is taken without it"
        return None

    def _context(self, event: date | None) -> CaseContext:
        label = self.label
        image_dates: dict[str, list[date]] = {series.frame_of_reference: [] for series in self.files.series}
        for series in self.files.series:
            if series.date is not None:
                image_dates[series.frame_of_reference].append(series.date)
        return CaseContext(
            fractions=label.fractions,
            prescription_gy=label.prescription_gy,
            delivered_fractions=label.delivered_fractions,
            event=event,
            radiotherapy_start=label.radiotherapy_start,
            image_dates=image_dates,
            doses=label.doses,
            plans=label.plans,
            exclude_doses=label.exclude_doses,
            eqd2=self.settings.alpha_beta is not None,
            dose_type=self.settings.dose_type,
            unreadable=frozenset(rt_key(each.kind, each.uid, self.key) for each in self.objects.unreadable),
            key=self.key,
        )

    def _planned(self) -> list[date]:
        """The dates of plans that may have been delivered before the event."""
        event = self.label.event_date
        days = [plan.date for plan in self.objects.plans if plan.may_be_delivered and plan.date is not None]
        return [day for day in days if event is None or day < event]

    def _counted_dates(self, treatment: Treatment) -> list[date]:
        """For each plan that counts, or each frame without one, its date, else that of the image in its frame."""
        assert self.patient is not None
        dates = []
        for number in (used.dose for used in treatment.used):
            dose = self.patient.doses[number]
            plans = [plan for plan in self.objects.plans if plan.sop_instance in dose.plans]
            planned = [day for plan in plans if (day := self.patient.date_of(plan)) is not None]
            day = min(planned, default=self.patient.image_date(dose))
            dates += [] if day is None else [day]
        return dates

    def _timeline(self, planned: Sequence[date]) -> Timeline:
        """Radiotherapy begins, for want of a better date, when it was planned.

        Not before the first image: anonymisers leave such dates, and nobody is irradiated without an image.
        """
        label, series = self.label, self.files.series
        first = min((each.date for each in series if each.date is not None), default=None)
        plausible = [day for day in planned if first is None or day >= first]
        start = label.radiotherapy_start or min(plausible, default=None)
        frames = frozenset(each.frame_of_reference for each in series)
        return Timeline(label.post_date, label.event_date, start, first, self.settings.event_tolerance_days, frames)

    def _event_of_the_rules(self) -> date | None:
        """The date of the event MRI where the rules find one without the dose; None where they do not.

        Raises:
            InvalidInput: one series was named for both MRIs.
        """
        chosen, problems = self._pick_each(None)
        if problems:  # what they are, is said when the images are chosen
            return None
        if self.label.choice:  # a series that was named wrongly says nothing of the event's date
            _require_two(chosen)
        return chosen["event"].series.date

    def _pick(self, role: str, frame: str | None, named: str | None = None) -> Choice:
        return choose(
            role,
            self.files.series,
            self.settings.rules,
            self.times,
            frame=frame,
            wording=self.settings.wording,
            key=self.key,
            named=self.label.choice.get(role, "") if named is None else named,
            marked=role in self.label.marked,
            planned_on=() if self.treatment is None else planning_series(self.objects, self.treatment.plans),
        )

    def _pick_each(self, frame: str | None) -> tuple[dict[str, Choice], list[InvalidInput]]:
        """The series of post and event, or why there is none; what the user has to choose from is kept."""
        chosen: dict[str, Choice] = {}
        problems: dict[str, InvalidInput] = {}
        self.undecided = {}
        self.missing.pop("post", None)
        for role in MRIS if self.settings.post else MRIS[1:]:
            if role == "post" and self.label.choice.get("post", "").lower() == NO_SERIES:
                if self.settings.partial:
                    self.missing["post"] = "post: there is none, as post_series says"
                else:
                    problems[role] = InvalidInput(
                        "post: there is none, as post_series says",
                        "name it, or exclude the case; ricenet.ingest takes cases without one with partial=true",
                        code="role.missing",
                    )
                continue
            try:
                chosen[role] = self._pick(role, frame)
            except InvalidInput as problem:
                problems[role] = problem
                if isinstance(problem, Undecided):
                    self.undecided[role] = [series_key(each, self.key) for each in problem.candidates]
        if "post" in problems and "event" in chosen:
            remaining = self._without_post(problems.pop("post"), chosen["event"].series)
            problems |= {} if remaining is None else {"post": remaining}
        return chosen, list(problems.values())

    def _images(self) -> dict[str, Choice]:
        """The series of post and event, and of each planning image whose dose does not lie in the post-OP MRI's frame.

        Raises:
            InvalidInput: a role is missing or ambiguous, or the chain of frames is broken.
        """
        frame = None if self.treatment is None else self.treatment.frame_of_reference
        chosen, problems = self._pick_each(frame)
        if problems:
            raise _all_of(problems)
        _require_two(chosen)
        anchor = chosen.get("post", chosen["event"])
        parts = [] if self.treatment is None else self.treatment.parts
        for number, part in enumerate(parts):
            if part.frame_of_reference != anchor.series.frame_of_reference:
                chosen[f"planning{_suffix(number)}"] = self._planning(part.frame_of_reference, sole=len(parts) == 1)
            elif "post" not in chosen:
                chosen[f"planning{_suffix(number)}"] = Choice(
                    anchor.series, (), "the dose lies in the event MRI's frame"
                )
        return chosen

    def _planning(self, frame: str, sole: bool) -> Choice:
        """The image in the frame of a dose; of several frames, the one that planning_series names is its own's."""
        in_frame = [series for series in self.files.series if series.frame_of_reference == frame]
        if not in_frame:
            raise InvalidInput(
                "no image of the delivery lies in the dose's frame of reference",
                f"deliver the planning CT or MR that the dose was calculated on; or {CHOOSE}",
                code="dose.frame",
            )
        named = self.label.choice.get("planning", "")
        is_its_own = any(series_key(series, self.key) == named for series in in_frame)
        choice = self._pick("planning", frame, named if sole or is_its_own else "")
        if choice.series.frame_of_reference != frame:
            raise InvalidInput(
                "the series that planning_series names is not in the dose's frame of reference",
                "name one that is (ingest.json, or the page of ricenet.predict, lists them)",
                code="dose.frame",
            )
        return choice

    def structures(self, volumes: Mapping[str, Volume]) -> dict[str, Volume]:
        """Masks by name, of the structure set of the counted plan, else of the only one in its frame; {} without one.

        A structure set that cannot be read is listed, and refuses no case.
        """
        treatment = self.treatment
        if treatment is None or not self.settings.structures:
            return {}
        plans = [plan for plan in self.objects.plans if plan.sop_instance in treatment.plans]
        frame, role = treatment.frame_of_reference, "planning" if "planning" in self.chosen else "post"
        in_frame = {each.sop_instance for each in self.objects.structures if each.frame_of_reference == frame}
        uids = in_frame & {plan.structure_set for plan in plans} or in_frame
        files = [file for file in self.files.structures if file.instance_uid in uids]
        if len(files) != 1:
            if files:
                self.structure_flags = [f"none of {len(files)} structure sets was read: no plan that counts names one"]
            return {}
        try:
            read = read_structures(files[0].path, volumes[role], self.settings.structures, frame)
        except InvalidInput as problem:
            self.objects.unreadable.append(Unreadable("RTSTRUCT", files[0].instance_uid, problem))
            return {}
        structure_set = rt_key("RTSTRUCT", files[0].instance_uid, self.key)
        update = {"structure_set": structure_set, "lies_in_the_frame_of": role}
        self.structures_record = read.record.model_copy(update=update)
        self.structure_flags = read.flags
        return read.masks

    def record(self) -> SelectionRecord:
        """What was chosen and what there was."""
        frame = None if self.treatment is None else self.treatment.frame_of_reference
        selection = SelectionRecord(
            series=describe_series(self.files.series, self.times, frame, self.settings.wording, self.key),
            rt_objects=describe_rt_objects(
                self.objects, self.files, self.patient, self._statuses(), self.times, self.key
            ),
        )
        if self.undecided:
            selection = selection.model_copy(update={"undecided": self.undecided})
        if not self.chosen or (self.settings.dose and self.treatment is None and "rd" not in self.missing):
            return selection
        images = {role: _image_record(choice, self.key) for role, choice in self.chosen.items()}
        update = {
            "images": images,
            "dose": self._treatment_record(),
            "structures": self.structures_record,
            "flags": [*self._remarks(), *self.missing.values()] or None,
        }
        return selection.model_copy(update={name: value for name, value in update.items() if value is not None})

    def _remarks(self) -> list[str]:
        """What somebody should know of the choice of each MRI."""
        return [
            f"{role}: {self.chosen[role].remark}" for role in MRIS if role in self.chosen and self.chosen[role].remark
        ]

    def _statuses(self) -> dict[str, str]:
        """Status by SOP Instance UID of what counts; in a refused case, of what may have counted."""
        if self.patient is None:
            return {}
        rejected = {row.dose for row in self.patient.rejected}
        left = [dose for number, dose in self.patient.doses.items() if number not in rejected]
        doses = {dose.sop_instance for dose in left}
        if self.treatment is None:
            return dict.fromkeys({*doses, *(uid for dose in left for uid in dose.plans)}, "undecided")
        sets = {plan.structure_set for plan in self.objects.plans if plan.sop_instance in self.treatment.plans}
        return dict.fromkeys({*doses, *self.treatment.plans, *sets}, "used")

    def _treatment_record(self) -> TreatmentRecord | None:
        treatment = self.treatment
        if treatment is None:
            return None
        first, *others = (
            "planning" if f"planning{_suffix(n)}" in self.chosen else "post" for n in range(len(treatment.parts))
        )
        further = {
            role: f"planning{_suffix(number)}" if lies == "planning" else "post"
            for number, (role, lies) in enumerate(zip(self.dose_roles[1:], others, strict=True), start=1)
        }
        return TreatmentRecord(
            used=treatment.used,
            rejected=treatment.rejected,
            flags=[*treatment.flags, *self._planning_flags(), *self.structure_flags],
            max_gy=round(float(treatment.volume.voxels.max()), 3),
            eqd2_alpha_beta_gy=self.settings.alpha_beta,
            lies_in_the_frame_of=first,
            further=further,
        )

    def _planning_flags(self) -> list[str]:
        """Which of several planning images was taken, and which had its slices interpolated."""
        flags = []
        for role, choice in self.chosen.items():
            stack = choice.series.uneven if role.startswith("planning") else None
            if choice.remark and role.startswith("planning"):
                flags.append(f"{role}: {choice.remark}")
            if stack is not None:
                low, high = stack.steps_mm
                flags.append(
                    f"{role}: slices {low:.3g}-{high:.3g} mm apart, interpolated to even steps; its registration alone "
                    "depends on them"
                )
        return flags


def _require_two(chosen: Mapping[str, Choice]) -> None:
    """Refuse one series as both MRIs."""
    if "post" in chosen and chosen["post"].series.uid == chosen["event"].series.uid:
        raise InvalidInput(
            "post and event are the same series",
            "correct event_date, post_date or radiotherapy_start",
            code="role.same_series",
        )


def _all_of(problems: Sequence[InvalidInput]) -> InvalidInput:
    """The problems of both MRIs as one, so that all there is to choose is said at once."""
    first = problems[0]
    message = "; ".join(problem.message for problem in problems)
    hint = "; ".join(dict.fromkeys(problem.hint for problem in problems))
    return InvalidInput(message, hint, code=first.code)


def _suffix(number: int) -> str:
    """Of the role of a further dose or planning image: "", _2, _3, ..."""
    return f"_{number + 1}" if number else ""


def _image_record(choice: Choice, key: bytes) -> ImageRecord:
    return ImageRecord(
        series=series_key(choice.series, key),
        reason=choice.reason,
        candidates=[series_key(each, key) for each in choice.candidates],
        remark=choice.remark,
        passed_over=[PassedOver(series=series_key(each, key), reason=why) for each, why in choice.passed_over],
    )
