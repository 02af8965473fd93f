"""How finished or running runs are SHOWN. The only folder that imports matplotlib; it writes to no run's record."""
