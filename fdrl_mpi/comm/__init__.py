"""How bytes MOVE between ranks. The only folder that imports mpi4py."""
