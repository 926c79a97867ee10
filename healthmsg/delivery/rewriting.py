"""How a service may keep a text, or a file's name, in another form than it was sent.

A text is compared in the form that all services leave alone: composed letters (NFC), and white space folded.
Whatever else differs is explained by the fewest of the rewritings below, or not at all.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from html import unescape
from typing import Final
from unicodedata import category, normalize
from urllib.parse import unquote

File = tuple[str | None, int | None]
"""A file's name, and its size in bytes, each `None` where it is not known."""


class Rewriting(Enum):
    """One way of keeping something in another form; the first ones change the most."""

    CUT = "cut at a length"
    SYMBOLS = "emoji and rare letters replaced"
    TAGS = "what looks like HTML tags taken out"
    LINKS = "links wrapped"
    ENTITIES = "characters written as HTML entities"
    COMPATIBILITY = "letters replaced by plain ones (NFKC)"
    INVISIBLE = "invisible characters taken out"
    PUNCTUATION = "quotation marks and dashes straightened"
    FILE_NAMES = "file names cleaned"
    FILE_SIZES = "files of another size"


_OF_FILES: Final = frozenset({Rewriting.FILE_NAMES, Rewriting.FILE_SIZES})
_OF_TEXTS: Final = tuple(kind for kind in Rewriting if kind not in _OF_FILES)

_TAG: Final = re.compile(r"<[^<>]*>")
_LINK: Final = re.compile(r"https?://[^\s<>\"'()\[\]]+", re.IGNORECASE)
# As Markdown, or in angle brackets.
_WRAPPED: Final = re.compile(
    r"\[([^\[\]]*)\]\(\s*https?://[^\s()]*\s*\)|<(https?://[^<>\s]*)>", re.IGNORECASE
)
_INVISIBLE: Final = frozenset({"Cf"})
_SELECTORS: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_STRAIGHT: Final = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4`", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        "\u2026": "...",
    }
)
_SHORT_CODE: Final = re.compile(r":[\w+-]+:")
_REPLACEMENT: Final = re.compile("[?_\ufffd\u25a1]")
_LAST_OF_BMP: Final = 0xFFFF
_ELLIPSIS: Final = re.compile(r"(\u2026|\.{3})$")
# Characters. Less than that is no beginning by which a text could be recognised.
_SHORTEST_CUT: Final = 10
_SHORT: Final = 20
# A text as short as this is kept as others are; a longer one may be kept as something else.
_SHORT_TEXT: Final = 200
_WORD: Final = re.compile(r"\w+")
_LEAST_IN_COMMON: Final = 1 / 3


class Rewritings:
    """What is known of how one service keeps things, learnt from messages whose content is known."""

    def __init__(self) -> None:
        self._known: set[Rewriting] = set()
        self._lengths: set[int] = set()
        self._longest = 0
        """Characters of the longest known text that came back recognisable."""
        self.is_recognisable: bool = False
        """Whether a known message came back as it was sent, or in a form that can be explained."""
        self.is_strange: bool = False
        """Whether a known message came back in a form that cannot be explained."""

    @property
    def known(self) -> frozenset[Rewriting]:
        """Those that were seen."""
        return frozenset(self._known)

    def learn(self, sent: str, kept: str, files_sent: Sequence[File], files_kept: Sequence[File]) -> bool:
        """Learn from a known message; return whether what was kept can be explained."""
        found = explain(sent, kept)
        of_files = explain_files(files_sent, files_kept)
        if found is None or of_files is None:
            self.is_strange = True
            return False
        self.is_recognisable = True
        self._longest = max(self._longest, len(sent))
        self._known |= found | of_files
        if Rewriting.CUT in found:
            self._lengths.add(len(kept))
        return True

    def learn_nothing_but(self, *, is_same: bool) -> None:
        """Learn from a known message of which only a hash of the text is left."""
        if is_same:
            self.is_recognisable = True
        else:
            self.is_strange = True

    def is_surely(self, sent: str, kept: str, files_sent: Sequence[File], files_kept: Sequence[File]) -> bool:
        """Return whether this is what was sent, in a form in which this service is known to keep things."""
        found, of_files = explain(sent, kept), explain_files(files_sent, files_kept)
        if found is None or of_files is None or not (found | of_files) <= self._known:
            return False
        if Rewriting.CUT in found and len(kept) not in self._lengths:
            return False
        # Emoji alone leave nothing to recognise them by.
        return Rewriting.SYMBOLS not in found or _WORD.search(_in_form(kept, found)) is not None

    def may_be(self, sent: str, kept: str, files_sent: Sequence[File], files_kept: Sequence[File]) -> bool:
        """Return whether this may be what was sent, in whatever form.

        It is another message only where known ones are recognisable, of about this length too, and where two
        texts that are long enough to tell have hardly a word in common, or one has files and the other none.
        """
        if self.is_strange or not self.is_recognisable or len(sent) > max(_SHORT_TEXT, 2 * self._longest):
            return True
        if explain(sent, kept) is not None and (bool(files_sent) == bool(files_kept)):
            return True
        if files_sent and files_kept:
            return len(files_sent) == len(files_kept)
        if bool(files_sent) != bool(files_kept) and not kept.strip():
            return bool(files_sent)
        return _have_words_in_common(sent, kept)


def explain(sent: str, kept: str) -> frozenset[Rewriting] | None:
    """Return the fewest rewritings that make one text of the other; `None` if none do."""
    if _tidy(sent) == _tidy(kept):
        return frozenset()
    # Plain letters leave no symbol to be replaced, and a link may have been cut off.
    without: tuple[set[Rewriting], ...] = (set(), {Rewriting.COMPATIBILITY}, {Rewriting.LINKS})
    tried = ({*_OF_TEXTS} - left_out for left_out in (*without, {Rewriting.COMPATIBILITY, Rewriting.LINKS}))
    needed = next((kinds for kinds in tried if _is_explained(sent, kept, kinds)), None)
    if needed is None:
        return None
    for kind in _OF_TEXTS:
        if _is_explained(sent, kept, needed - {kind}):
            needed.discard(kind)
    return frozenset(needed)


def explain_files(sent: Sequence[File], kept: Sequence[File]) -> frozenset[Rewriting] | None:
    """Return the fewest rewritings that make one message's files of the other's; `None` if none do."""
    for kinds in ((), (Rewriting.FILE_NAMES,), (Rewriting.FILE_SIZES,), tuple(_OF_FILES)):
        if _are_the_files(sent, kept, frozenset(kinds)):
            return frozenset(kinds)
    return None


def _tidy(text: str) -> str:
    return " ".join(normalize("NFC", text).split())


def _is_explained(sent: str, kept: str, kinds: set[Rewriting]) -> bool:
    ours, theirs = _in_form(sent, kinds), _in_form(kept, kinds)
    if Rewriting.LINKS in kinds and not _keeps_links(sent, kept, kinds):
        return False
    if ours == theirs:
        return True
    if Rewriting.CUT in kinds:
        bare = _ELLIPSIS.sub("", theirs).rstrip()
        if len(bare) >= _SHORTEST_CUT and ours.startswith(bare):
            return True
    return Rewriting.SYMBOLS in kinds and _is_with_symbols_replaced(
        ours, theirs, may_be_cut=Rewriting.CUT in kinds
    )


_FORMS: Final[tuple[tuple[Rewriting, Callable[[str], str]], ...]] = (
    (Rewriting.LINKS, lambda text: _LINK.sub("\ufffc", _WRAPPED.sub(r"\1\2", text))),
    (Rewriting.ENTITIES, lambda text: unescape(unescape(text))),
    (Rewriting.TAGS, lambda text: _TAG.sub("", text)),
    (Rewriting.COMPATIBILITY, lambda text: normalize("NFKC", text)),
    (Rewriting.INVISIBLE, lambda text: _SELECTORS.sub("", "".join(filter(_is_visible, text)))),
    (Rewriting.PUNCTUATION, lambda text: text.translate(_STRAIGHT)),
)


def _in_form(text: str, kinds: "set[Rewriting] | frozenset[Rewriting]") -> str:
    text = normalize("NFC", text)
    for kind, form in _FORMS:
        if kind in kinds:
            text = form(text)
    return _tidy(text)


def _is_visible(letter: str) -> bool:
    return category(letter) not in _INVISIBLE


def _keeps_links(sent: str, kept: str, kinds: set[Rewriting]) -> bool:
    """Return whether each link that was sent is still to be found in what was kept."""
    theirs = unquote(unescape(kept) if Rewriting.ENTITIES in kinds else kept)
    return all(unquote(link).rstrip(".,;:!?") in theirs for link in _LINK.findall(sent))


def _is_with_symbols_replaced(ours: str, theirs: str, *, may_be_cut: bool) -> bool:
    """Compare what is left without symbols, and without what they may have been replaced by."""
    symbols = Counter(filter(_is_symbol, ours))
    if not symbols or not Counter(filter(_is_symbol, theirs)) <= symbols:  # with other symbols it is another
        return False
    if _without_symbols(ours) == _without_symbols(theirs):
        return True
    # MySQL's old UTF-8 cuts a text at the first letter that it has no room for.
    first = next(number for number, letter in enumerate(ours) if _is_symbol(letter))
    return may_be_cut and len(theirs) >= _SHORTEST_CUT and theirs == ours[:first].rstrip()


def _without_symbols(text: str) -> str:
    bare = _REPLACEMENT.sub(" ", _SHORT_CODE.sub(" ", text))
    return _tidy("".join(" " if _is_symbol(letter) else letter for letter in bare))


def _is_symbol(letter: str) -> bool:
    if letter in "\ufffd\u25a1":  # which stand for one that was replaced
        return False
    return ord(letter) > _LAST_OF_BMP or category(letter) in {"So", "Sk"} or letter in "\ufe0f\u200d\u20e3"


def _have_words_in_common(sent: str, kept: str) -> bool:
    ours, theirs = (_in_form(text, set(_OF_TEXTS)).casefold() for text in (sent, kept))
    if len(ours) < _SHORT:
        return True
    words, others = Counter(_WORD.findall(ours)), Counter(_WORD.findall(theirs))
    fewer = min(words.total(), others.total())
    return fewer == 0 or (words & others).total() >= fewer * _LEAST_IN_COMMON


def _are_the_files(sent: Sequence[File], kept: Sequence[File], kinds: frozenset[Rewriting]) -> bool:
    left = list(kept)
    if len(sent) != len(kept):
        return False
    for file in sent:
        same = next((other for other in left if _is_the_file(file, other, kinds)), None)
        if same is None:
            return False
        left.remove(same)
    return True


def _is_the_file(sent: File, kept: File, kinds: frozenset[Rewriting]) -> bool:
    (name, size), (kept_name, kept_size) = sent, kept
    has_size = size is None or kept_size is None or size == kept_size or Rewriting.FILE_SIZES in kinds
    if name is None or kept_name is None:
        return has_size
    form = _plain_name if Rewriting.FILE_NAMES in kinds else _tidy_name
    return has_size and form(name) == form(kept_name)


def _tidy_name(name: str) -> str:
    return normalize("NFC", name)


def _plain_name(name: str) -> str:
    """Leave letters and digits without marks, and the extension's dot."""
    letters = normalize("NFKD", unescape(unquote(name))).casefold()
    stem, _, extension = letters.rpartition(".")
    kept = ["".join(filter(str.isalnum, part)) for part in (stem, extension)]
    return ".".join(kept)
