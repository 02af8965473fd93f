"""The secure sum beside plain MPI calls on buffers of the same size.

``mpirun -n 17 python benchmarks/secure_sum.py [--d 10000 1000000] [--ring-degree 4] [--repeats 30] [--json]``

On the path are encoding, upload, unmasking and publication; the comparison of digests afterwards is timed
apart, and so are the masks, which a thread expands while the agents train. Here a pause of `--training-ms`
stands for the training: the thread's time that falls into it is hidden. A time is the longest of all ranks.
"""

import argparse

from fdrl_mpi.process import prepare_process

COLUMNS = {
    "agents": "agents",
    "d": "d",
    "on_path_ms": "on path ms",
    "spread": "+-",
    "raw_allreduce_ms": "raw Allreduce ms",
    "allreduce_ms": "allreduce ms",
    "ratio_to_allreduce": "/ allreduce",
    "over_allreduce_ms": "over it ms",
    "compare_ms": "compare ms",
    "mask_ms": "masks ms",
    "hidden_share": "hidden",
    "bytes_ratio": "bytes / plain",
    "bytes_over": "bytes over",
}


def main() -> None:
    """Measure on all ranks, report on rank 0."""
    prepare_process()
    arguments = _arguments()

    from mpi4py import MPI
    from reporting import machine, print_json, print_report
    from secure_exchanges import measure

    from fdrl_mpi.comm.world import open_world

    world = open_world()
    rows = [
        measure(world, d, arguments.ring_degree, arguments.training_ms, arguments.repeats)
        for d in arguments.d
    ]
    if world.is_root:
        title = f"Secure sum on {world.size} ranks, {arguments.ring_degree} neighbours on each side"
        print_report(title, rows, COLUMNS, f"medians of {arguments.repeats}; +-: half the quartile range")
        if arguments.json:
            print_json(machine(MPI.Get_library_version().partition(",")[0]), rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--d", nargs="+", type=int, default=(10_000, 1_000_000), help="parameters of the model"
    )
    parser.add_argument("--ring-degree", type=int, default=4, help="h")
    parser.add_argument("--training-ms", type=float, default=200.0, help="pause between exchanges")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="print a last line of JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
