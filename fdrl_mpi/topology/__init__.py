"""WHO is next to whom: index arithmetic and matrices. numpy only, no MPI."""
