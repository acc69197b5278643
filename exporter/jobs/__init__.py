"""Score files of pairs in parts, on this machine or a cluster, so that a job that was killed goes on."""
