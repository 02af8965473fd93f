"""What an update may REVEAL: fixed point, masks, keys and authenticated channels. cryptography, no MPI."""
