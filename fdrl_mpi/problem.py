"""What is wrong with a configuration, said so that it can be put right."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

UNLIKE = "it is unlike all that are known."


@dataclass(frozen=True)
class Problem:
    """One refusal: what clashes, why it cannot work, and what to do instead."""

    clash: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.clash}: {self.reason}\n    {self.remedy}"


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """Suggest the known word nearest to a mistyped one, in any case; without a near one, say `otherwise`."""
    folded = {name.casefold(): name for name in known}
    nearest = get_close_matches(word.casefold(), list(folded), n=1)
    return f"did you mean {folded[nearest[0]]}?" if nearest else otherwise
