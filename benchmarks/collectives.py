"""One exchange of a model through each collective, beside the plain MPI calls on buffers of the same size.

``mpirun -n 17 python benchmarks/collectives.py [--collectives node tree] [--d 10000 1000000] [--repeats 30]``

Exchange, aggregation and publication are timed with the contribution already encoded, and again with its
encoding; a time is the longest of all ranks after a barrier. What is compared takes turns. The share of
bandwidth is what the exchange must move at least, one read of every update and one write of the model, over
the time, against what all ranks together copy in the same run.
"""

import argparse

from fdrl_mpi.process import prepare_process

COLLECTIVES = ("node", "tree", "allreduce", "gather")
DECADES = (10**3, 10**4, 10**5, 10**6, 10**7)
LARGE, FEWER = 10**7, 3
"""From this size on, repeats are divided by this."""

COLUMNS = {
    "collective": "collective",
    "agents": "agents",
    "d": "d",
    "median_ms": "median ms",
    "spread": "+-",
    "with_encode_ms": "with encode ms",
    "raw_allreduce_ms": "raw Allreduce ms",
    "raw_gather_bcast_ms": "raw Gather+Bcast ms",
    "ratio_to_raw_allreduce": "/ Allreduce",
    "ratio_to_raw_gather_bcast": "/ Gather+Bcast",
    "share_of_bandwidth": "of bandwidth",
    "root_messages": "root's messages",
}


def main() -> None:
    """Measure on all ranks, report on rank 0."""
    prepare_process()
    arguments = _arguments()

    from exchanges import measure
    from mpi4py import MPI
    from reporting import machine, print_json, print_report

    from fdrl_mpi.comm.world import open_world

    world = open_world()
    rows = [
        row
        for d in arguments.d
        for row in measure(world, arguments.collectives, d, _repeats(arguments.repeats, d), arguments.warmup)
    ]
    if world.is_root:
        facts = machine(MPI.Get_library_version().partition(",")[0])
        repeats = (
            f"medians of {arguments.repeats}, from d = {LARGE} on a {FEWER}rd; +-: half the quartile range"
        )
        print_report(f"Collectives on {world.size} ranks", rows, COLUMNS, repeats)
        if arguments.json:
            print_json(facts, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--collectives", nargs="+", default=COLLECTIVES, help="which of the program's")
    parser.add_argument("--d", nargs="+", type=int, default=DECADES, help="parameters of the model")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


def _repeats(wanted: int, d: int) -> int:
    return wanted // FEWER if d >= LARGE else wanted


if __name__ == "__main__":
    main()
