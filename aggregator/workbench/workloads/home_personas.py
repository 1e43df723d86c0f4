"""The eight ways of speaking in the `home` workload. Data and one function; it knows nothing of intents."""

from collections.abc import Mapping
from dataclasses import dataclass

from aggregator.workbench.workloads.dice import Dice


@dataclass(frozen=True, slots=True)
class Persona:
    """``leads`` and ``tails`` are added to half of the requests, ``swaps`` exchange words (an empty one drops the word), and
    ``typo_share`` of the words are mistyped.
    """

    name: str
    leads: tuple[str, ...]
    tails: tuple[str, ...]
    swaps: Mapping[str, str]
    typo_share: float

    def speak(self, request: str, dice: Dice) -> str:
        """``request`` in this persona's words. Swaps are habits, not laws: each happens four times in five."""
        words = [self.swaps.get(word, word) if dice.chance(0.8) else word for word in request.split()]
        words = [dice.typo(word) if dice.chance(self.typo_share) else word for word in " ".join(words).split()]
        lead = dice.pick(self.leads) if self.leads and dice.chance(0.5) else ""
        tail = dice.pick(self.tails) if self.tails and dice.chance(0.5) else ""
        return " ".join(part for part in (lead, *words, tail) if part)


def _swaps(pairs: str) -> dict[str, str]:
    """The word pairs of ``"word=other, word=other"``."""
    split = (pair.strip().split("=") for pair in pairs.split(","))
    return {word: " ".join(other.split()) for word, other in split}


PERSONAS = (
    Persona(
        "plain",
        (),
        (),
        {},
        0.01,
    ),
    Persona(
        "polite",
        ("could you please", "would you please", "please", "would you mind", "if it is no trouble"),
        ("please", "thank you", "if you do not mind", "thanks a lot", "when you have a moment"),
        _swaps("kill=stop, cannot=am unable to"),
        0.01,
    ),
    Persona(
        "terse",
        (),
        ("now",),
        _swaps("the=, a=, please=, some=, i=, is=, me=, it=, to="),
        0.03,
    ),
    Persona(
        "chatty",
        ("hey so", "listen", "okay so i was thinking", "you know what", "so", "oh by the way", "right then"),
        ("if that makes sense", "or so", "i think", "like yesterday", "will you", "there is a dear", "you know"),
        _swaps("very=really really, too=way too, a=like a"),
        0.02,
    ),
    Persona(
        "scots",
        ("aye", "right", "och", "here"),
        ("pal", "eh", "ta", "the now", "will ye"),
        _swaps(
            """
            you=ye, my=ma, do=dae, not=no, cannot=cannae, can't=cannae, don't=dinnae, little=wee, small=wee,
            outside=ootside, down=doon, out=oot, house=hoose, off=aff, living=front, vacuum=hoover,
            color=colour, i'm=ah'm, shopping=messages, cold=baltic
            """
        ),
        0.02,
    ),
    Persona(
        "teen",
        ("yo", "bruh", "ok", "hey"),
        ("pls", "rn", "thx", "lol", "asap"),
        _swaps(
            """
            you=u, are=r, for=4, to=2, please=pls, the=da, tomorrow=tmrw, tonight=2nite, i=i, it's=its,
            can't=cant, don't=dont, what's=whats, minutes=mins, and=n
            """
        ),
        0.06,
    ),
    Persona(
        "learner",
        ("hello", "i want you", "sorry", "please you"),
        ("please", "yes", "is possible", "thank you very much"),
        _swaps(
            """
            the=, turn=make, switch=make, is=, it's=it is, too=too much, does=do, a=one, show=give,
            anymore=more
            """
        ),
        0.04,
    ),
    Persona(
        "hurried",
        ("quick", "um", "uh", "wait", "and"),
        ("quick", "i have to run", "no wait yes that", "now now", "hurry"),
        _swaps("please=, i=i i, the=the um"),
        0.08,
    ),
)
