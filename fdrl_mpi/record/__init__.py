"""What is WRITTEN: metrics, checkpoints, provenance. The only folder that imports h5py."""
