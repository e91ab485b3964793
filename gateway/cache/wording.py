"""What an embedding cannot tell: whether two questions that are near each other ask for the same.

Sentence embeddings hardly see a changed number, a negation, or two words in each other's place; a look at the words
does. `make bench-semantic-cache` measures both (docs/decisions/010-semantic-cache.md).
"""

import re
from collections import Counter
from difflib import SequenceMatcher

_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)*")

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve twenty hundred thousand million half third "
    "quarter double twice"
)
NUMBERS = frozenset(_NUMBERS.split())
_TELLING = (
    # Negations, also in German, French and Spanish
    "not no never none nor neither nothing nobody nowhere without except nicht kein keine keinen nie ohne pas jamais "
    "sans nunca sin "
    # Measures
    "second minute hour day night week month year decade century daily weekly monthly yearly annual annually hourly "
    "inch foot feet yard mile metre meter centimetre centimeter millimetre millimeter kilometre kilometer km cm mm "
    "gram kilogram kg ounce pound ton tonne litre liter gallon pint cup celsius fahrenheit kelvin percent "
    "bit byte kilobyte megabyte gigabyte terabyte kb mb gb tb dollar euro cent yen "
    # The calendar, and what comes when
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
    "september october november december spring summer autumn fall winter morning noon afternoon evening midnight "
    "yesterday today tonight tomorrow now before after during until since last next previous first "
    "was were did had will ago later earlier "
    # Directions and amounts
    "on off up down left right in out inside outside above below over under more less most least only all always "
    "min max minimum maximum"
)
TELLING = frozenset(_TELLING.split())
"""Words that change a question where they come or go, although an embedding hardly moves."""
ASKING = frozenset({"who", "whom", "whose", "when", "where", "why"})
_SAYING_LITTLE = (
    "a an the please hi hello hey thanks thank and or so this that these those there some any "
    "i me my we us our you your it its s re ve ll d m "
    "am is are be been being do does done can could might would should shall must have has "
    "what which who whom whose how when where why tell explain show describe give mean calculate compute "
    "of at for with by from to as about into get way reason kind"
)
SAYING_LITTLE = frozenset(_SAYING_LITTLE.split())
"""English words that come and go when a question is put in other words."""


def may_share_an_answer(one: str, other: str) -> bool:
    """Whether nothing in the words of two similar questions forbids that one answer serves both.

    What forbids it: other numbers, or other words of those that tell (`TELLING`); one asking who and the other when;
    words in another order; words that only one of them has, where the other has none of its own; a word and its
    opposite by a prefix; or words exchanged in an otherwise equal sentence. It errs on the side of a miss, also in
    languages whose words it does not know. Costs some 50 microseconds.
    """
    ones, others = sorted((_words(one), _words(other)))  # the same whichever was asked first
    if _numbers(ones) != _numbers(others) or _telling(ones) != _telling(others):
        return False
    asked, also_asked = ASKING.intersection(ones), ASKING.intersection(others)
    if asked and also_asked and asked != also_asked:
        return False
    matching = SequenceMatcher(None, ones, others, autojunk=False)
    changes = [change[1:] for change in matching.get_opcodes() if change[0] != "equal"]
    left = {word for begin, end, _, _ in changes for word in ones[begin:end]} - SAYING_LITTLE
    right = {word for _, _, begin, end in changes for word in others[begin:end]} - SAYING_LITTLE
    if left & right or any(_opposite(a, b) for a in left for b in right):
        return False
    if not left or not right:
        return not left and not right
    return any(end - begin != other_end - other_begin for begin, end, other_begin, other_end in changes)


def _words(text: str) -> list[str]:
    """In small letters, without the plural's s, and with short forms in full."""
    text = text.lower().replace("\u2019", "'").replace("can't", "can not").replace("cannot", "can not")
    text = text.replace("won't", "will not").replace("n't", " not")
    return [_singular(part) for word in _WORD.findall(text) for part in word.split("'")]


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith("ss") or word in SAYING_LITTLE or word in TELLING:
        return word
    return word[:-1]


def _opposite(one: str, other: str) -> bool:
    """As legal and illegal, stop and nonstop; also as file and profile, which is a miss for nothing."""
    shorter, longer = sorted((one, other), key=len)
    return len(shorter) > 3 and longer.endswith(shorter)


def _numbers(words: list[str]) -> list[str]:
    return [word for word in words if word in NUMBERS or word[0].isdigit()]


def _telling(words: list[str]) -> Counter[str]:
    return Counter(word for word in words if word in TELLING)
