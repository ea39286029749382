"""Laws of licenses: one name for all ways to write it, none for what nobody stated, alternatives and sums."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidgen_core.licenses import UNKNOWN, check_wanted, fits, spdx

WAYS = {
    "CC-BY-3.0": ["Creative Commons Attribution license (reuse allowed)", "Creative Commons Attribution 3.0 Unported"],
    "CC-BY-4.0": [
        "cc-by-4.0", "CC BY 4.0", "CC BY 4.0 International", "cc by 4.0 license", " CC-BY  4.0 ",
        "https://creativecommons.org/licenses/by/4.0/", "creativecommons.org/licenses/by/4.0/legalcode",
    ],
    "CC-BY-NC-SA-4.0": [
        "CC BY-NC-SA 4.0", "CC BY SA NC 4.0", "Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International",
        "http://creativecommons.org/licenses/by-nc-sa/4.0/deed.de",
    ],
    "CC-BY-ND-2.0": ["Creative Commons Attribution-NoDerivs 2.0 Generic", "//creativecommons.org/licenses/by-nd/2.0"],
    "CC-BY-3.0-DE": ["https://creativecommons.org/licenses/by/3.0/de/deed.de"],
    "CC0-1.0": ["CC0", "CC0 1.0 Universal", "https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"],
    "CC-PDM-1.0": ["https://creativecommons.org/publicdomain/mark/1.0/"],
    "MIT": ["mit", "MIT License"],
    "CC-BY-4.0 OR (MIT AND CC0-1.0)": ["cc-by-4.0 or (mit and cc0-1.0)"],
    # Nobody says which version, or it is no license of SPDX.
    "LicenseRef-CC-BY": ["CC BY"],
    "LicenseRef-CC-BY-NC-SA-3.0-US": ["http://creativecommons.org/licenses/by-nc-sa/3.0/us/"],
    "LicenseRef-Pexels-License": ["Pexels License", "LicenseRef-Pexels-License"],
    "LicenseRef-All-rights-reserved": ["All rights reserved."],
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
def test_each_way_to_write_a_license_has_its_name_and_a_name_stays_itself(name):
    assert {way: spdx(way) for way in [*WAYS[name], name]} == dict.fromkeys([*WAYS[name], name], name)


@pytest.mark.parametrize("text", ["", "  ", "Unknown", "none", "N/A", "NOASSERTION", "---"])
def test_what_states_nothing_has_no_name(text):
    assert spdx(text) is None


@given(st.text(max_size=90))
@settings(max_examples=60, deadline=None)
def test_any_text_has_one_name_or_none_and_is_never_wanted_by_mistake(text):
    name = spdx(text)
    if name is not None:
        assert spdx(name) == name
        assert fits(name, ["*"])
        assert not fits(name, [])
        if name.startswith("LicenseRef-"):
            assert not fits(name, ["CC*", "MIT"])


def test_texts_that_differ_beyond_a_names_length_or_alphabet_differ_in_name():
    names = [spdx(text) for text in ("x" * 90 + "1", "x" * 90 + "2", "\u8457\u4f5c", "\u4f5c\u8457")]
    assert len(set(names)) == 4
    assert max(map(len, names)) < 90


@pytest.mark.parametrize(
    "license_,wanted,fit",
    [
        ("CC-BY-4.0", ["cc-by-4.0"], True),
        ("CC-BY-4.0", ["CC-BY-?.0"], True),
        ("CC-BY-NC-4.0", ["CC-BY-?.0"], False),
        ("MIT OR CC-BY-NC-4.0", ["MIT"], True),
        ("MIT AND CC-BY-NC-4.0", ["MIT"], False),
        ("MIT AND (CC0-1.0 OR CC-BY-NC-4.0)", ["MIT", "CC0-*"], True),
        ("(MIT AND CC0-1.0) OR CC-BY-NC-4.0", ["MIT"], False),
        ("CC-BY-NC-4.0 OR CC0-1.0 AND MIT", ["MIT", "CC0-1.0"], True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ["GPL-2.0-only"], False),
        ("GPL-2.0-only WITH Classpath-exception-2.0 AND MIT", ["MIT", "GPL-2.0-only WITH *"], True),
        (None, ["*"], False),
        (UNKNOWN, ["*"], False),
    ],
)
def test_of_alternatives_one_must_be_wanted_and_of_a_sum_all(license_, wanted, fit):
    assert fits(license_, wanted) is fit


def test_what_is_wanted_is_a_name_or_a_pattern_in_one_order():
    wanted = check_wanted(["cc0", "CC BY 4.0", "CC-BY-*", "LicenseRef-Pexels-License", "cc-by-4.0"])
    assert wanted == check_wanted(wanted[::-1]) == ("CC-BY-*", "CC-BY-4.0", "CC0-1.0", "LicenseRef-Pexels-License")
    with pytest.raises(ValueError, match="no license that SPDX knows. Did you mean 'CC-BY-4.0'"):
        check_wanted(["CC-BY4.0"])
    with pytest.raises(ValueError, match="sources state in other words is LicenseRef-Pexels-License"):
        check_wanted(["Pexels License"])
    with pytest.raises(ValueError, match=r"patterns have a \*"):
        check_wanted(["unknown"])
