"""Licenses of videos by their SPDX names: what people and downloaders write, and which of them are wanted.

SPDX is the list of names at spdx.org/licenses; `packaging` carries it. What is stated and is no such name becomes a
`LicenseRef-...`, as SPDX wants it, so that it can be counted and asked for, but is never taken for what it is not.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from vidgen_core import digests
from vidgen_core.errors import did_you_mean

__all__ = ["UNKNOWN", "check_wanted", "fits", "spdx"]

UNKNOWN = "unknown"
"""How an unknown license is called where licenses are counted."""

# Texts that state nothing.
_NOTHING = frozenset(
    ["", "-", "n/a", "na", "nil", "no license", "noassertion", "none", "null", "unknown", "unspecified"]
)
# Whole names that no rule below makes; YouTube's offer is the 3.0 of Creative Commons, which its help page links to.
_NAMES = {
    "creative commons attribution license (reuse allowed)": "CC-BY-3.0",
    "creative commons attribution licence (reuse allowed)": "CC-BY-3.0",
    "creative commons zero": "CC0-1.0",
    "cc0": "CC0-1.0",
    "cc zero": "CC0-1.0",
    "public domain mark": "CC-PDM-1.0",
}
_DEED = re.compile(
    r"^(?:https?:)?/{0,2}(?:www\.)?creativecommons\.org/(licenses|publicdomain)/([a-z+-]+)/([\d.]+)(?:/(\w+))?"
)
_DEEDS = {"zero": "CC0", "mark": "CC-PDM"}
# In the order in which SPDX has them; NC and ND stand before SA and after BY.
_TERMS = (
    ("NC", r"nc|non-?commercial"),
    ("ND", r"nd|no-?derivs|no-?derivatives|no-?derivative-works"),
    ("SA", r"sa|share-?alike"),
)
_WORDS = re.compile(
    r"(?:cc|creative-commons)-(?:by|attribution)"
    r"(?P<terms>(?:-(?:" + "|".join(words for _, words in _TERMS) + r"))*)"
    r"(?:-v?(?P<version>\d\.\d))?(?:-(?:international|unported|generic))?(?:-(?:public-)?licen[sc]e)?$"
)
_ZERO = re.compile(
    r"(?:cc-?0|cc-?zero|creative-commons-zero)(?:-v?1\.0)?(?:-universal)?(?:-public-domain-dedication)?$"
)
_REF = "LicenseRef-"
# What joins the parts of an expression, and how many of them must be wanted; the sign that binds least comes first.
_SIGNS: Mapping[str, Callable[[Iterable[bool]], bool]] = {"OR": any, "AND": all}
_LONGEST = 60
# What somebody who mistyped a name has probably meant.
_USUAL = ("CC0-1.0", "CC-PDM-1.0", "Apache-2.0", "MIT", "ODbL-1.0", *(
    f"CC-BY{terms}-{version}" for terms in ("", "-SA", "-NC", "-ND", "-NC-SA", "-NC-ND") for version in ("3.0", "4.0")
))  # fmt: skip


def spdx(text: str) -> str | None:
    """The SPDX name or expression of a license as somebody wrote it; None where that states nothing.

    Known are SPDX's own names in any case, addresses of Creative Commons' deeds, and common ways to write those, such
    as "CC BY 4.0". A version that is not said is not guessed: "CC BY" alone is `LicenseRef-CC-BY`.
    """
    text = " ".join(text.split())
    plain = text.casefold().rstrip(".")
    if plain in _NOTHING or not any(map(str.isalnum, plain)):
        return None
    return _NAMES.get(plain) or _of_deed(plain) or _of_words(plain) or _canonical(text) or _reference(text)


def fits(license_: str | None, wanted: Sequence[str]) -> bool:
    """Whether a license is among the wanted ones; an unknown one never is.

    Args:
        license_: SPDX expression, None or `UNKNOWN`. Of "A OR B" one must be wanted, of "A AND B" both.
        wanted: Names, or patterns with * and ?.

    """
    if license_ in (None, UNKNOWN):
        return False
    tokens = license_.replace("(", " ( ").replace(")", " ) ").split()
    return _joined(tokens, [pattern.casefold() for pattern in wanted], tuple(_SIGNS))


def check_wanted(wanted: Iterable[str]) -> tuple[str, ...]:
    """Names and patterns of licenses, in one spelling and order.

    Raises:
        ValueError: One is neither a name of SPDX nor a pattern.

    """
    return tuple(sorted({_checked(" ".join(one.split())) for one in wanted}))


def _checked(one: str) -> str:
    if any(sign in one for sign in "*?") and re.fullmatch(r"[\w.*?+-]+", one):
        return one
    name = spdx(one)
    if name is None or (name.startswith(_REF) and not one.startswith(_REF)):
        hint = did_you_mean(one, _USUAL) or "Names are at spdx.org/licenses, patterns have a *, as CC-BY-*."
        stated = f" A license that sources state in other words is {name}." if name else ""
        raise ValueError(f"{one!r} is no license that SPDX knows. {hint}{stated}")
    return name


def _of_deed(plain: str) -> str | None:
    found = _DEED.match(plain)
    if found is None:
        return None
    kind, terms, version, port = found.groups()
    base = _DEEDS.get(terms) if kind == "publicdomain" else f"CC-{terms}"
    # Ports have names of their own, and not all of them are in SPDX.
    port = None if port in (None, "deed", "legalcode") else port
    if base is None:
        return None
    name = "-".join(filter(None, (base, version, port))).upper()
    return _canonical(name) or _REF + name


def _of_words(plain: str) -> str | None:
    words = re.sub(r"[\s_/-]+", "-", plain.removeprefix("the "))
    if _ZERO.match(words):
        return "CC0-1.0"
    found = _WORDS.match(words)
    if found is None or found["version"] is None:
        return None
    given = found["terms"]
    terms = [name for name, ways in _TERMS if re.search(rf"-(?:{ways})(?=-|$)", given)]
    return _canonical("-".join(["CC-BY", *terms, found["version"]]))


def _canonical(text: str) -> str | None:
    """As SPDX writes it, also where "License" stands behind the name; None where it is none of SPDX's."""
    for name in dict.fromkeys((text, re.sub(r"(?i) licen[sc]e$", "", text))):
        try:
            return str(canonicalize_license_expression(name))
        except InvalidLicenseExpression:
            continue
    return None


def _reference(text: str) -> str:
    """A name for what SPDX has none for; one text has one name."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")
    if len(name) > _LONGEST or not text.isascii():
        name = f"{name[:_LONGEST]}-{digests.of_value(text.casefold(), 8)}".lstrip("-")
    return _REF + name


def _joined(tokens: list[str], wanted: Sequence[str], signs: Sequence[str]) -> bool:
    """Reads an expression from the front of its tokens, whose parts the first sign joins and the others bind closer."""
    if not signs:
        return _one(tokens, wanted)
    sign, *closer = signs
    fits = [_joined(tokens, wanted, closer)]
    while tokens and tokens[0] == sign:
        tokens.pop(0)
        fits.append(_joined(tokens, wanted, closer))
    return _SIGNS[sign](fits)


def _one(tokens: list[str], wanted: Sequence[str]) -> bool:
    name = tokens.pop(0)
    if name == "(":
        fit = _joined(tokens, wanted, tuple(_SIGNS))
        tokens.pop(0)
        return fit
    if tokens and tokens[0] == "WITH":
        name = " ".join([name, tokens.pop(0), tokens.pop(0)])
    return any(fnmatchcase(name.casefold(), pattern) for pattern in wanted)
