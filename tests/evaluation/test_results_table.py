import csv
import io

from helpers.summaries import contrast_content, control_content, row, summary, summary_content

from ricenet.evaluation.results_table import as_csv, as_text
from ricenet.paper import PAPER

SCORED = {
    "oof_macro_f1": 0.81234, "oof_interval": (0.7, 0.9), "folds": [0.8, 0.82], "folds_mean": 0.81, "folds_sd": 0.014,
    "n": 80, "n_test": 12, "test_vote_macro_f1": 0.916, "test_interval": (0.64, 0.98), "test_mean_macro_f1": 0.83,
}  # fmt: skip
HALF = row(**{
    **SCORED, "folds": [None, 0.8], "folds_sd": None, "n": 40, "n_test": 0,
    "test_vote_macro_f1": None, "test_interval": None, "test_mean_macro_f1": None,
})  # fmt: skip
CONTENT = summary_content()
SUMMARY = summary(
    n_folds=2,
    cells=6,
    cohort=CONTENT["cohort"] | {"excluded": {"dose.unit": 2}},
    omnibus={"sets": ["rd", "post", "own_set"], "q": 7.04, "df": 2, "p": 0.0296, "folds": [1], "n": 40},
    power=CONTENT["power"] | {"discordance_observed": True},
    controls=[control_content()],
    test_access={"looked": True, "count": 3},
    sets={"rd": row(**SCORED, bayes_macro_f1=0.95), "post": HALF, "own_set": HALF},
    baselines={"majority_class": HALF},
    contrasts={"rd_post - post": contrast_content(difference=-0.0312, interval=(-0.1, 0.04), n=40, p_holm=0.0421)},
    missing=["post/fold0", "own_set/fold0", "event/fold0", "event/fold1"],
    notes=["a note"],
)


def test_csv_has_every_set_of_the_paper_beside_it():
    rows = list(csv.DictReader(io.StringIO(as_csv(SUMMARY))))
    assert [row["modalities"] for row in rows] == [*PAPER, "own_set", "majority_class"]
    assert [row["kind"] for row in rows] == ["network"] * 8 + ["baseline"]
    by_name = {row["modalities"]: row for row in rows}
    assert by_name["rd"] == {
        "modalities": "rd", "kind": "network", "folds_finished": "2", "n": "80",
        "oof_macro_f1": "0.8123", "oof_low": "0.7000", "oof_high": "0.9000",
        "folds_mean": "0.8100", "folds_sd": "0.0140", "paper_validation": "0.7800",
        "n_test": "12", "test_vote_macro_f1": "0.9160", "test_vote_low": "0.6400", "test_vote_high": "0.9800",
        "test_mean_macro_f1": "0.8300", "paper_test": "", "bayes_macro_f1": "0.9500",
    }  # fmt: skip
    assert [row["paper_validation"] for row in rows[:7]] == [f"{PAPER[name]['validation']:.4f}" for name in PAPER]
    assert by_name["event"]["oof_macro_f1"] == ""
    assert by_name["post"]["folds_finished"] == "1"


def test_text_says_what_is_known_and_what_is_missing():
    lines = as_text(SUMMARY).splitlines()
    rd, post = (next(line for line in lines if line.startswith(name)) for name in ("rd ", "post "))
    assert " ".join(rd.split()) == "rd 2/2 80 0.81 [0.70, 0.90] 0.81 ± 0.01 0.78 0.92 [0.64, 0.98] 0.83 0.95"
    assert " ".join(post.split()) == "post 1/2 40 0.81 [0.70, 0.90] 0.81 0.70"
    assert lines[0] == "NOT FINISHED, 4 of 6 cells missing: post fold 0; own_set fold 0; event"
    assert "paper" in lines[2]
    assert lines[-7:] == [
        "rd_post - post: -0.03 [-0.10, +0.04], 40 common cases, Holm p 0.042, passes",
        "Cochran's Q over 3 sets: 7.0, p 0.030, 40 cases",
        "80 patients can show a difference of 12.5 points or more (80% power, two models apart on 15% of them, as "
        "observed)",
        "control rd-shuffled_labels (seed 0): 0.47 [0.36, 0.58], chance gives 0.49, p 0.610: at chance",
        "excluded before preprocessing ended: 2 case(s): 2 dose.unit",
        "the test split was scored with different models so far: 3 time(s)",
        "a note",
    ]
    assert max(map(len, lines)) <= 120


def test_text_names_the_rows_that_declared_contrasts_lack():
    needs = {"rd_post - post": ["rd_post"], "rd_event - rd_post": ["rd_event", "rd_post"]}
    lines = as_text(summary(untestable=needs, declared=["post_event - post"])).splitlines()
    assert "2 of 3 declared contrasts cannot be tested: no rd_post, rd_event" in lines
