"""2,000 random deliveries: the dose at the event is exact, or the case is refused by the names of its objects."""

from collections import Counter

import numpy as np
import pytest
from helpers.drawn_treatments import Drawn, draw_treatment

from ricenet.delivery.patient_doses import CaseContext, number_objects
from ricenet.delivery.roles import Timeline
from ricenet.delivery.rt_objects import describe_rt_objects, read_rt_objects
from ricenet.delivery.rtobject import rt_key
from ricenet.delivery.series import PatientFiles, index_delivery
from ricenet.delivery.treatment import Treatment, sum_treatment
from ricenet.errors import InvalidInput

KEY, DRAWS, EXACT_GY = b"k" * 32, 2000, 1e-2


def take(drawn: Drawn, files: PatientFiles) -> Treatment:
    """What ingest does with the doses, without converting images; every object is described, whatever happens."""
    objects = read_rt_objects(files, doses=True)
    context = CaseContext(event=drawn.event, image_dates=drawn.images, key=KEY, **drawn.table)
    patient = number_objects(objects.doses, objects.plans, context)
    try:
        return sum_treatment(patient, None)
    finally:
        times = Timeline(None, drawn.event, None, None, 3, frozenset(drawn.images))
        records = describe_rt_objects(objects, files, patient, {}, times, KEY)
        keys = {rt_key("RTDOSE", file.instance_uid, KEY) for file in files.doses}
        assert {record.object for record in records if record.kind == "RTDOSE"} == keys


def is_true(treatment: Treatment, drawn: Drawn) -> bool:
    if {part.frame_of_reference for part in treatment.parts} != drawn.truth.keys():
        return False
    for part in treatment.parts:
        volume = part.volume
        index = np.moveaxis(np.indices(volume.voxels.shape), 0, -1)
        world = index @ volume.world_from_voxel[:3, :3].T + volume.world_from_voxel[:3, 3]
        if abs(volume.voxels - drawn.truth[part.frame_of_reference](world)).max() > EXACT_GY:
            return False
    return True


@pytest.mark.slow
def test_the_dose_at_the_event_is_exact_or_refused_by_name(tmp_path):
    rng = np.random.default_rng(20)
    drawn = [draw_treatment(tmp_path, number, rng) for number in range(DRAWS)]
    patients = index_delivery(tmp_path).patients
    shares: Counter[str] = Counter()
    wrong, nameless = [], []
    for each in drawn:
        try:
            treatment = take(each, patients[each.patient_id])
        except InvalidInput as refusal:
            shares[refusal.code] += 1
            doses = [rt_key("RTDOSE", file.instance_uid, KEY) for file in patients[each.patient_id].doses]
            if not any(key in str(refusal) for key in doses):
                nameless.append(str(refusal))
            continue
        if is_true(treatment, each):
            shares["exact"] += 1
        else:
            wrong.append((each.kinds, each.table, treatment.used, treatment.flags))
    print({what: f"{count / DRAWS:.1%}" for what, count in shares.most_common()})
    assert not nameless, nameless[:10]
    assert not wrong, f"{len(wrong)} of {DRAWS}: {wrong[:40]}"
    assert shares["exact"] > 0.5 * DRAWS
