"""Whether a site has changed its pages: the selectors that hit now, beside those that gave the stored records.

Every field comes from a chain of selectors, best first. When a site is redesigned, the first of them stops hitting:
then a field's share jumps from one selector to another, or to "none". Pure: counts in, warnings out.
"""

from __future__ import annotations

from collections.abc import Mapping

ENOUGH = 20
"""Pages, now and before: fewer say nothing of a site."""
JUMP = 0.25
"""Share of the pages that moves from one selector to another; over two catalogues of one layout it is under 0.05."""
EMPTY = 0.5
"""Share of the pages without a title, a description or a licence that is too large for a first crawl."""
EXPECTED = ("title", "description", "license")
"""Fields that most pages of every known site have."""


def drift(now: Mapping[str, Mapping[str, int]], before: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return one warning for each field whose selectors have changed.

    Args:
        now: Field -> selector -> pages of this run.
        before: The same of the clips that earlier runs stored; {} if there are none.
    """
    warnings = []
    for name, counts in sorted(now.items()):
        pages, known = sum(counts.values()), sum(before.get(name, {}).values())
        if pages < ENOUGH:
            continue
        none = counts.get("none", 0) / pages
        shares = (
            {selector: count / known for selector, count in before.get(name, {}).items()} if known >= ENOUGH else {}
        )
        moved = {selector: (share, counts.get(selector, 0) / pages) for selector, share in shares.items()}
        fell = [(old - new, selector) for selector, (old, new) in moved.items() if old - new > JUMP]
        if fell:
            _, selector = max(fell)
            old, new = moved[selector]
            words = f"{selector!r} gave {old:.0%} of the stored clips and {new:.0%} of this run's {pages} pages"
            warnings.append(f"{name}: {words}; has the site changed its layout?")
        elif shares and none - shares.get("none", 0.0) > JUMP:
            words = (
                f"none on {none:.0%} of this run's {pages} pages and on {shares.get('none', 0.0):.0%} of those before"
            )
            warnings.append(f"{name}: {words}; has the site changed its layout?")
        elif not shares and none > EMPTY and name in EXPECTED:
            warnings.append(f"{name}: none on {none:.0%} of {pages} pages; has the site changed its layout?")
    return warnings
