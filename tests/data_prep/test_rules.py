"""Laws of the rules: off lets everything pass, on lets nothing pass unmeasured, and the first failed rule is named."""

import pytest

from data_prep.select import RULES, Select, decide
from data_prep.tables import SCHEMAS

SPAN = {"distinct_frames": 9, "keep_area": 1.0, "brightness": 100.0, "motion": 3.0, "caption": "a cat"}


def test_each_threshold_is_a_rule_and_each_rule_reads_a_column_of_spans():
    assert {rule.name for rule in RULES} == {name for name in Select.model_fields if name[:4] in ("min_", "max_")}
    assert {rule.score for rule in RULES} - {"distinct_share"} <= set(SCHEMAS["spans"].names)
    for rule in RULES:
        assert rule.name == ("min_" if rule.at_least else "max_") + rule.score


@pytest.mark.parametrize("rule", [rule for rule in RULES if Select.model_fields[rule.name].default is None])
def test_a_rule_is_off_until_it_has_a_threshold_and_then_a_missing_score_fails_it(rule):
    assert decide(SPAN, Select(), frames=9) is None
    on = Select(**{rule.name: 0.5})
    missing = decide({**SPAN, rule.score: None}, on, frames=9)
    assert (missing.rule, missing.value) == (rule.name, None)
    assert "missing score is not a pass" in missing.sentence()
    good, bad = (0.6, 0.4) if rule.at_least else (0.4, 0.6)
    assert decide({**SPAN, rule.score: good}, on, frames=9) is None
    assert decide({**SPAN, rule.score: 0.5}, on, frames=9) is None
    assert decide({**SPAN, rule.score: bad}, on, frames=9).rule == rule.name


def test_the_first_failed_rule_is_the_reason():
    still_and_dark = {**SPAN, "motion": 0.0, "brightness": 1.0}
    assert decide(still_and_dark, Select(), frames=9).rule == "min_brightness"
    assert decide({**still_and_dark, "distinct_frames": 1}, Select(), frames=9).rule == "min_distinct_share"
