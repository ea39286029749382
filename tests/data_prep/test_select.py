"""Laws of the decision: whole columns say what the rule says of each row; a share drops that share."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.select import RULES, Select, decide, judge, measured, resolve
from data_prep.tables import SCHEMAS

SCORES = sorted({rule.score for rule in RULES})
THRESHOLDS = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
SELECTS = st.builds(
    Select,
    **{rule.name: THRESHOLDS for rule in RULES if rule.name not in ("min_keep_area", "min_distinct_share")},
    min_keep_area=st.one_of(st.none(), st.sampled_from([0.25, 0.5, 1.0])),
    need_caption=st.booleans(),
    licenses=st.sampled_from([(), ("CC-BY-*",), ("cc0-1.0", "MIT")]),
)
VALUES = st.one_of(st.none(), st.just(float("nan")), st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.500001, 1.0, 9.0]))
LICENSES = st.sampled_from([None, "CC-BY-4.0", "CC0-1.0", "CC-BY-NC-4.0 OR MIT", "CC-BY-4.0 AND LicenseRef-Other"])
ROWS = st.fixed_dictionaries(
    {**dict.fromkeys(SCORES, VALUES), "caption": st.sampled_from(["", "words", None]), "license": LICENSES}
)
SCHEMA = pa.schema([*((name, pa.float64()) for name in SCORES), ("caption", pa.string()), ("license", pa.string())])


@given(st.lists(ROWS, max_size=8), SELECTS)
@settings(max_examples=300, deadline=None)
def test_whole_columns_say_what_the_rule_says_of_each_row(rows, select):
    verdicts = judge(pa.Table.from_pylist(rows, SCHEMA), select)
    for place, row in enumerate(rows):
        reason = decide(row, select)
        said = (verdicts.rule[place].as_py(), verdicts.value[place].as_py(), verdicts.threshold[place].as_py())
        assert bool(verdicts.kept[place]) == (reason is None)
        assert said == ((None, None, None) if reason is None else (reason.rule, reason.value, reason.threshold))
        assert verdicts.message[place].as_py() == (reason.message or None if reason else None)


def test_a_score_that_the_table_does_not_have_fails_its_rule():
    table = pa.table({"caption": ["words"]})
    select = Select(min_distinct_share=None, min_keep_area=None)
    assert judge(table, select).rule.to_pylist() == ["min_brightness"] == [decide({"caption": "words"}, select).rule]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60, unique=True), st.floats(0, 0.99))
@settings(max_examples=100, deadline=None)
def test_a_share_drops_that_share_of_the_worst(scores, share):
    off = {rule.name: None for rule in RULES}
    table = pa.table({"motion": pa.array(map(float, scores)), "aspect": pa.array(map(float, scores))})
    for rule, worst in (("min_motion", sorted(scores)), ("max_aspect", sorted(scores, reverse=True))):
        select = resolve(table, Select(**{**off, "need_caption": False, "drop_share": {rule: share}}))
        dropped = {score for score, kept in zip(scores, judge(table, select).kept, strict=True) if not kept}
        assert dropped == set(worst[: int(share * len(scores))])


def test_a_share_never_loosens_a_threshold():
    table = pa.table({"motion": pa.array([1.0, 2.0, 3.0, 4.0])})
    assert resolve(table, Select(min_motion=2.5, drop_share={"min_motion": 0.25})).min_motion == 2.5
    assert resolve(table, Select(min_motion=0.5, drop_share={"min_motion": 0.5})).min_motion == 3.0


def test_a_table_without_licenses_fails_their_rule_first():
    select = Select(min_motion=9.0, licenses=("*",))
    verdicts = judge(pa.table({"caption": ["words"], "motion": [0.0]}), select)
    assert verdicts.rule.to_pylist() == ["licenses"]
    assert verdicts.message.to_pylist() == ["licenses: unknown, and * is wanted"]


def test_settings_that_ask_for_no_license_are_those_before_there_were_licenses():
    assert "licenses" not in Select().model_dump()
    assert Select.model_validate(Select(licenses=("CC BY 4.0",)).model_dump()).licenses == ("CC-BY-4.0",)
    with pytest.raises(ValidationError, match="Did you mean 'CC-BY-4.0'"):
        Select(licenses=("CC-BY4.0",))


def test_a_share_of_an_unknown_rule_is_refused():
    with pytest.raises(ValidationError, match="Did you mean 'min_motion'"):
        Select(drop_share={"min_motoin": 0.5})


def test_scores_of_a_source_reach_its_spans():
    source = dict.fromkeys(SCHEMAS["sources"].names) | {
        "source_id": "s", "bytes": 1000, "width": 40, "height": 20, "rotation": 90, "sar": "2/1", "frames": 50,
        "duration_s": 2.0,
    }  # fmt: skip
    span = dict.fromkeys(SCHEMAS["spans"].names) | {"source_id": "s", "distinct_frames": 3}
    tables = [pa.Table.from_pylist([row], SCHEMAS[name]) for row, name in ((span, "spans"), (source, "sources"))]
    rights = pa.table({"source_id": ["r", "s"], "license": ["MIT", "CC0-1.0"]})
    for some, expected in ((rights, "CC0-1.0"), (rights.slice(0, 1), None), (rights.slice(0, 0), None)):
        assert measured(*tables, frames=4, rights=some)["license"].to_pylist() == [expected]
    row = measured(*tables, frames=4).to_pylist()[0]
    # 40 x 20 upright pixels, which are half as wide as high after the turn by 90 degrees.
    assert (row["source_fps"], row["source_s"], row["aspect"]) == (25.0, 2.0, 1.0)
    assert (row["bits_per_pixel"], row["distinct_share"]) == (8000 / 40_000, 0.75)


def test_each_threshold_is_a_rule_and_is_named_after_its_score():
    assert {rule.name for rule in RULES} == {name for name in Select.model_fields if name[:4] in ("min_", "max_")}
    for rule in RULES:
        assert rule.name == ("min_" if rule.at_least else "max_") + rule.score
