"""The terms and licence pages of each layout: text of our own in the tone of such pages, none of the real sites'.

A crawler keeps these pages beside the clips, so they have to be long enough to be worth keeping and differ by site.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Notice:
    """A heading and its paragraphs, plain text."""

    heading: str
    paragraphs: tuple[str, ...]


SOUNDBIBLE_ABOUT = Notice(
    "About",
    (
        "This is a stand-in for a sound site, for tests and demonstrations. It lists short recordings that their "
        "makers have put under a free licence, and adds a few each week.",
        "The licence stands beside each sound. Attribution means: name the maker and link to the sound's page. Public "
        "Domain means: no condition. Where the page says Personal Use Only, do not publish what you make of it.",
        "Whoever finds a sound here that should not be here writes to us; it goes first and is looked into after.",
    ),
)
SOUNDBIBLE_TERMS = Notice(
    "Terms",
    (
        "By taking a file from this stand-in you accept the licence that its page shows on the day you take it.",
        "Programs are welcome if they obey robots.txt, ask for one thing at a time and say in their name whom to write "
        "to. Please keep the name of the maker with every copy.",
        "Files come as they are, without warranty of any kind. These terms may change; the date below tells when.",
        "In force since 1 March.",
    ),
)
BIGSOUNDBANK_LICENSES = Notice(
    "Licenses",
    (
        "Unless its page says otherwise, each sound of this stand-in is given to the public domain under CC0 1.0: copy "
        "it, change it, sell what you make with it. No name has to be given, though a line is a kindness.",
        "A few sounds came with conditions of their own. Their pages name them in place of CC0, and they go first.",
        "The pages themselves, their texts and pictures are not under CC0.",
    ),
)
BIGSOUNDBANK_RIGHTS = Notice(
    "Rights",
    (
        "Sounds taken before the change of licence were free and royalty-free, and remain so for whoever has them.",
        "Do not put the whole collection up elsewhere as your own, and do not link to the files themselves: link to "
        "the page, which stays while files move.",
        "A sound in which you can be heard against your will is removed at a word from you.",
    ),
)
PEBBLES_TERMS = Notice(
    "House rules",
    (
        "Pebble Sounds is a made-up site. Pick up what you like, a few at a time; the shore is small.",
        "Each pebble keeps the licence that its finder gave it. Leave the label on.",
        "Robots may walk here if they read the sign at the gate (robots.txt) and do not run.",
    ),
)


def notice_body(notice: Notice) -> str:
    """Return a notice as a fragment: a heading and paragraphs."""
    paragraphs = "\n".join(f"<p>{escape(text)}</p>" for text in notice.paragraphs)
    return f"<h2>{escape(notice.heading)}</h2>\n{paragraphs}"


def notice_page(notice: Notice) -> str:
    """Return a notice as a page of its own."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(notice.heading)}</title></head><body><main>\n{notice_body(notice)}\n</main></body></html>\n"
    )
