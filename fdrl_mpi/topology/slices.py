"""Which part of a vector each of several ranks works on."""

from itertools import pairwise


def cut(length: int, parts: int, block: int) -> list[slice]:
    """Cut `length` values into contiguous slices of whole blocks, as even as that allows.

    The last block may be shorter, and slices may be empty where there are fewer blocks than parts.
    """
    blocks = -(-length // block)
    bounds = [min(part * blocks // parts * block, length) for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]
