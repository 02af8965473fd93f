"""Make identities for the parties of a secure sum: private keys, and the roster of the public ones."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fdrl_mpi.process import REFUSED

NAME = "roster.txt"


def main(argv: Sequence[str] | None = None) -> int:
    """Make keys for the parties that the command line names; return the exit status."""
    options = _parse(argv)
    from fdrl_mpi.privacy.keys import write_identity

    parties = options.parties or [0, *range(1, options.agents + 1, options.agents_per_rank)]
    folder: Path = options.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{party} {write_identity(folder / f'party_{party}.pem')}\n" for party in parties]
        with (folder / NAME).open("a", encoding="utf-8") as roster:
            roster.writelines(lines)
    except OSError as error:
        print(
            f"fdrl_mpi.roster: {error}\n    keys are never overwritten: choose another folder",
            file=sys.stderr,
        )
        return REFUSED
    print(
        f"{len(parties)} keys and {folder / NAME}; train with\n"
        f"    --comm.collective secure_ring --comm.secure.identity roster \\\n"
        f"    --comm.secure.roster {folder / NAME} --comm.secure.private_key '{folder}/party_{{party}}.pem'\n"
        "Every host needs the roster and the private keys of its own parties, and no others."
    )
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fdrl_mpi.roster",
        description=__doc__,
        epilog="A party is the root (0) or a rank with agents (the id of its first agent). Whoever runs a "
        "host may make the keys of its parties there (--parties) and send their lines to the others.",
    )
    parser.add_argument("folder", type=Path, help="where the keys go; made if it does not exist")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--agents", type=_positive, metavar="K", help="keys for the root and K agents")
    which.add_argument("--parties", type=int, nargs="+", metavar="ID", help="keys for these parties only")
    parser.add_argument("--agents-per-rank", type=_positive, default=1, metavar="A", help="default 1")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
