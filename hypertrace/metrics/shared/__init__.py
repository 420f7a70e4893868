"""Storage that the processes of one program share: a run directory with a mapped file for each."""
