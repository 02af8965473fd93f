"""HDF5 files are made in memory; what touches the disk is one plain write."""

from collections.abc import Callable
from uuid import uuid4

import h5py

_BLOCK_BYTES = 2**20


def hdf5_image(fill: Callable[[h5py.File], None]) -> bytes:
    """Give the bytes of the HDF5 file that `fill` fills.

    Notes
    -----
    A disk that is full in the middle of an HDF5 call leaves the library with a file it can neither write nor
    close, and the process ends with a segmentation fault (h5py 3.16, HDF5 2.0). A plain write raises OSError.
    The price is memory: twice the size of the file while it is made.
    """
    name = uuid4().hex  # HDF5 refuses a name that another thread has open, even one that is on no disk
    with h5py.File(name, "w", driver="core", backing_store=False, block_size=_BLOCK_BYTES) as file:
        fill(file)
        file.flush()
        return bytes(file.id.get_file_image())
